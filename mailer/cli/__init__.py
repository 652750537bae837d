"""The command line: `mailer`."""

from __future__ import annotations

import os
import sys

from redis.exceptions import RedisError

from ..errors import MailerError
from .output import err


def main() -> None:
    """Exit status: 0 done, 1 it could not be done (one line says why and what to do), 2 the words were wrong."""
    from .app import app

    try:
        app(prog_name="mailer")
    except MailerError as error:
        fail(str(error))
    except RedisError as error:
        from ..queue import explain_redis

        fail(f"Redis stopped answering: {explain_redis(error)}. Nothing is lost; run the command again when it is back.")
    except BrokenPipeError:
        # The reader of our output (`| head`) has enough. Python would complain again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)


def fail(text: str) -> None:
    err.print("mailer:", text, style="red" if err.is_terminal else None, markup=False, soft_wrap=True)
    sys.exit(1)
