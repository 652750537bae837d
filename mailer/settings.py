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
from .message.checks import TOO_DEEP, explain_validation, written
from .message.email import Lane, Rate
from .message.sender import Sender
from .redis.url import parse

DEFAULT_CONFIG = Path("mailer.toml")


class Policy(StrEnum):
    """What becomes of a recipient that SES may have accepted, when no event has said so."""

    RESEND = "resend"
    HOLD = "hold"  # stays `unknown`
    ASSUME_SENT = "assume_sent"


class Index(StrEnum):
    """Whether SES's message ids of campaigns are kept, by which notifications without tags are matched."""

    AUTO = "auto"  # once such a notification has come
    ON = "on"
    OFF = "off"  # nor those of messages


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


MIN_KEY = 32  # characters of a key that signs unsubscribe tokens

Namespace = Annotated[str, written(r"[A-Za-z0-9_.-]{1,32}", "must have 1 to 32 characters, each of A-Z a-z 0-9 _ . -")]


class Settings(BaseSettings):
    """What an installation can set. Every field is an environment variable ``MAILER_<NAME>`` and a key of the TOML file."""

    model_config = SettingsConfigDict(
        env_prefix="MAILER_", extra="forbid", frozen=True, env_ignore_empty=True, hide_input_in_errors=True
    )

    redis_url: str = Field("redis://127.0.0.1:6379/0", repr=False)  # it may have a password in it
    namespace: Namespace = "mailer"
    templates_dir: Path = Path("templates")
    store_url: str = "redis:"  # where payloads of chunks and archives live; also file:///dir, s3://bucket/prefix
    intake_fsync: bool = False  # what is handed over is on Redis's disk when the call returns
    http_host: str = "127.0.0.1"
    http_port: int = Field(8080, ge=0, le=65535)
    lanes: Annotated[tuple[Lane, ...], NoDecode] = (Lane.TRANSACTIONAL, Lane.BULK)
    max_send_rate: Rate | None = None  # recipients per second, where it should stay under the account's own
    send_burst: int = Field(0, ge=0)  # recipients that a second may have above the account's rate
    daily_reserve: int = Field(0, ge=0)  # recipients of the 24 h quota that only the transactional lane may use
    bulk_calls_per_s: Literal["auto", "unlimited"] | Rate = "auto"  # SendBulkEmail calls of the whole account
    secret_key: SecretStr | None = None  # signs unsubscribe tokens; of several, by commas, the last signs and all verify
    unsubscribe_page: bool = False  # a worker serves /unsubscribe/{token}
    account_refresh_s: float = Field(60, gt=0)
    suppression_sync_s: float = Field(300, gt=0)  # how often what SES's suppression list has new is read
    events_sqs_url: str | None = None  # the queue that carries SES's events
    events_topic_arns: Annotated[tuple[str, ...], NoDecode] = ()  # SNS topics whose HTTP notifications are believed
    events_index: Index = Index.AUTO  # whether SES's message ids are kept, for notifications that carry no tags
    soft_bounces_suppress: int = Field(0, ge=0, le=100)  # soft bounces in a row after which an address is suppressed; 0: never
    unknown_grace_s: float = Field(900, ge=0)  # how long who is in doubt waits for an event
    unknown_transactional: Policy = Policy.RESEND  # and what happens then
    unknown_bulk: Policy = Policy.HOLD
    # How long Redis keeps what is finished: longer than the grace, or who is in doubt is forgotten before the policy acts.
    retention_s: int = Field(7 * 86_400, ge=60, validate_default=True)
    log_format: LogFormat | None = None  # console on a terminal, else json
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    senders: dict[str, Sender] = Field(default_factory=dict)

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
