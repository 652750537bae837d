"""Logs: a constant message and structured fields; ids, never addresses or bodies.

structlog and the standard library end in one handler, so uvicorn, arq and botocore write the same lines as we do. The last
step before a line is written takes out whatever looks like an e-mail address, in fields, messages and tracebacks alike: an
exception of a library quotes what it was given, and nobody can promise that it was an id.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from .masking import masked
from .printable import escaped, escaped_text
from .settings import LogFormat

REDACTED = "[address]"

# These say too much below WARNING: arq logs the arguments of a job, botocore whole requests with their signatures.
QUIET = ("arq", "aioboto3", "aiobotocore", "boto3", "botocore", "urllib3", "aiohttp", "asyncio", "httpx", "httpcore")
# These say with a traceback what went wrong with credentials, each time that they are asked for. Our own line says it in words.
TRACING = ("aiobotocore.credentials", "aiobotocore.tokens", "botocore.credentials", "botocore.tokens")
# These bring handlers of their own, which would write a line a second time in another form.
WITH_HANDLERS = ("uvicorn", "uvicorn.error", "uvicorn.access", "arq")

# A local part may be quoted and hold spaces, or an apostrophe; "%40" is "@" in a URL; a domain may be an IP in brackets.
# Too much goes rather than too little, and the password of redis://:password@host goes the same way.
_LOCAL = r"""(?:"[^"\n]{1,64}"|(?:[^\s<>"'(),;:\[\]{}\\]|(?<=\w)'){1,320})"""
_DOMAIN = r"""(?:\[[^\s\]]+\]|[^\s<>"'(),;:=\[\]{}\\]+)"""
_ADDRESS = re.compile(rf"{_LOCAL}(?:@|%40){_DOMAIN}")
_MANY_LINES = ("exception", "stack")  # written by us from a traceback; everything else is one line


def _without_traceback(record: logging.LogRecord) -> bool:
    """A job of ours never raises, so what arq logs of one is its own: the job's time was over, or two workers had the same. The
    line names it, the ledger sees to its chunk, and the way through arq's code helps nobody."""
    if record.exc_info:
        record.exc_info, record.levelno, record.levelname = None, logging.WARNING, "WARNING"
    return True


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, so that a second call of `configure_logging` finds and replaces it."""


def configure_logging(format: LogFormat | None, level: str, *, stream: TextIO | None = None) -> None:
    """Sends every log line of the process to `stream` (standard error), as JSON lines or for a human's eyes.

    `format` None: console on a terminal, else JSON; colours on a terminal only. `level` is a name such as INFO. Can be
    called again, for example after a library has installed handlers of its own.
    """
    stream = stream or sys.stderr
    terminal = stream.isatty()
    if format is None:
        format = LogFormat.CONSOLE if terminal else LogFormat.JSON
    handler = _Handler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_COMMON,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, redact, _renderer(format, terminal)],
        )
    )
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if type(other) not in (logging.StreamHandler, _Handler)] + [handler]
    root.setLevel(level)
    for name in QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in TRACING:
        logging.getLogger(name).setLevel(logging.ERROR)
    for name in WITH_HANDLERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
    logging.getLogger("arq.worker").addFilter(_without_traceback)  # the same one again is not added
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *_COMMON, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


# Tracebacks become text here: the console's own rendering of one would show local variables.
_COMMON: list[Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.format_exc_info,
]


def _renderer(format: LogFormat, colours: bool) -> Processor:
    if format is LogFormat.JSON:
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Leaves plain data without addresses and, tracebacks apart, without line breaks, so that a text cannot forge a line."""
    return {_line(name): _text(value) if name in _MANY_LINES else _plain(value) for name, value in event.items()}


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {_line(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item) for item in value]
    if isinstance(value, (bytes, bytearray)):
        value = value.decode(errors="replace")
    return _line(value if isinstance(value, str) else str(value))


def _line(text: str) -> str:
    return escaped(_without_addresses(text))


def _text(text: str) -> str:
    """Of several lines, as a traceback is."""
    return escaped_text(_without_addresses(text))


def _without_addresses(text: str) -> str:
    text = masked(text)
    if "@" not in text and "%40" not in text:
        return text
    return _ADDRESS.sub(REDACTED, text)
