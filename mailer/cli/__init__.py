"""The command line: `mailer`.

Exit status: 0 done, 1 it could not be done (one line says why and what to do), 2 invalid usage, 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys

from ..interrupt import STATUS, leave_at_once


def main() -> None:
    """Whatever happens, the user reads one sentence. Logs and tracebacks are for MAILER_LOG_LEVEL=DEBUG."""
    leave_at_once()  # before anything else is imported
    debug = os.environ.get("MAILER_LOG_LEVEL") == "DEBUG"  # now: `demo` and `dev` take the caller's settings away
    try:
        _run(debug)
    except KeyboardInterrupt:
        sys.exit(STATUS)
    except Exception as error:
        if debug:
            import traceback

            traceback.print_exc()
        _fail(error)


def _run(debug: bool) -> None:
    import logging
    from io import TextIOWrapper

    if sys.stdout is None:  # closed by the caller (`>&-`)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # until the end
    from .app import app
    from .streams import Plain, ReaderGone

    if isinstance(sys.stdout, TextIOWrapper):  # another program gets UTF-8, a terminal what it can show
        sys.stdout.reconfigure(encoding=None if sys.stdout.isatty() else "utf-8", errors="backslashreplace")
    if debug:
        from ..log import configure_logging

        configure_logging(None, "DEBUG")
    else:
        logging.disable()  # what is to be said, the commands say themselves
    if sys.stderr is not None:
        sys.stderr = Plain(sys.stderr)
    try:
        app(prog_name="mailer")
    except ReaderGone:
        _close_output()


def _fail(error: Exception) -> None:
    from ..printable import one_line
    from .output import err
    from .parsers import WrongWords

    err.print(f"mailer: {one_line(_explain(error))}", style="red", markup=False, soft_wrap=True)
    _close_output()
    sys.exit(2 if isinstance(error, WrongWords) else 1)


def _close_output() -> None:
    """Python flushes once more at its exit, and would complain where that cannot be done."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # it is closed
        return


def _explain(error: Exception) -> str:
    from redis.exceptions import RedisError

    from ..errors import InvalidEmail, MailerError
    from ..queue import advise_redis, explain_redis, is_refused
    from .typed import as_typed

    if isinstance(error, InvalidEmail):
        return as_typed(error)
    if isinstance(error, MailerError):
        return str(error)
    if isinstance(error, RedisError) and is_refused(error):
        return (
            f"Redis does not do this: {explain_redis(error)}. Nothing is sent of a message or campaign that was not stored "
            f"whole; {advise_redis(error)}. Then run the command again."
        )
    if isinstance(error, RedisError):  # of a command that has stored nothing, or changes nothing when it is run twice
        return f"Redis stopped answering: {explain_redis(error)}. Nothing is lost; run the command again when it is back."
    if isinstance(error, OSError) and error.strerror:
        return f"the system says: {error.strerror}" + (f" ({error.filename})" if error.filename else "") + "."
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"this is a mistake in the program, not in what you typed: {what}. MAILER_LOG_LEVEL=DEBUG shows where."
