"""AWS's set-up of this process: what is wrong is named, with what to do, and nothing is said of a message that was never sent."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path

import pytest

from mailer import Mailer, Settings
from mailer.doctor import Patient, examine
from mailer.errors import ConfigError
from mailer.log import configure_logging
from mailer.ses import gateway
from mailer.ses.gateway import Gateway
from mailer.ses.refusals import Kind, classify, classify_question
from mailer.settings import LogFormat
from mailer.simulator import Simulator, SimulatorConfig
from worker.runtime import open_runtime

from ..conftest import running_worker, simulated_ses
from ..front import in_front_of, refuses
from ..unit.test_ses_refusals import SELF_SIGNED, answer
from .test_delivery import accepted, finished, letter, parked_with, rows

ROLE = "arn:aws:iam::123456789012:role/mailer"
RUN = "run the line credential_process of the profile by hand"
# Variables, what AWS's configuration file has, what the reason says. {folder} stands for a folder that is there.
WRONG: dict[str, tuple[Mapping[str, str], str, tuple[str, ...]]] = {
    "no token of the service account": (
        {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}/token"},
        "",
        ("AWS_WEB_IDENTITY_TOKEN_FILE names {folder}/token", "No such file", "mount the service account's token there"),
    ),
    "a folder for the token": (
        {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "{folder}"},
        "",
        ("AWS_WEB_IDENTITY_TOKEN_FILE names {folder}", "Is a directory"),
    ),
    "no token of the container": (
        {"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1:9/", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "{folder}/token"},
        "",
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names {folder}/token", "No such file"),
    ),
    "no credential process": (
        {},
        "credential_process = {folder}/creds --json",
        ("the credential process {folder}/creds of AWS's configuration file cannot be run: No such file", RUN),
    ),
    "a credential process that fails": (
        {},
        "credential_process = sh -c 'echo not today >&2; exit 3'",
        ("the credential process of AWS's configuration file failed: not today", RUN),
    ),
    "a credential process that says nothing": ({}, "credential_process = false", ("it said nothing", RUN)),
    "a credential process that prints a text": ({}, "credential_process = echo hello", ("does not print the JSON", RUN)),
    "a credential process that prints a list": ({}, "credential_process = echo []", ("does not print the JSON", RUN)),
    "no certificates": (
        {"AWS_CA_BUNDLE": "{folder}/ca.pem", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        "",
        ("AWS_CA_BUNDLE names {folder}/ca.pem, which cannot be read: No such file", "set AWS_CA_BUNDLE to a file"),
    ),
    "a folder for certificates": (
        {"AWS_CA_BUNDLE": "{folder}", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        "",
        ("AWS_CA_BUNDLE names {folder}, which cannot be read: Is a directory",),
    ),
    "a file without certificates": (
        {"AWS_CA_BUNDLE": "{folder}/config", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        "",
        ("AWS_CA_BUNDLE names {folder}/config, in which there is no certificate",),
    ),
    "no certificates, by the profile": (
        {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        "ca_bundle = {folder}/ca.pem",
        ("ca_bundle of the profile names {folder}/ca.pem", "set ca_bundle of the profile to a file"),
    ),
}


@pytest.fixture
def set_up(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The environment of one of WRONG; what its reason has to say."""
    variables, config, words = WRONG[request.param]
    (tmp_path / "config").write_text(f"[default]\n{config.format(folder=tmp_path)}\n" if config else "")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_CONFIG_FILE": "{folder}/config",
        "AWS_ENDPOINT_URL_SESV2": "https://ses.example",
        **variables,
    }.items():
        monkeypatch.setenv(name, value.format(folder=tmp_path))
    return [one.format(folder=tmp_path) for one in words]


async def failures() -> list[Exception]:
    """What opening a way, asking for credentials, asking a question and sending raise."""
    found = list[Exception]()
    try:
        async with Gateway() as way:
            for call in (way.credentials, way.account):
                try:
                    await call()
                except Exception as error:
                    found.append(error)
            answers, _ = await way.send("SendEmail", {"Destination": {}}, b"{}")
            refusal = answers[0].refusal
            assert refusal is not None
            assert refusal.kind is Kind.CREDENTIALS
            assert "SES may have accepted it" not in refusal.reason
    except Exception as error:
        found.append(error)
    return found


@pytest.mark.parametrize("set_up", WRONG, indirect=True)
async def test_what_is_wrong_is_named_with_what_to_do(set_up: list[str]) -> None:
    found = await failures()
    assert found
    for error in found:
        for refusal in (classify_question(error), classify(error)):
            assert refusal.kind is Kind.CREDENTIALS
            assert all(words in refusal.reason for words in set_up), refusal.reason
            assert "SES may have accepted it" not in refusal.reason


@pytest.mark.parametrize("set_up", ["no credential process", "a credential process that fails"], indirect=True)
async def test_a_worker_does_not_start_without_its_credential_process_and_says_why(settings: Settings, set_up: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        await open_runtime(settings)
    assert all(words in str(caught.value) for words in set_up)


@pytest.mark.parametrize("set_up", ["no token of the service account"], indirect=True)
async def test_a_worker_waits_for_its_token_with_the_reason_and_without_tracebacks(
    settings: Settings, mailer: Mailer, set_up: list[str]
) -> None:
    stream = io.StringIO()
    configure_logging(LogFormat.JSON, "DEBUG", stream=stream)
    async with running_worker(settings) as runtime:
        id = await mailer.start_campaign(letter(), rows(3))
        status = await parked_with(mailer, id, set_up[0])
        assert (status.counts, all(words in status.reason for words in set_up)) == ({"queued": 3}, True)
        assert set_up[0] in await runtime.accounts.why_stale(runtime.own.account)
        found = {one.check: one for one in await examine(Patient(settings=settings, senders={}))}
        assert (set_up[0] in found["aws credentials"].found, set_up[2] in found["aws credentials"].do) == (True, True)
    assert "Traceback" not in stream.getvalue()
    logging.getLogger().handlers.clear()


async def test_certificates_that_come_later_are_used_and_nobody_is_in_doubt(
    settings: Settings, mailer: Mailer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bundle = tmp_path / "ca.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    monkeypatch.setattr("worker.settle.PARK_S", 0.3)
    monkeypatch.setitem(gateway._ASKING, "retries", {"total_max_attempts": 1, "mode": "standard"})
    async with simulated_ses(monkeypatch, SimulatorConfig()) as ses, running_worker(settings):
        ses.suppressed_reasons = ()  # its list, which is read again only after a while, does not matter then
        id = await mailer.start_campaign(letter(), rows(3))
        status = await parked_with(mailer, id, f"AWS_CA_BUNDLE names {bundle}")
        assert "SES may have accepted it" not in status.reason
        bundle.write_text(SELF_SIGNED)
        assert (await finished(mailer, id, 40)).counts == {"sent": 3}
        assert set(accepted(ses).values()) == {1}


# ---- what AWS says of credentials ----------------------------------------------------------------------------------------

SIGNED_UP = "the account is not signed up for SES in this region"
SAID = [
    ("InvalidSignatureException", 403, "Credential should be scoped to a valid region, not 'us-east-1'. ", "AWS_REGION and AWS_"),
    ("SignatureDoesNotMatch", 403, "Credential should be scoped to a valid region, not 'eu-west-1'.", "AWS_REGION and AWS_"),
    ("InvalidSignatureException", 403, "Credential should be scoped to correct service: 'ses'.", "AWS_REGION and AWS_"),
    ("BrandNewException", 403, "Credential should be scoped to a valid region, not 'x'.", "AWS_REGION and AWS_"),
    ("SubscriptionRequiredException", 403, "The AWS Access Key Id needs a subscription for the service", SIGNED_UP),
    ("OptInRequired", 403, "The AWS Access Key Id needs a subscription for the service", SIGNED_UP),
    (
        "InvalidSignatureException",
        403,
        "Signature expired: 20261123T2200Z is now earlier than 20261123T2245Z",
        "set this machine's clock",
    ),
    (
        "InvalidSignatureException",
        403,
        "Signature not yet current: 20261123T2300Z is still later than",
        "set this machine's clock",
    ),
    (
        "RequestTimeTooSkewed",
        403,
        "The difference between the request time and the current time is too large",
        "set this machine's",
    ),
    ("UnrecognizedClientException", 403, "The security token included in the request is invalid.", "valid AWS credentials"),
]


@pytest.mark.parametrize(("code", "status", "text", "do"), SAID)
async def test_a_refusal_of_the_signature_says_what_is_to_be_corrected(code: str, status: int, text: str, do: str) -> None:
    for operation, refusal in (
        ("SendEmail", classify(answer(code, status, text))),
        ("GetAccount", classify_question(answer(code, status, text, "GetAccount"), action="ses:GetAccount")),
    ):
        assert (refusal.kind, do in refusal.do) == (Kind.CREDENTIALS, True), (operation, refusal)


async def test_an_account_that_is_not_signed_up_is_waited_for_with_the_reason(
    settings: Settings, mailer: Mailer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with in_front_of(monkeypatch, Simulator(SimulatorConfig())) as front:
        front.answers = lambda _: refuses("SubscriptionRequiredException", "The AWS Access Key Id needs a subscription", 403)
        async with running_worker(settings):
            id = await mailer.start_campaign(letter(), rows(3))
            status = await parked_with(mailer, id, SIGNED_UP)
            assert status.counts == {"queued": 3}
