"""The one class of settings.

Sources, first wins: arguments, environment (``MAILER_…``), the TOML file that ``MAILER_CONFIG`` names (``mailer.toml``
where there is one), defaults. AWS's own variables are boto's business and are not read here.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from .errors import ConfigError, UnknownSender
from .message.checks import TOO_DEEP, documented, explain_validation, written
from .message.email import Lane, Rate
from .message.sender import Sender
from .redis.url import parse

DEFAULT_CONFIG = Path("mailer.toml")


class Policy(StrEnum):
    """What happens to a recipient in doubt when no event has decided it within the grace period."""

    RESEND = "resend"
    HOLD = "hold"  # stays `unknown`
    ASSUME_SENT = "assume_sent"


class Index(StrEnum):
    """Whether Redis keeps SES message ids, so that notifications without tags can be matched."""

    AUTO = "auto"  # those of messages; those of campaigns once such a notification has come
    ON = "on"
    OFF = "off"


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


MIN_KEY = 32  # characters of a key that signs unsubscribe tokens

Namespace = Annotated[str, written(r"[A-Za-z0-9_.-]{1,32}", "must have 1 to 32 characters, each of A-Z a-z 0-9 _ . -")]

# The subjects, in the order of the fields: the first field of each → its title in docs/settings.md and mailer.toml.example.
SUBJECTS = {
    "redis_url": "Redis",
    "templates_dir": "Content and storage",
    "http_host": "Worker",
    "max_send_rate": "Rate and quota",
    "suppression_sync_s": "Suppression and unsubscribing",
    "events_sqs_url": "Events of SES",
    "unknown_grace_s": "Recipients in doubt, and retention",
    "log_format": "Log",
    "senders": "Senders",
}


@documented
class Settings(BaseSettings):
    """What an installation can set. Every field is an environment variable ``MAILER_<NAME>`` and a key of the TOML file."""

    model_config = SettingsConfigDict(
        env_prefix="MAILER_", extra="forbid", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    redis_url: str = Field(
        "redis://127.0.0.1:6379/0",
        repr=False,  # it may have a password in it
        description=(
            "URL of Redis or Valkey: `redis://`, `rediss://` (TLS), `unix:///path?db=0`, "
            "`redis+sentinel://host:port,host:port/service/db` or `rediss+sentinel://`."
        ),
    )
    namespace: Namespace = Field(
        "mailer",
        description=(
            "Prefix of every Redis key, so that two installations can share a Redis. 1 to 32 letters, digits, `_`, `.` and `-`."
        ),
    )
    intake_fsync: bool = Field(
        False,
        description=(
            "With `true`, a call that hands over a message or campaign returns once Redis has it on disk. "
            "With `false`, it returns once Redis has answered."
        ),
    )

    templates_dir: Path = Field(
        Path("templates"),
        description=(
            "Folder of the templates. Each template is a folder in it, with `subject.txt` and `body.html`, `body.txt` or both."
        ),
    )
    store_url: str = Field(
        "redis:",
        description=(
            "Where rows and archives of campaigns are stored: `redis:`, `file:///dir` or `s3://bucket/prefix`. "
            "Applications and workers need the same value."
        ),
    )

    http_host: str = Field(
        "127.0.0.1",
        description=(
            "Address on which a worker serves HTTP: `/healthz`, `/readyz`, `/metrics` and, where they are switched on, "
            "`/events/ses` and `/unsubscribe/…`. By default only this machine can connect."
        ),
    )
    http_port: int = Field(8080, ge=0, le=65535, description="Port of that HTTP server. `0` takes any free port.")
    lanes: Annotated[tuple[Lane, ...], NoDecode] = Field(
        (Lane.TRANSACTIONAL, Lane.BULK), description="Lanes that a worker serves. By default it serves both."
    )

    max_send_rate: Rate | None = Field(
        None,
        examples=[14],
        description="Upper limit of the send rate, in recipients per second. Unset, the rate of the SES account is the limit.",
    )
    send_burst: int = Field(
        0,
        ge=0,
        description="Recipients that one second may have above the send rate. By default no second has more than the rate.",
    )
    daily_reserve: int = Field(
        0,
        ge=0,
        description=(
            "Recipients of the 24-hour quota that only the transactional lane may use. By default both lanes share it all."
        ),
    )
    bulk_calls_per_s: Literal["auto", "unlimited"] | Rate = Field(
        "auto",
        description=(
            "Limit of `SendBulkEmail` calls per second, which AWS does not publish. `auto` learns it: it starts at 1 and doubles "
            "after each second without a refusal. A number fixes it, and `unlimited` removes it."
        ),
    )
    account_refresh_s: float = Field(
        60,
        gt=0,
        description=(
            "Seconds between two readings of the SES account: its quota, sandbox state, identities and configuration sets. "
            "Sending stops when the state is older than three times this."
        ),
    )

    suppression_sync_s: float = Field(
        300,
        gt=0,
        description=(
            "Seconds between two readings of new entries of SES's suppression list. The whole list is read once a day as well."
        ),
    )
    soft_bounces_suppress: int = Field(
        0,
        ge=0,
        le=100,
        description=(
            "Consecutive soft bounces after which an address goes on our own suppression list. "
            "`0` never suppresses for soft bounces."
        ),
    )
    secret_key: SecretStr | None = Field(
        None,
        examples=["make one with: openssl rand -hex 32"],
        description=(
            "Key that signs unsubscribe tokens, at least 32 characters; make one with `openssl rand -hex 32`. "
            "Of several keys, separated by commas, the last signs and all verify. Unset, no unsubscribe token can be made."
        ),
    )
    unsubscribe_page: bool = Field(
        False, description="With `true`, a worker serves the unsubscribe page at `/unsubscribe/{token}`. It needs a `secret_key`."
    )

    events_sqs_url: str | None = Field(
        None,
        examples=["https://sqs.eu-west-1.amazonaws.com/123456789012/ses-events"],
        description="URL of the SQS queue from which workers read SES's events. Unset, no queue is read.",
    )
    events_topic_arns: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        examples=[["arn:aws:sns:eu-west-1:123456789012:ses-events"]],
        description=(
            "ARNs of the SNS topics whose messages `POST /events/ses` of a worker accepts. "
            "Empty, a worker does not serve that path."
        ),
    )
    events_index: Index = Field(
        Index.AUTO,
        description=(
            "Whether Redis keeps SES message ids, so that notifications without message tags can be matched. `on` keeps all, "
            "`off` none. `auto` keeps those of single messages, and those of campaigns once such a notification has come."
        ),
    )

    unknown_grace_s: float = Field(
        900,
        ge=0,
        description=(
            "Seconds that a recipient in doubt (state `unknown`: SES may have accepted the message) waits for an event. "
            "Then the policy of its lane decides."
        ),
    )
    unknown_transactional: Policy = Field(
        Policy.RESEND,
        description=(
            "Policy of the transactional lane for recipients in doubt: `resend` sends again, which may send twice; `hold` leaves "
            "them `unknown`; `assume_sent` counts them as sent."
        ),
    )
    unknown_bulk: Policy = Field(Policy.HOLD, description="The same policy for the bulk lane.")
    retention_s: int = Field(
        7 * 86_400,
        ge=60,
        validate_default=True,
        description=(
            "Seconds that Redis keeps finished messages and campaigns. It must be longer than `unknown_grace_s`. "
            "The default is 7 days."
        ),
    )

    log_format: LogFormat | None = Field(
        None,
        examples=["json"],
        description="Format of a worker's log on standard error. Unset, it is `console` on a terminal and `json` elsewhere.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = Field(
        "INFO",
        description=(
            "Least level that a worker logs. With `MAILER_LOG_LEVEL=DEBUG` in the environment, commands log as well "
            "and show tracebacks."
        ),
    )

    senders: dict[str, Sender] = Field(
        default_factory=dict,
        description="Sender profiles by name: tables `[senders.NAME]` of the TOML file, or one JSON object in the variable.",
    )

    def __init__(self, **values: Any) -> None:
        """Raises ConfigError, with one sentence instead of pydantic's report."""
        path = config_path()
        try:
            super().__init__(**values)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError(where=str(path), why=f"not TOML: {error}") from None
        except UnicodeDecodeError:
            raise ConfigError(where=str(path), why="not UTF-8, as TOML is") from None
        except OSError as error:
            raise ConfigError(where=str(path), why=f"cannot be read: {error.strerror}") from None
        except SettingsError:  # the one value that the environment holds as JSON
            raise ConfigError(where="MAILER_SENDERS", why='not JSON, as in {"news": {"from": "news@example.com"}}') from None
        except ValidationError as error:
            raise ConfigError(where=_source(error, values, path), why=explain_validation(error)) from None
        except RecursionError:
            raise ConfigError(where="settings", why=TOO_DEEP) from None

    @field_validator("lanes", "events_topic_arns", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("lanes")
    @classmethod
    def _each_lane_once(cls, value: tuple[Lane, ...]) -> tuple[Lane, ...]:
        if not value:
            raise ValueError("name at least one lane: transactional, bulk")
        return tuple(dict.fromkeys(value))

    @field_validator("secret_key")
    @classmethod
    def _hard_to_guess(cls, value: SecretStr | None) -> SecretStr | None:
        """Whoever guesses it unsubscribes whom they like. What was given is not quoted."""
        short = [len(key) for key in _keys_of(value) if len(key) < MIN_KEY]
        if short:
            why = f"a key has {short[0]} characters, and {MIN_KEY} are the least; make one with: openssl rand -hex 32"
            raise ValueError(why)
        return value

    @field_validator("events_sqs_url")
    @classmethod
    def _queue_url(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"https?://[!-~]+/[!-~]+", value):
            raise ValueError("use the queue's URL, as https://sqs.eu-west-1.amazonaws.com/123456789012/events")
        return value

    @field_validator("retention_s")
    @classmethod
    def _outlives_the_doubt(cls, value: int, info: ValidationInfo) -> int:
        grace_s = info.data.get("unknown_grace_s", 0)
        if value <= grace_s:
            raise ValueError(f"must be longer than `unknown_grace_s`, which is {grace_s:.10g}: {value} is not")
        return value

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, value: str) -> str:
        parts = urlsplit(value)
        if value == "redis:":
            return value
        if parts.scheme not in ("file", "s3") or parts.query or parts.fragment:
            raise ValueError("use redis:, file:///dir or s3://bucket/prefix")
        if parts.scheme == "file":
            _check_folder(parts.netloc, unquote(parts.path))
        elif re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", parts.netloc) is None:
            raise ValueError(f"'{parts.netloc}' is not the name of a bucket; write s3://bucket/prefix")
        elif re.fullmatch(r"(/[A-Za-z0-9!_.*'()-]+)*/?", parts.path) is None:
            raise ValueError("the prefix must be of letters, digits and ! - _ . * ' ( ), with single slashes between them")
        return value

    @field_validator("redis_url")
    @classmethod
    def _readable_redis_url(cls, value: str) -> str:
        parse(value)
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = config_path()
        toml = (TomlConfigSettingsSource(settings_cls, path),) if path else ()
        return (init_settings, env_settings, *toml)

    def unknown(self, lane: Lane) -> Policy:
        """What becomes of a lane's recipients that stay in doubt."""
        return self.unknown_bulk if lane is Lane.BULK else self.unknown_transactional

    @property
    def secret_keys(self) -> list[str]:
        return _keys_of(self.secret_key)

    def sender(self, name: str) -> Sender:
        """The sender profile of that name. Raises UnknownSender, which lists the ones there are."""
        try:
            return self.senders[name]
        except KeyError:
            path = config_path()
            if self.senders:
                known = f"there are: {', '.join(sorted(self.senders))}"
            elif path:
                known = f"{path} has none, so add [senders.{name}]"
            else:
                known = f"no {DEFAULT_CONFIG} was found, so make one with [senders.{name}]"
            raise UnknownSender(name=name, known=known) from None


def _keys_of(value: SecretStr | None) -> list[str]:
    text = value.get_secret_value() if value else ""
    return [key for key in (part.strip() for part in text.split(",")) if key]


def _check_folder(host: str, path: str) -> None:
    """Raises ValueError."""
    if host or not path.startswith("/") or not path.strip("/") or "\0" in path:
        raise ValueError("the folder must be given from the root, with three slashes: file:///var/lib/mailer")
    if ".." in path.split("/"):
        raise ValueError("the folder must be written without `..`")


def config_path() -> Path | None:
    """The TOML file in use, or None."""
    named = os.environ.get("MAILER_CONFIG")
    if named:
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None


def load_settings(**overrides: Any) -> Settings:
    """Settings from all sources. Raises ConfigError."""
    _check_names()
    path = config_path()
    if path and not path.is_file():
        raise ConfigError(where="MAILER_CONFIG", why=f"there is no file {path}; name one, or unset it")
    return Settings(**overrides)


def _check_names() -> None:
    """A variable that nothing reads is a mistake that nobody would see. Raises ConfigError."""
    known = {"MAILER_CONFIG", *(f"MAILER_{name.upper()}" for name in Settings.model_fields)}
    for name in sorted(os.environ):
        if name.startswith("MAILER_") and os.environ[name] and name not in known:
            near = get_close_matches(name, known, 1)
            raise ConfigError(where=name, why=f"there is no such setting; {f'is {near[0]} meant?' if near else 'unset it'}")


def _source(error: ValidationError, overrides: Mapping[str, Any], path: Path | None) -> str:
    """Where the value stands that the error is about."""
    name = str(error.errors()[0]["loc"][0])
    variable = f"MAILER_{name.upper()}"
    if name in overrides:
        return "settings"
    return variable if os.environ.get(variable) else str(path or "settings")
