"""Every Redis key of the service, in one place. A namespace keeps two installations on one Redis apart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..ids import container_of
from ..message.email import Lane


@dataclass(frozen=True, slots=True)
class Keys:
    namespace: str

    # ---- indexes -------------------------------------------------------------------------------
    @property
    def due(self) -> str:
        """Sorted set: every chunk that is owed work → the time (ms) at which the reaper has to look at it."""
        return f"{self.namespace}:due"

    @property
    def doubt(self) -> str:
        """Sorted set: every chunk that has `unknown` recipients → since when (ms) the first of them waits for an event."""
        return f"{self.namespace}:doubt"

    @property
    def active(self) -> str:
        """Sorted set: campaigns that are not over → the time (ms) they were made."""
        return f"{self.namespace}:active"

    @property
    def campaigns(self) -> str:
        """Sorted set: all campaigns that Redis still knows → the time (ms) they were made."""
        return f"{self.namespace}:campaigns"

    @property
    def over(self) -> str:
        """Sorted set: chunks that are over and not archived yet → since when (ms)."""
        return f"{self.namespace}:over"

    @property
    def mark(self) -> str:
        """String: the write behind which WAITAOF waits, and by which is seen whether Redis can store something."""
        return f"{self.namespace}:mark"

    @property
    def trial(self) -> str:
        """Not there but for a moment: what `mailer doctor` tries commands on."""
        return f"{self.namespace}:trial"

    def queue(self, lane: Lane) -> str:
        """Sorted set of arq's: the wake-ups of a lane."""
        return f"{self.namespace}:queue:{lane.value}"

    def of_arq(self, key: str) -> str:
        """arq's own: `arq:job:…`, `arq:in-progress:…`, `arq:retry:…` are names that all its installations share."""
        return f"{self.namespace}:{key}"

    # ---- what becomes of recipients ------------------------------------------------------------
    @property
    def outcomes(self) -> str:
        """Stream: an entry for each change of a recipient's state. Capped by number and by age; made to be read with consumer
        groups."""
        return f"{self.namespace}:outcomes"

    @property
    def inbox(self) -> str:
        """Stream: what SNS brought over HTTP, believed and not yet applied; the workers are its consumer group."""
        return f"{self.namespace}:events"

    @property
    def sent_ids(self) -> str:
        """The index of message ids: `<this><day>` names the day's chunks, `<this><day>:…` has entries (`sent_ids.py`)."""
        return f"{self.namespace}:ids:"

    @property
    def untagged(self) -> str:
        """Hash: when (ms) the last notification without tags came, and since when campaigns are in the index because of them."""
        return f"{self.namespace}:events:untagged"

    @property
    def unnoted(self) -> str:
        """Sorted set: campaigns whose message ids are still to be put into the index → their next chunk."""
        return f"{self.namespace}:events:unnoted"

    @property
    def unnoted_turn(self) -> str:
        """String: which process is doing that."""
        return f"{self.namespace}:events:unnoted:turn"

    @property
    def unmatched_turn(self) -> str:
        """String: which process is looking for their messages again."""
        return f"{self.namespace}:events:unmatched:turn"

    @property
    def unmatched_all(self) -> str:
        """String, there for a while after all of them were looked at."""
        return f"{self.namespace}:events:unmatched:all"

    @property
    def unmatched(self) -> str:
        """Sorted set: notifications whose message is not known yet → since when (ms) they wait."""
        return f"{self.namespace}:events:unmatched"

    def certificate(self, url: str) -> str:
        """String: a certificate of SNS that was believed, with its issuers, until it ends."""
        return f"{self.namespace}:events:certificate:{hashlib.sha256(url.encode()).hexdigest()[:32]}"

    def notified(self, id: str) -> str:
        """String, there for as long as SNS could repeat a message, by its id: which call has queued it."""
        return f"{self.namespace}:events:seen:{id}"

    # ---- the workers ---------------------------------------------------------------------------
    @property
    def workers(self) -> str:
        """Sorted set: the workers that are alive → their last heartbeat (ms)."""
        return f"{self.namespace}:workers"

    def worker(self, owner: str) -> str:
        """String, there for a while after a heartbeat: what the worker said of itself (`workers.py`)."""
        return f"{self.namespace}:worker:{owner}"

    @property
    def told(self) -> str:
        """Hash: what the workers' log has said last, of each campaign that goes on and of each account (`worker/telling.py`)."""
        return f"{self.namespace}:told"

    @property
    def telling(self) -> str:
        """String: which process says it."""
        return f"{self.namespace}:told:turn"

    # ---- a campaign or message (a container) ---------------------------------------------------
    def container(self, id: str) -> str:
        """Hash: spec, state, reason, counters."""
        return f"{self.namespace}:c:{id}"

    def window(self, id: str) -> str:
        """Set: the numbers of the chunks that are queued or being worked on."""
        return f"{self.namespace}:w:{id}"

    def tokens(self, id: str) -> str:
        """String: four bytes a chunk, which tell its archive from an older one of it; zeros: it has not been archived."""
        return f"{self.namespace}:a:{id}"

    def content(self, digest: str) -> str:
        """String: a template with all that it includes, an attachment or a MIME message; named by its digest: stored once."""
        return f"{self.namespace}:content:{digest}"

    def idempotency(self, key: str) -> str:
        """Hash: what a caller's idempotency key stands for, for a day. The key itself may hold anything: its digest names it."""
        return f"{self.namespace}:once:{hashlib.sha256(key.encode()).hexdigest()[:40]}"

    # ---- a chunk -------------------------------------------------------------------------------
    def chunk(self, chunk: str) -> str:
        """Hash: lease, fence and the number of recipients still open."""
        return f"{self.namespace}:k:{chunk}"

    def payload(self, chunk: str) -> str:
        """String: the recipients and their data, compressed."""
        return f"{self.namespace}:p:{chunk}"

    def records(self, chunk: str) -> str:
        """String: a record of fixed length for each recipient (`records.py`)."""
        return f"{self.namespace}:s:{chunk}"

    def message_ids(self, chunk: str) -> str:
        """String: SES's message id of each recipient, 27 bytes each."""
        return f"{self.namespace}:i:{chunk}"

    def details(self, chunk: str) -> str:
        """Hash: position → reason, and `i<position>` → a message id that does not have SES's usual form."""
        return f"{self.namespace}:r:{chunk}"

    # ---- an account ----------------------------------------------------------------------------
    def account(self, account: str) -> str:
        """Hash: what GetAccount said last, and what was admitted since."""
        return f"{self.namespace}:account:{account}"

    def limiter(self, account: str) -> str:
        """Hash: the recipients that have a place in the rate, its pace, whose turn it is, and what SES's refusals taught."""
        return f"{self.namespace}:limiter:{account}"

    def places(self, account: str) -> str:
        """Sorted set: places in the rate, `recipients|since (us)|how long (us)|number` → when they are free again (us)."""
        return f"{self.namespace}:places:{account}"

    def urgent(self, account: str) -> str:
        """Sorted set: who waits for places with a turn, as admit.lua writes it → until when that holds (us)."""
        return f"{self.namespace}:urgent:{account}"

    def waiting(self, account: str) -> str:
        """Sorted set: campaigns that wait for a place → until when that holds (us)."""
        return f"{self.namespace}:waiting:{account}"

    def share(self, account: str) -> str:
        """Sorted set: campaigns → what they had of the rate, in recipients of virtual time."""
        return f"{self.namespace}:share:{account}"

    def pace(self, container: str) -> str:
        """String: when a campaign with a rate of its own may have its next place (us)."""
        return f"{self.namespace}:pace:{container}"

    def held(self, account: str, sender: str) -> str:
        """Hash: SES refuses what this sender sends, though the account may send: why, and when the next one is tried (ms)."""
        return f"{self.namespace}:held:{account}:{sender}"

    def alike(self, container: str) -> str:
        """Hash: whom of a campaign SES refused lately, and how; the same, where it is held for that. See alike.lua."""
        return f"{self.namespace}:alike:{container}"

    def history(self, account: str) -> str:
        """Hash: tenth of an hour since 1970 → recipients that SES accepted in it; of the last day."""
        return f"{self.namespace}:history:{account}"

    def calls(self, account: str) -> str:
        """Hash: the limiter of SendBulkEmail calls, and what has been learnt of SES's own limit."""
        return f"{self.namespace}:calls:{account}"

    # ---- suppression ---------------------------------------------------------------------------
    # A table is 65,536 small hashes `<table>:<4 hex digits>`: address in lower case → its entries. Hashes that stay small are
    # stored without pointers, at some 60 bytes an entry; what is in them is the business of `suppressed.py`.
    @property
    def suppressed_bits(self) -> str:
        """String: a bit for each address that is, or was, in any of the tables. Two addresses may share one."""
        return f"{self.namespace}:suppressed:bits"

    @property
    def suppressed_own(self) -> str:
        """Table of our own entries; the key itself is a hash with their number."""
        return f"{self.namespace}:suppressed:own"

    def suppressed_ses(self, account: str) -> str:
        """Table of SES's entries, as last read; the key itself is a hash that says how far and when they were read."""
        return f"{self.namespace}:suppressed:{account}"

    def suppressed_turn(self, account: str) -> str:
        """String: which process is reading SES's list."""
        return f"{self.namespace}:suppressed:{account}:turn"

    def suppressed_removed(self, account: str) -> str:
        """Hash: address → when (ms) it was removed here. A page of SES's list that is older must not bring it back."""
        return f"{self.namespace}:suppressed:{account}:removed"

    def soft_bounces(self, address: str) -> str:
        """Set: digests of the messages to an address that bounced softly since the last one that was delivered."""
        return f"{self.namespace}:soft:{hashlib.sha256(address.lower().encode(errors='surrogatepass')).hexdigest()[:32]}"

    @property
    def owed(self) -> str:
        """Sorted set: what SES's list is still to be told (`worker/suppression_outbox.py`) → when (ms) it is tried, 0 is now."""
        return f"{self.namespace}:owed"

    @property
    def owed_turn(self) -> str:
        """String: which process is telling it."""
        return f"{self.namespace}:owed:turn"

    # ---- what the gates know of an account's identities and configuration sets --------------------
    def identities(self, account: str) -> str:
        """Hash: identity in lower case → what SES said of it (`identities.py`); `listed_at` → when all were listed (ms)."""
        return f"{self.namespace}:identities:{account}"

    def configuration_set(self, account: str, name: str) -> str:
        """Hash: what SES said of a configuration set."""
        return f"{self.namespace}:set:{account}:{name}"

    def in_use(self, account: str) -> str:
        """Sorted set: `i` and an identity, or `s` and a configuration set, that something was sent by → when (ms)."""
        return f"{self.namespace}:in-use:{account}"

    def asking(self, account: str) -> str:
        """String, there for a moment after SES was asked for an identity or a configuration set."""
        return f"{self.namespace}:asking:{account}"

    def listing(self, account: str) -> str:
        """String, there while the identities are being listed because of a chunk, and a few seconds longer."""
        return f"{self.namespace}:listing:{account}"

    def listing_trouble(self, account: str) -> str:
        """Hash: why the identities could not be listed, and when (ms)."""
        return f"{self.namespace}:listing-trouble:{account}"

    def identities_turn(self, account: str) -> str:
        """String: one process has refreshed all of this lately."""
        return f"{self.namespace}:identities-turn:{account}"


def chunk_keys(k: Keys, chunk: str) -> list[str]:
    """The keys that most scripts take, in the order of their `KEYS`."""
    container = container_of(chunk)
    return [
        k.container(container),
        k.chunk(chunk),
        k.records(chunk),
        k.window(container),
        k.details(chunk),
        k.message_ids(chunk),
        k.payload(chunk),
        k.due,
        k.doubt,
        k.outcomes,
    ]
