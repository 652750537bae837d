"""Sessions of aioboto3: the process's own credentials, or those of a role that they may take."""

from __future__ import annotations

import os
from typing import Any

import aioboto3
from aiobotocore.credentials import AioAssumeRoleCredentialFetcher, AioDeferredRefreshableCredentials
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import NoRegionError

ROLE_SESSION_NAME = "mailer"  # what CloudTrail shows


class _Role:
    """botocore's component that finds credentials: those of a role, asked of STS anew ten minutes before they end."""

    def __init__(self, base: AioSession, role_arn: str, external_id: str | None) -> None:
        self._base = base
        self._role_arn = role_arn
        self._extra = {"RoleSessionName": ROLE_SESSION_NAME, **({"ExternalId": external_id} if external_id else {})}

    async def load_credentials(self) -> Any:
        fetcher = AioAssumeRoleCredentialFetcher(
            self._base.create_client, await self._base.get_credentials(), self._role_arn, extra_args=self._extra, cache={}
        )
        return AioDeferredRefreshableCredentials(method="assume-role", refresh_using=fetcher.fetch_credentials)


def open_session(region: str | None, role_arn: str | None = None, external_id: str | None = None) -> aioboto3.Session:
    """Nothing is asked of AWS before the first call. Raises NoRegionError where AWS_DEFAULT_REGION is empty, which botocore takes
    for a region."""
    # botocore itself reads AWS_DEFAULT_REGION only; every other AWS SDK, and this service, reads AWS_REGION first.
    region = region or os.environ.get("AWS_REGION") or None
    if region is None and os.environ.get("AWS_DEFAULT_REGION") == "":
        raise NoRegionError
    if role_arn is None:
        return aioboto3.Session(region_name=region)
    base, session = get_session(), get_session()
    if region:
        base.set_config_variable("region", region)
    session.register_component("credential_provider", _Role(base, role_arn, external_id))
    return aioboto3.Session(region_name=region, botocore_session=session)
