"""By which identities an address is verified, and what is kept of each."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailer.identities.cache import Identity
from mailer.identities.sender import verify_command
from mailer.message.address import bare, identities_of
from mailer.message.checks import mailbox
from mailer.message.sender import misfit

LOCAL = st.text("abcZ019.+_-'|", min_size=1, max_size=12)
DOMAIN = st.lists(st.text("abc019-", min_size=1, max_size=6), min_size=2, max_size=5).map(".".join)


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("ana@example.com", ["ana@example.com", "example.com"]),
        ("Ana <Ana+a+b@mail.example.co.uk>", None),
        ("+label@example.com", ["+label@example.com", "example.com"]),
        ("ana@host", ["ana@host"]),
    ],
)
def test_the_identities_of_an_address(address: str, names: list[str] | None) -> None:
    by_hand = ["Ana+a+b@mail.example.co.uk", "Ana@mail.example.co.uk", "mail.example.co.uk", "example.co.uk", "co.uk"]
    assert list(identities_of(address)) == (names or by_hand)


@given(LOCAL, DOMAIN)
def test_each_of_them_covers_the_address_by_the_rule_for_arns_and_none_is_a_top_level_domain(local: str, domain: str) -> None:
    address = f"{local}@{domain}"
    names = identities_of(address)
    assert names[0] == address
    assert len(set(names)) == len(names)
    for name in names:
        assert misfit(f"arn:aws:ses:eu-west-1:123456789012:identity/{name}", address, "eu-west-1") is None
        assert "." in name.rpartition("@")[2]
    assert identities_of(f"Somebody <{address}>") == names


@pytest.mark.parametrize("name", ["Ana", "Größe & Söhne", 'a "b" c', "x, y", "=?odd?="])
def test_the_address_of_what_was_checked_for_ses(name: str) -> None:
    escaped = name.replace('"', '\\"')
    assert bare(mailbox(f'"{escaped}" <ana@example.com>')) == "ana@example.com"


@given(LOCAL, DOMAIN, st.booleans(), st.integers(0, 2**45), st.text("abcXYZ019_-", max_size=64))
def test_what_is_kept_of_an_identity_comes_back(local: str, domain: str, verified: bool, at: int, set_name: str) -> None:
    for name in (f"{local}@{domain}", domain):
        identity = Identity(name, verified, at, set_name)
        assert Identity.unpack(identity.key, identity.pack().encode()) == identity


@given(st.text("ab'\"$`;|&\\!{}", min_size=1, max_size=10))
def test_the_command_that_a_person_is_told_to_type_does_nothing_else(local: str) -> None:
    assert shlex.split(verify_command(f"{local}@example.com", "eu-west-1"))[-1] == f"{local}@example.com"
