"""What there is on this machine: settings, packages, senders, templates, the key, the store."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from secrets import token_hex

from ..errors import MailerError, TemplateError
from ..message.sender import Sender
from ..program import other_worker
from ..settings import Settings, config_path
from ..storage import open_objects
from ..templates import Compiled, TemplateFolder
from ..unsubscribe.tokens import has_token
from .finding import Finding, ok, told, warning, wrong

PYTHONS = ((3, 11), (3, 13))  # as in pyproject.toml, which a test compares; so with the packages
PACKAGES = {"arq": "0.28.", "redis": "5.", "aioboto3": "15."}
SHOWN = 5  # names; of more their number


def settings_in_use(settings: Settings) -> Finding:
    set_here = sorted(name for name in os.environ if name.startswith("MAILER_") and name != "MAILER_CONFIG" and os.environ[name])
    file = f"{path.resolve()}" if (path := config_path()) else "no mailer.toml here"
    return ok("settings", f"{file}; {', '.join(set_here) or 'no MAILER_… variable'} from the environment")


def versions() -> Finding:
    name, found = "versions", dict[str, str]()
    for package in ("mailer", *PACKAGES):
        with suppress(PackageNotFoundError):  # mailer itself, where it was not installed
            found[package] = version(package)
    text = f"Python {platform.python_version()}, " + ", ".join(f"{package} {number}" for package, number in found.items())
    if not PYTHONS[0] <= sys.version_info[:2] <= PYTHONS[1]:
        return warning(name, f"{text}: this Python has not been tried", "use Python 3.11, 3.12 or 3.13")
    others = [f"{package} {number}" for package, number in found.items() if not number.startswith(PACKAGES.get(package, ""))]
    if others:
        return warning(name, f"{text}: not tried with {', '.join(others)}", "install the versions of requirements.lock")
    return ok(name, text)


def worker_program() -> list[Finding]:
    """Nothing, unless another program would be taken for the worker."""
    other = other_worker()
    if other is None:
        return []
    what = f"{other} is not the mailer's: `python -m worker` and arq would run it here"
    return [warning("worker program", what, "start the mailer's with `mailer worker`, which runs its own everywhere")]


def some(names: list[str]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def templates(settings: Settings) -> list[Finding]:
    check, folder = "templates", TemplateFolder(settings.templates_dir)
    names, broken = folder.names(), list[Finding]()
    for name in names:
        try:
            Compiled(folder.read(name))
        except TemplateError as error:
            broken.append(told(check, error))
    if broken:
        return broken[:SHOWN]
    if not names:
        where = settings.templates_dir.resolve()
        found = f"there is none in {where}" if where.is_dir() else f"there is no folder {where}"
        do = "make NAME/subject.txt and NAME/body.html in it, or set MAILER_TEMPLATES_DIR; --subject and --text need none"
        return [warning(check, found, do)]
    return [ok(check, f"{len(names)} of {settings.templates_dir} compile: {some(names)}")]


def secret_key(settings: Settings, senders: Mapping[str, Sender]) -> Finding:
    name = "unsubscribe key"
    needing = [sender for sender, one in senders.items() if one.list_unsubscribe and _token(one)]
    if settings.secret_keys:
        return ok(name, "MAILER_SECRET_KEY is set")
    if not needing:
        return ok(name, "MAILER_SECRET_KEY is not set, and no sender here needs it")
    found = f"MAILER_SECRET_KEY is not set, and the list_unsubscribe of {some(needing)} signs its tokens with it"
    return wrong(name, found, "set it to a long random text, the same for every process")


def _token(sender: Sender) -> bool:
    ways = sender.list_unsubscribe
    return ways is not None and (has_token(ways.url) or has_token(ways.mailto))


async def store(settings: Settings) -> Finding:
    """That it can be written to is tried with an object."""
    name, objects = "store", open_objects(settings)
    if objects is None:
        return ok(name, "redis: lists stay in Redis")
    probe = f"doctor/{token_hex(8)}"
    try:
        await objects.check()
        await objects.put({probe: b"mailer doctor"})
        try:
            if await objects.get(probe) is None:
                return wrong(name, f"{objects.url} does not have what was just written there", "see that all of it is one store")
        finally:
            await objects.delete([probe])
    except MailerError as error:
        return told(name, error)
    finally:
        await objects.close()
    return ok(
        name, f"{objects.url} can be written, read and deleted from; workers and applications need the same MAILER_STORE_URL"
    )
