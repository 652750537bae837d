"""The one class of settings.

Sources, first wins: arguments, environment (``MAILER_…``), the TOML file that ``MAILER_CONFIG`` names (``mailer.toml``
where there is one), defaults. AWS's own variables are boto's business and are not read here.
"""

from __future__ import annotations

import os
import tomllib
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from .email import Lane, Sender, explain_validation
from .errors import ConfigError, UnknownSender

DEFAULT_CONFIG = Path("mailer.toml")


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


class Settings(BaseSettings):
    """What an installation can set. Every field is an environment variable ``MAILER_<NAME>`` and a key of the TOML file."""

    model_config = SettingsConfigDict(env_prefix="MAILER_", extra="forbid", frozen=True, env_ignore_empty=True)

    redis_url: str = "redis://127.0.0.1:6379/0"
    namespace: str = Field("mailer", pattern=r"^[A-Za-z0-9_.-]{1,32}$")
    templates_dir: Path = Path("templates")
    store_url: str = "redis:"
    http_host: str = "127.0.0.1"
    http_port: int = Field(8080, ge=0, le=65535)
    lanes: Annotated[tuple[Lane, ...], NoDecode] = (Lane.TRANSACTIONAL, Lane.BULK)
    max_send_rate: float | None = Field(None, gt=0)  # recipients per second, where it should stay under the account's own
    account_refresh_s: float = Field(60, gt=0)
    retention_s: int = Field(7 * 86_400, ge=60)  # how long Redis keeps what is finished
    log_format: LogFormat | None = None  # console on a terminal, else json
    log_level: str = Field("INFO", pattern=r"^(DEBUG|INFO|WARNING|ERROR|CRITICAL)$")
    senders: dict[str, Sender] = Field(default_factory=dict)

    @field_validator("lanes", mode="before")
    @classmethod
    def _split_lanes(cls, value: Any) -> Any:
        names = [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else list(value)
        if not names:
            raise ValueError("name at least one lane: transactional, bulk")
        return tuple(dict.fromkeys(names))

    @field_validator("store_url")
    @classmethod
    def _known_store(cls, value: str) -> str:
        if value != "redis:":
            raise ValueError("only 'redis:' can be used in this version")
        return value

    @field_validator("redis_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        if value.split(":", 1)[0] not in ("redis", "rediss", "unix", "redis+sentinel"):
            raise ValueError("use redis://, rediss://, unix:// or redis+sentinel://")
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

    def sender(self, name: str) -> Sender:
        """The sender profile of that name. Raises UnknownSender, which lists the ones there are."""
        try:
            return self.senders[name]
        except KeyError:
            where = config_path() or "no mailer.toml was found"
            known = f"{where} has: {', '.join(sorted(self.senders))}" if self.senders else f"{where}, so add [senders.{name}]"
            if config_path() and not self.senders:
                known = f"{where} has none, so add [senders.{name}]"
            raise UnknownSender(name=name, known=known) from None


def config_path() -> Path | None:
    """The TOML file in use, or None."""
    named = os.environ.get("MAILER_CONFIG")
    if named:
        return Path(named)
    return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None


def load_settings(**overrides: Any) -> Settings:
    """Settings from all sources. Raises ConfigError with one sentence instead of pydantic's report."""
    path = config_path()
    if path and not path.is_file():
        raise ConfigError(where="MAILER_CONFIG", why=f"there is no file {path}; name one, or unset it")
    try:
        return Settings(**overrides)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(where=str(path), why=f"not TOML: {error}") from None
    except ValidationError as error:
        raise ConfigError(where=str(path or "settings"), why=explain_validation(error)) from None
