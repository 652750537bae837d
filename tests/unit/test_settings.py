"""Settings: where they come from, in which order, and one sentence for whatever is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mailer.errors import ConfigError, UnknownSender
from mailer.message.email import Lane
from mailer.settings import Index, LogFormat, Policy, Settings, config_path, load_settings


def toml(text: str | bytes, name: str = "mailer.toml") -> Path:
    """In the current directory, which is the test's own."""
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(**overrides: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(**overrides)
    text = str(caught.value)
    assert len(text) < 300
    for word in ("validation error", "pydantic", "Value error", "Input should", "type=", "Traceback"):
        assert word not in text
    return text


def test_defaults_are_those_of_the_contract() -> None:
    settings = load_settings()
    assert (settings.redis_url, settings.namespace) == ("redis://127.0.0.1:6379/0", "mailer")
    assert (settings.templates_dir, settings.store_url) == (Path("templates"), "redis:")
    assert (settings.http_host, settings.http_port) == ("127.0.0.1", 8080)
    assert settings.lanes == (Lane.TRANSACTIONAL, Lane.BULK)
    assert (settings.max_send_rate, settings.account_refresh_s) == (None, 60)
    assert (settings.log_format, settings.log_level, settings.senders) == (None, "INFO", {})


OLD, NEW = "aged" * 8, "new." * 8
RATE = "must be at least 0.00028, which is one an hour; it is per second"
KEY = "32 are the least; make one with: openssl rand -hex 32"
NO_DATABASE = "the part after the last / must be the number of a database, as in redis://127.0.0.1:6379/0"
# What each setting can be set to, as the environment says it and as TOML does.
VALUES: dict[str, tuple[str, str, Any]] = {
    "redis_url": ("rediss://h:1/2", '"rediss://h:1/2"', "rediss://h:1/2"),
    "namespace": ("other", '"other"', "other"),
    "templates_dir": ("/t", '"/t"', Path("/t")),
    "store_url": ("s3://letters/june", '"s3://letters/june"', "s3://letters/june"),
    "intake_fsync": ("true", "true", True),
    "http_host": ("0.0.0.0", '"0.0.0.0"', "0.0.0.0"),
    "http_port": ("9", "9", 9),
    "lanes": (" bulk , ", '["bulk"]', (Lane.BULK,)),
    "max_send_rate": ("0.5", "0.5", 0.5),
    "send_burst": ("3", "3", 3),
    "daily_reserve": ("500", "500", 500),
    "bulk_calls_per_s": ("2.5", "2.5", 2.5),
    "secret_key": (f"{OLD}, {NEW}", f'"{OLD}, {NEW}"', SecretStr(f"{OLD}, {NEW}")),
    "unsubscribe_page": ("true", "true", True),
    "account_refresh_s": ("5", "5", 5.0),
    "suppression_sync_s": ("30", "30", 30.0),
    "events_sqs_url": ("https://sqs.example/1/q", '"https://sqs.example/1/q"', "https://sqs.example/1/q"),
    "events_topic_arns": ("a, b", '["a", "b"]', ("a", "b")),
    "events_index": ("off", '"off"', Index.OFF),
    "soft_bounces_suppress": ("3", "3", 3),
    "unknown_grace_s": ("5", "5", 5.0),
    "unknown_transactional": ("hold", '"hold"', Policy.HOLD),
    "unknown_bulk": ("assume_sent", '"assume_sent"', Policy.ASSUME_SENT),
    "retention_s": ("3600", "3600", 3600),
    "log_format": ("json", '"json"', LogFormat.JSON),
    "log_level": ("DEBUG", '"DEBUG"', "DEBUG"),
}


def test_the_table_has_every_setting() -> None:
    assert {*VALUES, "senders"} == set(Settings.model_fields)


@pytest.mark.parametrize("name", VALUES)
def test_every_setting_is_a_variable_and_a_key(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variable, key, value = VALUES[name]
    toml(f"{name} = {key}")
    assert getattr(load_settings(), name) == value
    Path("mailer.toml").unlink()
    monkeypatch.setenv(f"MAILER_{name.upper()}", variable)
    assert getattr(load_settings(), name) == value
    monkeypatch.setenv(f"MAILER_{name.upper()}", "")
    assert getattr(load_settings(), name) == Settings.model_fields[name].default, "an empty variable is one that is not set"


def test_argument_before_environment_before_file_before_default(monkeypatch: pytest.MonkeyPatch) -> None:
    toml('namespace = "file"\nhttp_port = 1\nlog_level = "ERROR"')
    monkeypatch.setenv("MAILER_NAMESPACE", "env")
    monkeypatch.setenv("MAILER_HTTP_PORT", "2")
    settings = load_settings(namespace="argument")
    assert (settings.namespace, settings.http_port, settings.log_level, settings.http_host) == (
        "argument",
        2,
        "ERROR",
        "127.0.0.1",
    )


def test_mailer_config_names_the_file_in_place_of_mailer_toml(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config_path() is None
    toml('namespace = "default"')
    toml('namespace = "named"', "other.toml")
    assert (load_settings().namespace, config_path()) == ("default", Path("mailer.toml"))
    monkeypatch.setenv("MAILER_CONFIG", "other.toml")
    assert (load_settings().namespace, config_path()) == ("named", Path("other.toml"))
    monkeypatch.setenv("MAILER_CONFIG", "")
    assert load_settings().namespace == "default"


@pytest.mark.parametrize("name", ["none.toml", "."])
def test_mailer_config_that_names_no_file_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    toml('namespace = "default"')
    monkeypatch.setenv("MAILER_CONFIG", name)
    assert refused() == f"MAILER_CONFIG: there is no file {name}; name one, or unset it"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("namespace = ", "mailer.toml: not TOML: Invalid value (at "),
        ("a\nb", "mailer.toml: not TOML: Expected '=' after a key"),
        ("namespace = 'a'\nnamespace = 'b'", "mailer.toml: not TOML: Cannot overwrite a value"),
        (b"namespace = '\xff'", "mailer.toml: not UTF-8, as TOML is"),
        ("colour = 'red'", "mailer.toml: `colour` is not a name that is known here"),
        ("MAILER_NAMESPACE = 'x'", "mailer.toml: `MAILER_NAMESPACE` is not a name that is known here"),
        ("[sender.news]\nfrom = 'a@example.com'", "mailer.toml: `sender` is not a name that is known here"),
        ("http_port = 'x'", "mailer.toml: `http_port` input should be a valid integer, unable to parse"),
        ("http_port = 65536", "mailer.toml: `http_port` input should be less than or equal to 65535"),
        ("http_port = -1", "mailer.toml: `http_port` input should be greater than or equal to 0"),
        ("namespace = 'a b'", "mailer.toml: `namespace` 'a b' must have 1 to 32 characters"),
        ("namespace = 'a:b'", "mailer.toml: `namespace` 'a:b' must have 1 to 32 characters"),
        ('namespace = "a\\n"', "mailer.toml: `namespace` 'a\\n' must have 1 to 32 characters"),
        ("store_url = 'ftp://b/c'", "mailer.toml: `store_url` use redis:, file:///dir or s3://bucket/prefix"),
        ("store_url = 's3://b/c'", "mailer.toml: `store_url` 'b' is not the name of a bucket; write s3://bucket/prefix"),
        ("store_url = 's3://letters/a//b'", "mailer.toml: `store_url` the prefix must be of letters, digits and"),
        ("store_url = 's3://letters?x=1'", "mailer.toml: `store_url` use redis:, file:///dir or s3://bucket/prefix"),
        ("store_url = 'file://data'", "mailer.toml: `store_url` the folder must be given from the root, with three slashes"),
        ("store_url = 'file:data'", "mailer.toml: `store_url` the folder must be given from the root, with three slashes"),
        ("store_url = 'file:///'", "mailer.toml: `store_url` the folder must be given from the root, with three slashes"),
        ("store_url = 'file:///a/%2e%2e/b'", "mailer.toml: `store_url` the folder must be written without `..`"),
        (
            "redis_url = 'http://x'",
            "mailer.toml: `redis_url` use redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://",
        ),
        ("redis_url = 'localhost:6379'", "mailer.toml: `redis_url` use redis://"),
        ("redis_url = 'redis://u:secret@h:1/abc'", f"mailer.toml: `redis_url` {NO_DATABASE}"),
        ("redis_url = 'rediss://h:1/1/2'", f"mailer.toml: `redis_url` {NO_DATABASE}"),
        ("redis_url = 'redis://h:1/-1?db=1'", f"mailer.toml: `redis_url` {NO_DATABASE}"),
        ("lanes = []", "mailer.toml: `lanes` name at least one lane: transactional, bulk"),
        ("lanes = ' , '", "mailer.toml: `lanes` name at least one lane: transactional, bulk"),
        ("lanes = 5", "mailer.toml: `lanes` input should be a valid tuple"),
        ("lanes = [['bulk']]", "mailer.toml: `lanes` input should be 'transactional' or 'bulk'"),
        ("lanes = ['fast']", "mailer.toml: `lanes` input should be 'transactional' or 'bulk'"),
        ("max_send_rate = 0", f"mailer.toml: `max_send_rate` {RATE}"),
        ("max_send_rate = 1e-300", f"mailer.toml: `max_send_rate` {RATE}"),
        ("bulk_calls_per_s = 1e-15", "mailer.toml: `bulk_calls_per_s"),
        ("secret_key = 'x'", f"mailer.toml: `secret_key` a key has 1 characters, and {KEY}"),
        (f"secret_key = '{OLD},short'", f"mailer.toml: `secret_key` a key has 5 characters, and {KEY}"),
        ("max_send_rate = nan", f"mailer.toml: `max_send_rate` {RATE}"),
        ("retention_s = 59", "mailer.toml: `retention_s` input should be greater than or equal to 60"),
        (
            "retention_s = 900",
            "mailer.toml: `retention_s` must be longer than `unknown_grace_s`, which is 900: 900 is not",
        ),
        (
            "unknown_grace_s = 604800.5",
            "mailer.toml: `retention_s` must be longer than `unknown_grace_s`, which is 604800.5: 604800 is not",
        ),
        ("log_level = 'debug'", "mailer.toml: `log_level` input should be 'DEBUG', 'INFO', 'WARNING', 'ERROR' or 'CRITICAL'"),
        ("log_format = 'xml'", "mailer.toml: `log_format` input should be 'console' or 'json'"),
        ("senders = 3", "mailer.toml: `senders` input should be a valid dictionary"),
        ("[senders.news]", "mailer.toml: `senders.news.from` is missing"),
        ("[senders.news]\nfrom = 'x'", "mailer.toml: `senders.news.from` an email address must have an @-sign"),
        (
            "[senders.n]\nfrom = 'a@example.com'\nform = 'x'",
            "mailer.toml: `senders.n`: there is no `form`; use `from`, in Python `from_`",
        ),
        ("[senders.n]\nfrom = 'a@example.com'\ntags = {a = 1}", "mailer.toml: `senders.n.tags.a` input should be a valid string"),
        (
            "[senders.n]\nfrom = 'a@example.com'\nidentity_arn = 'x'",
            "mailer.toml: `senders.n.identity_arn` 'x' must be the ARN of an SES identity",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_one_sentence_that_names_it(text: str | bytes, why: str) -> None:
    toml(text)
    assert refused().startswith(why)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h/",
        "redis://h/2/",
        "redis://h:1/15",
        "rediss://u:p%2Fx@h:1?db=3",
        "unix:///run/redis.sock?db=2",
        "redis+sentinel://h:1/main/2",
    ],
)
def test_a_database_may_be_left_out_or_said_in_every_way_that_is_read(url: str) -> None:
    assert load_settings(redis_url=url).redis_url == url


def test_an_error_names_the_source_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    toml("http_port = 9")
    monkeypatch.setenv("MAILER_HTTP_PORT", "x")
    assert refused().startswith("MAILER_HTTP_PORT: `http_port` input should be a valid integer")
    assert refused(http_port="y").startswith("settings: `http_port` input should be a valid integer")
    assert load_settings(http_port=1).http_port == 1
    monkeypatch.delenv("MAILER_HTTP_PORT")
    assert refused(nonsense=1) == "settings: `nonsense` is not a name that is known here"
    monkeypatch.setenv("MAILER_LANES", "bulk,fast")
    assert refused().startswith("MAILER_LANES: `lanes` input should be 'transactional' or 'bulk'")
    monkeypatch.setenv("MAILER_LANES", ",")
    assert refused() == "MAILER_LANES: `lanes` name at least one lane: transactional, bulk"


def test_of_several_errors_the_first_is_told() -> None:
    toml("namespace = 'a b'\nhttp_port = 'x'")
    assert refused() == "mailer.toml: `namespace` 'a b' must have 1 to 32 characters, each of A-Z a-z 0-9 _ . - (and 1 more)"


def test_a_file_that_cannot_be_read_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    toml("")

    def denied(path: Path, mode: str = "r", **options: Any) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    assert refused() == "mailer.toml: cannot be read: Permission denied"


def test_senders_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILER_SENDERS", '{"news": {"from": "News <a@example.com>"}}')
    assert load_settings().sender("news").from_ == "News <a@example.com>"
    monkeypatch.setenv("MAILER_SENDERS", "news=a@example.com")
    assert refused().startswith("MAILER_SENDERS: not JSON")
    monkeypatch.setenv("MAILER_SENDERS", '{"news": {}}')
    assert refused() == "MAILER_SENDERS: `senders.news.from` is missing"


@pytest.mark.parametrize(
    ("value", "lanes"),
    [("bulk", "bulk"), ("bulk,transactional", "bulk transactional"), (" transactional ,bulk,, bulk", "transactional bulk")],
)
def test_lanes_keep_their_order_and_each_is_served_once(value: str, lanes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = tuple(map(Lane, lanes.split()))
    monkeypatch.setenv("MAILER_LANES", value)
    assert load_settings().lanes == wanted
    assert Settings(lanes=[*wanted, *wanted]).lanes == wanted


SENDERS = """
[senders.news]
from = "Größe & Söhne <news@Example.com>"
reply_to = ["a@example.com", "B <b@example.com>"]
feedback_address = "bounces@example.com"
identity_arn = "arn:aws:ses:eu-west-1:123456789012:identity/example.com"
feedback_identity_arn = "arn:aws:ses:eu-west-1:123456789012:identity/bounces@example.com"
configuration_set = "marketing"
tenant = "tenant-1"
role_arn = "arn:aws:iam::210987654321:role/sender"
external_id = "shared-secret"
region = "eu-west-1"
endpoint_url = "https://vpce-1.email.eu-west-1.vpce.amazonaws.com"
list_unsubscribe = {url = "https://example.com/u/{token}", mailto = "unsubscribe@example.com?subject={token}"}
tags = {team = "growth", kind = "news"}

[senders.plain]
from = "plain@example.com"
reply_to = "a@example.com"
"""


def test_senders_with_all_their_keys() -> None:
    toml(SENDERS)
    settings = load_settings()
    news, plain = settings.sender("news"), settings.sender("plain")
    assert news.model_dump(by_alias=True) == {
        "from": "=?utf-8?b?R3LDtsOfZSAmIFPDtmhuZQ==?= <news@example.com>",
        "reply_to": ("a@example.com", "B <b@example.com>"),
        "feedback_address": "bounces@example.com",
        "identity_arn": "arn:aws:ses:eu-west-1:123456789012:identity/example.com",
        "feedback_identity_arn": "arn:aws:ses:eu-west-1:123456789012:identity/bounces@example.com",
        "configuration_set": "marketing",
        "tenant": "tenant-1",
        "tags": {"team": "growth", "kind": "news"},
        "role_arn": "arn:aws:iam::210987654321:role/sender",
        "external_id": "shared-secret",
        "region": "eu-west-1",
        "endpoint_url": "https://vpce-1.email.eu-west-1.vpce.amazonaws.com",
        "list_unsubscribe": {
            "url": "https://example.com/u/{token}",
            "mailto": "unsubscribe@example.com?subject={token}",
        },
    }
    assert (plain.reply_to, plain.tags, plain.tenant) == (("a@example.com",), {}, None)


def test_an_unknown_sender_lists_those_that_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    toml(SENDERS)
    with pytest.raises(UnknownSender) as caught:
        load_settings().sender("mews")
    assert str(caught.value) == "There is no sender 'mews'; there are: news, plain."
    toml("")
    with pytest.raises(UnknownSender) as caught:
        load_settings().sender("mews")
    assert str(caught.value) == "There is no sender 'mews'; mailer.toml has none, so add [senders.mews]."
    Path("mailer.toml").unlink()
    with pytest.raises(UnknownSender) as caught:
        load_settings().sender("mews")
    assert str(caught.value) == "There is no sender 'mews'; no mailer.toml was found, so make one with [senders.mews]."


@pytest.mark.parametrize("value", ["auto", "unlimited", 14.0])
def test_bulk_calls_are_learnt_lifted_or_pinned(value: str | float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILER_BULK_CALLS_PER_S", str(value))
    assert load_settings().bulk_calls_per_s == value


@pytest.mark.parametrize("value", ["0", "-1", "fast"])
def test_bulk_calls_of_no_kind_are_refused(value: str) -> None:
    assert "bulk_calls_per_s" in refused(bulk_calls_per_s=value)


def test_the_secret_key_is_several_where_it_is_being_replaced_and_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILER_SECRET_KEY", f"{OLD} , {NEW},")
    settings = load_settings()
    assert settings.secret_keys == [OLD, NEW]
    assert "aged" not in repr(settings)
    assert Settings().secret_keys == [OLD, NEW]
    monkeypatch.delenv("MAILER_SECRET_KEY")
    assert load_settings().secret_keys == []


def test_settings_do_not_change_under_a_running_worker() -> None:
    with pytest.raises(ValueError, match="frozen"):
        setattr(load_settings(), "namespace", "x")  # noqa: B010


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("MAILER_REDIS_URI", "is MAILER_REDIS_URL meant?"),
        ("MAILER_XYZZY", "there is no such setting"),
        ("MAILER_UNKNOWN_BULKS", "is MAILER_UNKNOWN_BULK meant?"),
    ],
)
def test_a_variable_that_nothing_reads_is_a_mistake_that_is_said(name: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    assert words in refused()
    monkeypatch.setenv(name, "")
    load_settings()


def test_the_queue_the_topics_and_what_becomes_of_who_is_in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [load_settings().unknown(lane) for lane in Lane] == [Policy.RESEND, Policy.HOLD]
    queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/events"
    for name, value in {
        "EVENTS_SQS_URL": queue,
        "EVENTS_TOPIC_ARNS": "arn:aws:sns:eu-west-1:123456789012:a, arn:aws:sns:eu-west-1:123456789012:b",
        "UNKNOWN_GRACE_S": "60",
        "UNKNOWN_BULK": "assume_sent",
    }.items():
        monkeypatch.setenv(f"MAILER_{name}", value)
    settings = load_settings()
    assert (settings.events_sqs_url, settings.unknown_grace_s, settings.unknown(Lane.BULK)) == (queue, 60, Policy.ASSUME_SENT)
    assert [arn.rpartition(":")[2] for arn in settings.events_topic_arns] == ["a", "b"]
    monkeypatch.setenv("MAILER_EVENTS_SQS_URL", "arn:aws:sqs:eu-west-1:123456789012:events")
    assert "use the queue's URL" in refused()
    monkeypatch.delenv("MAILER_EVENTS_SQS_URL")
    monkeypatch.setenv("MAILER_UNKNOWN_BULK", "drop")
    assert "resend" in refused()
