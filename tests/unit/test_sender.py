"""Sender profiles: an identity that another account owns, a role to send under, and where a recipient unsubscribes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mailer.errors import ConfigError, InvalidEmail
from mailer.intake.spec_builder import SpecBuilder
from mailer.message.email import Email
from mailer.message.sender import ListUnsubscribe, Sender, misfit
from mailer.settings import Settings, load_settings


def arn(identity: str, region: str = "eu-west-1") -> str:
    return f"arn:aws:ses:{region}:123456789012:identity/{identity}"


def refused(**fields: Any) -> str:
    with pytest.raises(InvalidEmail, match=r"^Sender: ") as caught:
        Sender(**{"from": "news@example.com", **fields})
    return str(caught.value.fields["why"])


@pytest.mark.parametrize(
    ("identity", "address", "covered"),
    [
        ("example.com", "news@example.com", True),
        ("EXAMPLE.com", "news@example.com", True),
        ("example.com", "News <news@mail.example.com>", True),
        ("xn--bcher-kva.example", "=?utf-8?q?B=C3=BCcher?= <a@xn--bcher-kva.example>", True),
        ("news@example.com", "news@example.com", True),
        ("news@EXAMPLE.com", "news@example.com", True),
        ("news@example.com", "news+june@example.com", True),  # a label
        ("news+june@example.com", "news+june@example.com", True),
        ("news+june@example.com", "news@example.com", False),
        ("news+june@example.com", "news+july@example.com", False),
        ("News@example.com", "news@example.com", False),
        ("news@example.com", "news@mail.example.com", False),
        ("mail.example.com", "news@example.com", False),
        ("ample.com", "news@example.com", False),
        ("example.com", "news@badexample.com", False),
        ("example.com", '"a@example.com" <news@example.org>', False),
    ],
)
def test_an_identity_covers_its_own_address_or_everything_at_its_domain(identity: str, address: str, covered: bool) -> None:
    why = misfit(arn(identity), address, "eu-west-1")
    assert (why is None) is covered
    if why:
        assert arn(identity) in why
        assert address.rpartition("<")[2].rstrip(">") in why


def test_an_identity_serves_its_own_region_and_the_error_names_both() -> None:
    assert Sender(from_="a@example.com", identity_arn=arn("example.com"), region="eu-west-1").region == "eu-west-1"
    assert misfit(arn("example.com"), "a@example.com", None) is None
    assert refused(identity_arn=arn("example.com"), region="us-east-1") == (
        "the identity arn:aws:ses:eu-west-1:123456789012:identity/example.com is of region eu-west-1, and news@example.com is "
        "sent from region us-east-1; both have to be the same"
    )


def test_the_feedback_address_has_an_identity_of_its_own() -> None:
    fine = Sender(from_="a@example.com", feedback_address="b@example.org", feedback_identity_arn=arn("example.org"))
    assert fine.feedback_address == "b@example.org"
    assert "does not cover the address b@example.com" in refused(
        feedback_address="b@example.com", feedback_identity_arn=arn("example.org")
    )
    assert "needs a `feedback_address`" in refused(feedback_identity_arn=arn("example.com"))


@pytest.mark.parametrize(("variable", "region"), [("AWS_REGION", "us-east-1"), ("AWS_DEFAULT_REGION", "ap-northeast-1")])
def test_the_region_of_the_environment_is_checked_before_anything_is_stored(
    monkeypatch: pytest.MonkeyPatch, variable: str, region: str
) -> None:
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.setenv(variable, region)
    sender = Sender(from_="news@example.com", identity_arn=arn("example.com"))
    preparation = SpecBuilder(Settings(senders={"news": sender}))
    with pytest.raises(InvalidEmail, match=f"sender news: the identity .* of region eu-west-1, .* from region {region}"):
        preparation.message(Email(sender="news", to="a@example.com", subject="s", text="t"))


def test_a_role_and_its_external_id() -> None:
    role = "arn:aws:iam::123456789012:role/teams/mailer"
    assert Sender(from_="a@example.com", role_arn=role, external_id="x" * 1224).role_arn == role
    assert "`external_id` goes with `role_arn`" in refused(external_id="ab")
    for external_id in ("x", "x" * 1225, "a b", "é" * 4):
        assert "`external_id`" in refused(role_arn=role, external_id=external_id)
    for wrong in ("arn:aws:iam::123456789012:user/x", "mailer", f"{role} "):
        assert "`role_arn`" in refused(role_arn=wrong)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("configuration_set", "s" * 64, "s" * 65),
        ("tenant", "t" * 64, "t" * 65),
        ("region", "us-gov-west-1", "Ireland"),
        ("endpoint_url", "http://127.0.0.1:4566", "127.0.0.1:4566"),
        ("identity_arn", arn("example.com"), "arn:aws:ses:eu-west-1:123:identity/example.com"),
        ("tags", {"a": "b"}, {"a": "b c"}),
    ],
)
def test_a_wrong_field_is_named(field: str, good: Any, bad: Any) -> None:
    assert Sender(**{"from": "a@example.com", field: good})
    assert refused(**{field: bad}).startswith(f"`{field}` ")


# ---- where a recipient unsubscribes ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"url": "https://example.com/u?t={token}"},
        {"mailto": "u@example.com"},
        {"mailto": "u@example.com?subject={token}"},
        {"mailto": "mailto:u@example.com?subject=stop&body={token}"},
        {"url": "https://example.com/{token}", "mailto": "u@example.com"},
        {"url": f"https://example.com/{{token}}/{'x' * 272}"},
    ],
)
def test_unsubscribe_addresses(fields: dict[str, str]) -> None:
    found = ListUnsubscribe(**fields)
    assert found.has_token is ("{token}" in str(fields))
    assert not (found.mailto or "").startswith("mailto:")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({}, "`url` or `mailto`"),
        ({"url": "http://example.com/{token}"}, "https://"),
        ({"url": "https://example.com/u"}, "{token} once"),
        ({"url": "https://example.com/{token}/{token}"}, "{token} once"),
        ({"url": "https://example.com/{token}>,<https://evil.example"}, "https://"),
        ({"url": "https://example.com/ {token}"}, "https://"),
        ({"url": "https://bücher.example/{token}"}, "https://"),
        ({"url": f"https://example.com/{{token}}/{'x' * 274}"}, "300"),
        ({"mailto": "https://example.com"}, "must be an address"),
        ({"mailto": "u+{token}@example.com"}, "must be an address"),  # no local part has room for a token
        ({"mailto": "u@example.com?subject={token}&body={token}"}, "must be an address"),
        ({"mailto": "u@example.com,v@example.com"}, "must be an address"),
        ({"mailto": "u@example.com?subject=a b"}, "must be an address"),
        ({"mailto": f"u@example.com?subject={'x' * 300}"}, "300"),
    ],
)
def test_unsubscribe_addresses_that_are_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidEmail, match=r"^ListUnsubscribe: ") as caught:
        ListUnsubscribe(**fields)
    assert why in str(caught.value)


def test_a_wrong_profile_in_the_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "mailer.toml").write_text(f'[senders.news]\nfrom = "a@example.com"\nidentity_arn = "{arn("example.org")}"\n')
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert str(caught.value).startswith(f"mailer.toml: `senders.news` the identity {arn('example.org')} does not cover")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        *((name, "a b") for name in ("configuration_set", "tenant", "identity_arn", "role_arn", "external_id", "region")),
        ("endpoint_url", "ftp://x"),
        ("region", "eu-west-1\n"),
        ("configuration_set", "x" * 65),
    ],
)
def test_what_has_another_form_is_told_in_words(field: str, wrong: str) -> None:
    said = refused(**{field: wrong})
    assert re.fullmatch(rf"`{field}` '.*' must (be|have) .*", said.strip())
    assert not re.search(r"[\^$]|\]\{|\]\+", said), "no regular expression"
