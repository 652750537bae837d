"""MAILER_REDIS_URL: what it says, and that nothing secret is ever shown of it."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailer import Settings, load_settings
from mailer.errors import ConfigError
from mailer.queue import connect, safe_url
from mailer.redis.url import RedisUrl, parse


def url(**fields: Any) -> RedisUrl:
    return RedisUrl(**{"scheme": "redis", "hosts": (("h", 6379),), **fields})


@pytest.mark.parametrize(
    ("text", "found", "shown"),
    [
        ("redis://h", url(), "redis://h:6379/0"),
        ("redis://h/", url(), "redis://h:6379/0"),
        ("redis:///3", url(hosts=(("localhost", 6379),), database=3), "redis://localhost:6379/3"),
        ("redis://h:1/15", url(hosts=(("h", 1),), database=15), "redis://h:1/15"),
        ("redis://h?db=3", url(database=3), "redis://h:6379/3"),
        ("redis://h/1?db=3", url(database=3), "redis://h:6379/3"),
        ("redis://[::1]:7/0", url(hosts=(("::1", 7),)), "redis://[::1]:7/0"),
        ("rediss://u:p%2Fx@h:1", url(scheme="rediss", hosts=(("h", 1),), username="u", password="p/x"), "rediss://***@h:1/0"),
        ("redis://:p@ss@h", url(password="p@ss"), "redis://***@h:6379/0"),
        ("redis://u@h", url(username="u"), "redis://***@h:6379/0"),
        ("redis://h?username=u&password=a%26b", url(username="u", password="a&b"), "redis://***@h:6379/0"),
        ("redis://h?socket_timeout=2.5", url(options={"socket_timeout": 2.5}), "redis://h:6379/0"),
        ("unix:///run/a@b.sock?db=2", url(scheme="unix", hosts=(), path="/run/a@b.sock", database=2), "unix:///run/a@b.sock"),
        ("unix://u:p@/s", url(scheme="unix", hosts=(), path="/s", username="u", password="p"), "unix://***@/s"),
        ("unix:///s?password=p", url(scheme="unix", hosts=(), path="/s", password="p"), "unix://***@/s"),
        (
            "redis+sentinel://:p@a:1,b/main/2?sentinel_password=q",
            url(
                scheme="redis+sentinel",
                hosts=(("a", 1), ("b", 26379)),
                service="main",
                database=2,
                password="p",
                sentinel_password="q",
            ),
            "redis+sentinel://***@a:1,b:26379/main/2",
        ),
        (
            "rediss+sentinel://a/main?ssl_ca_certs=/ca.pem",
            url(scheme="rediss+sentinel", hosts=(("a", 26379),), service="main", options={"ssl_ca_certs": "/ca.pem"}),
            "rediss+sentinel://a:26379/main/0",
        ),
    ],
)
def test_what_a_url_says(text: str, found: RedisUrl, shown: str) -> None:
    assert parse(text) == found
    assert str(found) == safe_url(text) == shown


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("http://h", "use redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://"),
        ("localhost:6379", "use redis://"),
        ("redis://:a#b@h:1/0", "there is a # in it: in a user or password write"),
        ("redis://:a/b@h:1/0", "there is an @ after a /: in a user or password write"),
        ("redis://:a?b@h:1/0", "there is an @ after a ?: in a user or password write"),
        ("unix://:a/b@/run/s", "there is an @ after a /"),
        ("redis://h:99999/0", "its host or port cannot be read; write redis://user:password@host:6379/0"),
        ("redis://h:1x/0", "its host or port cannot be read"),
        ("redis://user:secret/0", "its host or port cannot be read"),
        ("redis://h:1/abc", "must be the number of a database"),
        ("redis://h:1/-1?db=1", "must be the number of a database"),
        ("redis://h:1/1/2", "must be the number of a database"),
        ("redis://h/0?db=x", "the value of db after the ? cannot be read"),
        ("redis://h/0?ssl_cert_reqs=never", "the value of ssl_cert_reqs after the ? cannot be read"),
        ("redis://h/0?pasword=x", "after the ? it may have db, username, password, "),
        ("redis://h /0", "there is white space in it"),
        ("unix://run/s", "with three slashes: unix:///run/redis/redis.sock"),
        ("redis+sentinel://a:b/s/0", "its host or port cannot be read; write redis+sentinel://host:port"),
        ("redis+sentinel://host", "write redis+sentinel://host:port,host:port/service/db"),
        ("redis+sentinel:///main/0", "write redis+sentinel://host:port,host:port/service/db"),
        ("redis+sentinel://h/s/x", "write redis+sentinel://host:port,host:port/service/db"),
    ],
)
def test_a_url_that_cannot_be_read_is_said_so_in_one_sentence(text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=r"^MAILER_REDIS_URL: ") as raised, mock.patch.dict(os.environ, MAILER_REDIS_URL=text):
        load_settings()
    assert why in str(raised.value)


# ---- secrets -----------------------------------------------------------------------------------------------------------

FORMS = (
    "redis://{user}:{password}@127.0.0.1:1/0",
    "rediss://:{password}@127.0.0.1:1/0",
    "redis://127.0.0.1:1/0?password={password}",
    "redis://127.0.0.1:1/0?username={user}&password={password}",
    "unix://{user}:{password}@/no/such.sock",
    "unix:///no/such.sock?db=1&password={password}",
    "redis+sentinel://{user}:{password}@127.0.0.1:1,127.0.0.1:1/main/0",
    "redis+sentinel://127.0.0.1:1/main/0?password={password}&sentinel_password={password}",
    "rediss+sentinel://:{password}@127.0.0.1:1/main",
    "redis://{user}:{password}@127.0.0.1:1x/0",  # a port that is none
    "redis://{user}:{password}@127.0.0.1:1/x",
    "redis://{user}:{password}@127.0.0.1:1/0?passwort={password}",
    "redis://127.0.0.1:1/0?passwort={password}",
    "redis://{user}:{password}/0",
    "redis://{password}@",
    "redis:{password}@127.0.0.1:1",  # it lacks its slashes
    "http://{user}:{password}@127.0.0.1:1/0",
    "{password}",
)
SPECIAL = "#@/?:%&=+[] \\\"'<>\t,;~é☃\x1b"
PASSWORDS = st.lists(st.sampled_from(SPECIAL), min_size=0, max_size=3).map(lambda marks: "Geheim1" + "".join(marks) + "Wort2")


def texts(text: str) -> list[str]:
    """All that is said of this URL before anything is connected."""
    said = [safe_url(text)]
    try:
        with mock.patch.dict(os.environ, MAILER_REDIS_URL=text):
            settings = load_settings()
    except ConfigError as error:
        said += [str(error), repr(error)]
        with pytest.raises(ConfigError) as raised:
            Settings(redis_url=text)
        said += [str(raised.value), repr(raised.value), str(raised.value.__context__)]
    else:
        client = connect(settings)
        said += [str(settings), repr(settings), repr(parse(text)), repr(client), repr(client.connection_pool), str(client)]
    return said


@example("Geheim1#Wort2", FORMS[0], False)
@example("Geheim1/Wort2", FORMS[4], False)
@given(PASSWORDS, st.sampled_from(FORMS), st.booleans())
def test_no_part_of_a_password_is_shown_whatever_the_url_looks_like(password: str, form: str, quoted: bool) -> None:
    text = form.format(user="Nutzer3", password=quote(password, safe="") if quoted else password)
    for said in texts(text):
        for part in ("Geheim1", "Wort2", "Nutzer3"):
            assert part not in said, said
