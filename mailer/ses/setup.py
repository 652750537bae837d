"""What is wrong with AWS's set-up of this process: files and programs that credentials and certificates come from.

botocore passes on what the operating system says, and that names neither the setting nor what to do.
"""

from __future__ import annotations

import os
import shlex
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError, CredentialRetrievalError
from botocore.session import get_session

from .failures import BEFORE_REQUEST

PROCESS = "custom-process"  # botocore's name for `credential_process`
_TOKEN, _CONTAINER_TOKEN = "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"
_RUN = "run the line credential_process of the profile by hand, as the user of this process; it has to print JSON"


class Trouble(NamedTuple):
    """Two parts of a sentence."""

    why: str
    do: str


def trouble_of(error: BaseException) -> Trouble | None:
    """None where the set-up is not what is wrong. `error`: of a credential provider, of the operating system, or of OpenSSL."""
    if isinstance(error, CredentialRetrievalError):
        return _of_process(error) if error.kwargs.get("provider") == PROCESS else None
    if isinstance(error, OSError) and error.filename is not None:
        return _of_file(os.fsdecode(error.filename), error.strerror or type(error).__name__)
    if isinstance(error, FileNotFoundError | IsADirectoryError | PermissionError | ssl.SSLError):
        return _of_bundle()  # what loads certificates does not say from where
    return None


def _of_process(error: CredentialRetrievalError) -> Trouble:
    said = " ".join(str(error.kwargs.get("error_msg") or "").split())
    return Trouble(f"the credential process of AWS's configuration file failed: {said or 'it said nothing'}", _RUN)


def _of_file(path: str, why: str) -> Trouble:
    if path == os.environ.get(_TOKEN):
        do = "mount the service account's token there, or unset it together with AWS_ROLE_ARN"
        return Trouble(f"{_TOKEN} names {path}, which cannot be read: {why}", do)
    if path == os.environ.get(_CONTAINER_TOKEN):
        return Trouble(f"{_CONTAINER_TOKEN} names {path}, which cannot be read: {why}", "mount the token there, or unset it")
    if path == _program():
        return Trouble(f"the credential process {path} of AWS's configuration file cannot be run: {why}", _RUN)
    if (bundle := _of_bundle()) is not None:
        return bundle
    return Trouble(
        f"{path}, which AWS's credentials come from, cannot be read: {why}", "see the profile in AWS's configuration file"
    )


def _program() -> str:
    with suppress(BotoCoreError, ValueError, IndexError):
        return str(shlex.split(str(_session().get_scoped_config().get("credential_process", "")))[0])
    return ""


def _of_bundle() -> Trouble | None:
    """The file of certificates, where it is one that cannot be used."""
    try:
        path = str(_session().get_config_variable("ca_bundle") or "")
    except BotoCoreError:
        return None
    if not path:
        return None
    whose = "AWS_CA_BUNDLE" if os.environ.get("AWS_CA_BUNDLE") == path else "ca_bundle of the profile"
    do = f"set {whose} to a file of certificates in PEM"
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        return Trouble(f"{whose} names {path}, in which there is no certificate", do)
    except OSError as error:
        return Trouble(f"{whose} names {path}, which cannot be read: {error.strerror or type(error).__name__}", do)
    return None


def _session() -> Any:
    return get_session()


_TOLD = (ClientError, *(kind for kind, _, _ in BEFORE_REQUEST))  # what says by itself that it is of credentials


@contextmanager
def getting_credentials() -> Iterator[None]:
    """Around what finds or renews credentials, where whatever goes wrong is a matter of theirs.

    Raises CredentialRetrievalError in place of what says nothing of that.
    """
    try:
        yield
    except _TOLD:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        process = bool(_program())
        why = f"{type(error).__name__}: {error}"
        if process and isinstance(error, ValueError | LookupError | TypeError | AttributeError):
            why = "it does not print the JSON that such a process has to print"
        raise CredentialRetrievalError(provider=PROCESS if process else "AWS's configuration", error_msg=why) from error
