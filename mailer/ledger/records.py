"""The two strings of fixed-length entries that a chunk keeps in Redis: its records and its message ids."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from ..message.email import Mode, Outcome

RECORD = struct.Struct(">ccBHI")  # state, mode, failures, attempts, updated_at (seconds): 9 bytes, as in lua/lib/common.lua
MESSAGE_ID_BYTES = 27
_NO_ID = bytes(MESSAGE_ID_BYTES)
MAX_ATTEMPTS = 0xFFFF
UNUSABLE = 0xFF  # in the place of failures: the row was rejected when it was read, and cannot be sent to


LETTERS: Mapping[Outcome, str] = MappingProxyType(  # of the states, as scripts know them
    {
        Outcome.QUEUED: "q",
        Outcome.CLAIMED: "c",
        Outcome.SENT: "s",
        Outcome.DELIVERED: "d",
        Outcome.BOUNCED: "b",
        Outcome.COMPLAINED: "m",
        Outcome.SUPPRESSED: "p",
        Outcome.REJECTED: "r",
        Outcome.FAILED: "f",
        Outcome.DUPLICATE: "u",
        Outcome.EXPIRED: "x",
        Outcome.CANCELLED: "n",
        Outcome.UNKNOWN: "k",
    }
)
OUTCOMES: Mapping[str, Outcome] = MappingProxyType({letter: outcome for outcome, letter in LETTERS.items()})
STATE_BYTES: Mapping[Outcome, bytes] = MappingProxyType({outcome: letter.encode() for outcome, letter in LETTERS.items()})
_OF_BYTES = {byte: outcome for outcome, byte in STATE_BYTES.items()}
MODE_BYTES = {Mode.AUTO: b"-", Mode.SIMPLE: b"s", Mode.RAW: b"r", Mode.TEMPLATE: b"t", Mode.BULK: b"b"}
_MODES = {byte: mode for mode, byte in MODE_BYTES.items()}


class Record(NamedTuple):
    """What the ledger knows of one recipient. `attempts` counts calls to SES; `failures` those that count as failed."""

    outcome: Outcome
    mode: Mode = Mode.AUTO  # the SES call that carried it last; AUTO: none so far
    failures: int = 0
    attempts: int = 0
    updated_at: int = 0  # seconds since the epoch, Redis's clock

    def pack(self) -> bytes:
        return RECORD.pack(STATE_BYTES[self.outcome], MODE_BYTES[self.mode], self.failures, self.attempts, self.updated_at)


def unpack_records(packed: bytes) -> Iterator[Record]:
    for state, mode, failures, attempts, updated_at in RECORD.iter_unpack(packed):
        yield Record(_OF_BYTES[state], _MODES[mode], failures, attempts, updated_at)


def pack_message_id(text: str) -> bytes | None:
    """27 bytes, or None where the id does not have SES's usual form (another stand-in's, a future one)."""
    if len(text) != 60:
        return None
    try:
        packed = bytes.fromhex(text.replace("-", ""))
    except ValueError:
        return None
    return packed if len(packed) == MESSAGE_ID_BYTES and unpack_message_id(packed) == text else None


def unpack_message_id(packed: bytes) -> str | None:
    if packed in (b"", _NO_ID):
        return None
    text = packed.hex()
    return "-".join((text[:16], text[16:24], text[24:28], text[28:32], text[32:36], text[36:48], text[48:]))
