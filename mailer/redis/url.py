"""MAILER_REDIS_URL, read strictly: what cannot be read in one way only is refused, and nothing secret is ever shown of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

PORT, SENTINEL_PORT = 6379, 26379
SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
_WRITE = "in a user or password write : / ? # [ ] @ % as %3A %2F %3F %23 %5B %5D %40 %25"
_FORM = "write redis://user:password@host:6379/0"
_SENTINEL_FORM = "write redis+sentinel://host:port,host:port/service/db"
_SOCKET_FORM = "write the path of the socket from the root, with three slashes: unix:///run/redis/redis.sock?db=0"
_DATABASE = "the part after the last / must be the number of a database, as in redis://127.0.0.1:6379/0"
_HOST = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9._-]+)?\])(?::(?P<port>[0-9]{1,5}))?")


def _truth(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise ValueError


def _one_of(*words: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in words:
            raise ValueError
        return text

    return read


# What may stand after the ?, by how its value is read; all but the first five goes to redis-py's connections as it is.
_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "db": int,
    "username": str,
    "password": str,
    "sentinel_username": str,
    "sentinel_password": str,
    "ssl_ca_certs": str,
    "ssl_certfile": str,
    "ssl_keyfile": str,
    "ssl_cert_reqs": _one_of("required", "optional", "none"),
    "ssl_check_hostname": _truth,
    "client_name": str,
    "socket_timeout": float,
    "socket_connect_timeout": float,
    "socket_keepalive": _truth,
    "health_check_interval": int,
    "max_connections": int,
}
_OURS = ("db", "username", "password", "sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisUrl:
    scheme: str
    hosts: tuple[tuple[str, int], ...] = ()  # the server, or its Sentinels; none with a socket
    path: str = ""  # of a socket
    service: str = ""  # that Sentinels know the master by
    database: int = 0
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    sentinel_username: str | None = field(default=None, repr=False)
    sentinel_password: str | None = field(default=None, repr=False)
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def tls(self) -> bool:
        return self.scheme.startswith("rediss")

    @property
    def of_sentinels(self) -> bool:
        return self.scheme.endswith("+sentinel")

    def __str__(self) -> str:
        """Where it leads to, without user, password and options."""
        login = "***@" if self.username or self.password else ""
        if self.path:
            return f"{self.scheme}://{login}{self.path}"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        return f"{self.scheme}://{login}{hosts}/{self.service + '/' if self.service else ''}{self.database}"


def safe_url(url: str) -> str:
    """The URL as it may be shown: without user, password and options; of one that cannot be read, the scheme alone."""
    try:
        return str(parse(url))
    except ValueError:
        scheme = url.partition(":")[0]
        return f"{scheme if scheme in SCHEMES else 'redis'}://…"


def parse(url: str) -> RedisUrl:
    """Raises ValueError with half a sentence, in which nothing of the URL is quoted: any part of it may be a password."""
    scheme, found, rest = url.partition("://")
    if not found or scheme not in SCHEMES:
        raise ValueError("use redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://")
    if "#" in rest:
        raise ValueError(f"there is a # in it: {_WRITE}")
    if any(character.isspace() or not character.isprintable() for character in rest):
        raise ValueError(f"there is white space in it; {_FORM}")
    rest, _, query = rest.partition("?")
    if "@" in query:
        raise ValueError(f"there is an @ after a ?: {_WRITE}")
    options = _options(query)
    if scheme == "unix":
        return _socket(rest, options)
    authority, _, path = rest.partition("/")
    if "@" in path:
        raise ValueError(f"there is an @ after a /: {_WRITE}")
    login, _, hosts = authority.rpartition("@")
    if scheme.endswith("+sentinel"):
        return _sentinels(scheme, login, hosts, path, options)
    if not re.fullmatch(r"([0-9]{1,9})?/?", path):
        raise ValueError(_DATABASE)
    database = int(path.strip("/") or 0)
    return _url(scheme, login, options, hosts=(_host(hosts or "localhost", PORT, _FORM),), database=database)


def _url(scheme: str, login: str, options: dict[str, Any], **where: Any) -> RedisUrl:
    """`?…` holds before what stands elsewhere, as with redis-py."""
    user, _, password = login.partition(":")
    said: dict[str, Any] = {"username": unquote(user) or None, "password": unquote(password) or None, **where}
    said |= {("database" if name == "db" else name): options.pop(name) for name in _OURS if name in options}
    return RedisUrl(scheme=scheme, options=options, **said)


def _socket(rest: str, options: dict[str, Any]) -> RedisUrl:
    login, slash, path = rest.partition("/")
    if not slash or not path or (login and not login.endswith("@")):
        if "@" in path:
            raise ValueError(f"there is an @ after a /: {_WRITE}")
        raise ValueError(_SOCKET_FORM)
    return _url("unix", login[:-1], options, path=unquote(f"/{path}"))


def _sentinels(scheme: str, login: str, hosts: str, path: str, options: dict[str, Any]) -> RedisUrl:
    service, _, database = path.rstrip("/").partition("/")
    if not hosts or not service or not re.fullmatch(r"([0-9]{1,9})?", database):
        raise ValueError(_SENTINEL_FORM)
    sentinels = tuple(_host(host, SENTINEL_PORT, _SENTINEL_FORM) for host in hosts.split(",") if host)
    if not sentinels:
        raise ValueError(_SENTINEL_FORM)
    return _url(scheme, login, options, hosts=sentinels, service=unquote(service), database=int(database or 0))


def _host(text: str, port: int, form: str) -> tuple[str, int]:
    found = _HOST.fullmatch(text)
    if found is None or not 0 < int(found["port"] or port) < 65536:
        raise ValueError(f"its host or port cannot be read; {form}; {_WRITE}")
    return found["host"].strip("[]"), int(found["port"] or port)


def _options(query: str) -> dict[str, Any]:
    options = dict[str, Any]()
    for part in query.split("&") if query else ():
        name, _, value = part.partition("=")
        read = _OPTIONS.get(name)
        if read is None:
            raise ValueError(f"after the ? it may have {', '.join(_OPTIONS)}, and nothing else; {_WRITE}")
        try:
            options[name] = read(unquote(value))
        except ValueError:
            raise ValueError(f"the value of {name} after the ? cannot be read") from None
    if options.get("db", 0) < 0:
        raise ValueError("the value of db after the ? cannot be read")
    return options
