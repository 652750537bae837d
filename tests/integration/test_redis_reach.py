"""The ways to Redis: TLS, sockets, Sentinel. What is wrong with one is said as what it is, with what to do."""

from __future__ import annotations

import asyncio
import re
import shutil
import signal
import ssl
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import redis

from mailer import Email, Mailer, Settings
from mailer.cli.processes import free_port
from mailer.errors import ConfigError, RedisUnavailable
from mailer.queue import connect, disconnect, ping

from ..certificates import Signed, sign
from ..servers import RedisServer, has_tls, server_binary

needs_tls = pytest.mark.skipif(not has_tls(), reason="this server is built without TLS")


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    """Short, for a socket's path has 100 characters at most."""
    folder = Path(tempfile.mkdtemp(prefix="mailer-test-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def ca(folder: Path) -> Signed:
    return sign(folder, "ca")


@asynccontextmanager
async def tls(server: RedisServer, of: Signed, *, asks: Signed | None = None) -> AsyncIterator[int]:
    """A port for TLS before the server, as stunnel makes one. `asks`: for a client's certificate of this CA."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(of.pem, of.key_pem)
    if asks:
        context.load_verify_locations(asks.pem)
        context.verify_mode = ssl.CERT_REQUIRED

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with AsyncExitStack() as stack:
            stack.callback(writer.transport.abort)
            try:
                answers, onward = await asyncio.open_connection("127.0.0.1", server.port)
                stack.callback(onward.transport.abort)
                pumps = [asyncio.ensure_future(pump(reader, onward)), asyncio.ensure_future(pump(answers, writer))]
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for one in pumps:
                    one.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
            except (OSError, asyncio.CancelledError):
                pass

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as front:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # a handshake that fails is what is tested
        yield front.sockets[0].getsockname()[1]


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while part := await reader.read(65536):
        writer.write(part)
        await writer.drain()


async def said(url: str) -> str:
    """What a command or worker says that cannot use it. It does not take long."""
    began, settings = time.monotonic(), Settings(redis_url=url)
    try:
        client = connect(settings, timeout=15)
    except ConfigError as error:
        return str(error)
    with pytest.raises(RedisUnavailable) as raised:
        await ping(client, settings)
    await disconnect(client)
    assert time.monotonic() - began < 5
    return str(raised.value)


# ---- TLS ---------------------------------------------------------------------------------------------------------------


async def test_a_certificate_of_one_s_own_ca_is_taken_where_the_url_or_the_variable_names_it(
    server: RedisServer, folder: Path, ca: Signed, monkeypatch: pytest.MonkeyPatch, namespace: str
) -> None:
    async with tls(server, sign(folder, "localhost", ca)) as port:
        url = f"rediss://localhost:{port}/0"
        for options in (f"?ssl_ca_certs={ca.pem}", f"?ssl_ca_certs={ca.pem}&ssl_check_hostname=true", "?ssl_cert_reqs=none"):
            async with Mailer(Settings(redis_url=url + options, namespace=namespace)) as mailer:
                assert await mailer.campaigns() == []
        assert "its certificate is not trusted: " in (text := await said(url))
        assert "Name the CA: ?ssl_ca_certs=/path/ca.pem at the end of MAILER_REDIS_URL, or the variable SSL_CERT_FILE" in text
        monkeypatch.setenv("SSL_CERT_FILE", str(ca.pem))
        async with Mailer(Settings(redis_url=url, namespace=namespace)) as mailer:
            assert await mailer.campaigns() == []


async def test_what_is_wrong_with_tls_is_said_as_what_it_is(server: RedisServer, folder: Path, ca: Signed) -> None:
    named, ours = f"?ssl_ca_certs={ca.pem}", sign(folder, "localhost", ca)
    async with (
        tls(server, ours) as port,
        tls(server, ours, asks=ca) as asking,
        tls(server, sign(folder, "old", ca, days=-1)) as old,
    ):
        for url, why, do in [
            (
                f"redis://localhost:{port}/0",
                "it ends the connection unanswered, as a port for TLS does",
                "Begin MAILER_REDIS_URL with rediss://",
            ),
            (
                f"rediss://localhost:{server.port}/0",
                "what answers there does not speak TLS",
                "Use its TLS port, or begin MAILER_REDIS_URL with redis://",
            ),
            (
                f"rediss://127.0.0.1:{port}/0{named}&ssl_check_hostname=true",
                "not valid for '127.0.0.1'",
                "Use the name in MAILER_REDIS_URL",
            ),
            (f"rediss://localhost:{old}/0{named}", "certificate has expired", "Renew the certificate"),
            (f"rediss://localhost:{asking}/0{named}", "wants a certificate of this client", "ive it one: ?ssl_certfile="),
            (f"rediss://localhost:{free_port()}/0{named}", "nothing answers there", "Start it"),
        ]:
            text = await said(url)
            assert why in text, text
            assert do in text, text
            assert ("tart it" in text) is (why == "nothing answers there")
        both = f"rediss://localhost:{asking}/0{named}&ssl_certfile={ours.pem}&ssl_keyfile={ours.key_pem}"
        async with Mailer(Settings(redis_url=both)) as mailer:
            await mailer.campaigns()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ("ssl_ca_certs=/no/such.pem", "ssl_ca_certs names /no/such.pem, and there is no such file"),
        ("ssl_certfile=/dev/null&ssl_keyfile=/dev/null", "ssl_certfile names /dev/null, and there is no such file"),
        ("ssl_ca_certs={folder}/not.pem", "must name PEM files"),
        ("ssl_certfile={folder}/ca.pem&ssl_keyfile={folder}/other.key", "the key must be that of the certificate"),
    ],
)
def test_a_file_of_tls_that_cannot_be_used_is_named_before_anything_is_connected(
    folder: Path, ca: Signed, options: str, why: str
) -> None:
    (folder / "not.pem").write_text("something else")
    sign(folder, "other")
    with pytest.raises(ConfigError, match=f"MAILER_REDIS_URL: .*{why}"):
        connect(Settings(redis_url=f"rediss://h:1/0?{options.format(folder=folder)}"))


@contextmanager
def tls_server(folder: Path, ours: Signed, ca: Signed, *options: str) -> Iterator[tuple[RedisServer, int]]:
    """One that speaks TLS itself, and the port where it does."""
    port = free_port()
    files = ("--tls-cert-file", str(ours.pem), "--tls-key-file", str(ours.key_pem), "--tls-ca-cert-file", str(ca.pem))
    server = RedisServer(options=("--tls-port", str(port), *files, *options))
    server.start()
    try:
        yield server, port
    finally:
        server.remove()


@needs_tls
async def test_a_server_that_speaks_tls_itself_is_told_as_the_same(folder: Path, ca: Signed) -> None:
    with tls_server(folder, ours := sign(folder, "localhost", ca), ca) as (server, port):
        url = f"rediss://localhost:{port}/0?ssl_ca_certs={ca.pem}"
        async with Mailer(Settings(redis_url=f"{url}&ssl_certfile={ours.pem}&ssl_keyfile={ours.key_pem}")) as mailer:
            await mailer.campaigns()
        assert "wants a certificate of this client" in await said(url)
        assert "as a port for TLS does" in await said(f"redis://localhost:{port}/0")
        assert "what answers there does not speak TLS" in await said(f"rediss://localhost:{server.port}/0")
        assert "Name the CA: ?ssl_ca_certs=" in await said(f"rediss://localhost:{port}/0")


# ---- sockets -----------------------------------------------------------------------------------------------------------


async def test_what_is_wrong_with_a_socket_is_said_as_what_it_is(folder: Path, namespace: str) -> None:
    path = folder / "s"
    server = RedisServer(options=("--unixsocket", str(path), "--requirepass", "sesame"))
    server.start()
    try:
        async with Mailer(Settings(redis_url=f"unix://:sesame@{path}?db=1", namespace=namespace)) as mailer:
            assert await mailer.campaigns() == []
        for url, why, do in [
            (f"unix://{path}", "it wants a user and password", "Put the right user and password into MAILER_REDIS_URL"),
            (f"unix://:geheim@{path}", "it does not take this user and password", "unix://user:password@/path"),
            (f"unix://{path}?password=geheim", "it does not take this user and password", "Put the right user and password"),
            (f"unix://{folder}/nothing", "there is no socket of this path", "Start it with `unixsocket`, or correct the path"),
        ]:
            text = await said(url)
            assert f"{why}. " in text
            assert do in text
            assert "geheim" not in text
    finally:
        server.remove()
    (folder / "dead").touch()
    assert "nothing answers there. Start it" in await said(f"unix://{folder}/dead")


# ---- Sentinel ----------------------------------------------------------------------------------------------------------


@contextmanager
def sentinel(folder: Path, master: RedisServer, *lines: str, port: int | None = None) -> Iterator[int]:
    """One that gives its master up after half a second."""
    port, config = port or free_port(), folder / f"sentinel-{master.port}.conf"
    watched = [f"sentinel monitor main 127.0.0.1 {master.port} 1", "sentinel down-after-milliseconds main 500"]
    config.write_text("\n".join([f"port {port}", "bind 127.0.0.1", *watched, "sentinel failover-timeout main 3000", *lines, ""]))
    process = subprocess.Popen([server_binary(), str(config), "--sentinel"], stdout=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait()


def knows(port: int, *, replicas: int = 0, password: str | None = None) -> None:
    """Wait until it has found them."""
    with redis.Redis(port=port, password=password) as client:
        for _ in range(200):
            try:
                if client.sentinel_master("main")["num-slaves"] >= replicas:
                    return
            except redis.RedisError:
                pass
            time.sleep(0.05)
    raise AssertionError("the Sentinel does not see its servers")


async def test_a_command_and_a_call_wait_out_a_fail_over_by_sentinel(folder: Path, namespace: str) -> None:
    master = RedisServer(options=("--repl-diskless-sync-delay", "0"))
    master.start()
    replica = RedisServer(options=("--replicaof", "127.0.0.1", str(master.port)))
    replica.start()
    letter = Email(to="ana@example.org", from_="news@example.com", subject="Hello", text="Hello")
    try:
        with sentinel(folder, master, "sentinel down-after-milliseconds main 2000") as port:
            knows(port, replicas=1)
            settings = Settings(redis_url=f"redis+sentinel://127.0.0.1:{port}/main/0", namespace=namespace)
            async with Mailer(settings, timeout=15) as mailer:
                ids = [await mailer.send(letter)]
                with redis.Redis.from_url(master.url) as client:
                    client.set("t:x", 1)  # WAIT is for the writes of its connection, and of what came before
                    assert client.wait(1, 15_000) == 1
                master.stop(signal.SIGKILL)
                by_open_connections = asyncio.ensure_future(mailer.send(letter))
                async with Mailer(settings, timeout=15) as another:  # which knows of nothing
                    ids += [await another.send(letter), await by_open_connections]
                assert {(await mailer.status(id)).state for id in ids} == {"queued"}
            with redis.Redis.from_url(replica.url) as client:
                assert client.info("replication")["role"] == "master"
    finally:
        master.remove()
        replica.remove()


async def test_a_fail_over_that_takes_too_long_is_told_as_one(folder: Path) -> None:
    master = RedisServer()
    master.start()
    with sentinel(folder, master) as port:
        knows(port)
        settings = Settings(redis_url=f"redis+sentinel://127.0.0.1:{port}/main/0")
        async with Mailer(settings, timeout=2) as mailer:
            master.stop(signal.SIGKILL)
            await asyncio.sleep(1)
            with pytest.raises(RedisUnavailable):
                await mailer.campaigns()
            client = connect(settings, timeout=1)
            with pytest.raises(RedisUnavailable, match=r"know no master that is up\. Wait for the end of the fail-over"):
                await ping(client, settings)
            await disconnect(client)
    master.remove()


async def test_what_is_wrong_with_sentinels_is_told_as_what_it_is_and_soon(folder: Path, server: RedisServer) -> None:
    with sentinel(folder, server) as port:
        knows(port)
        text = await said(f"redis+sentinel://127.0.0.1:{port}/other/0")
        assert "its Sentinels know no master of this name. Correct the name of the service" in text
    assert "none of its Sentinels answers. Start them" in await said(f"redis+sentinel://127.0.0.1:{port},127.0.0.1:1/main/0")


async def test_a_redis_in_the_place_of_a_sentinel_is_told_as_that_and_passed_over_where_a_sentinel_answers(
    folder: Path, server: RedisServer, namespace: str
) -> None:
    text = await said(f"redis+sentinel://127.0.0.1:{server.port}/main/0")
    assert text.endswith(
        "a Redis answers there, and no Sentinel. Name the Sentinels in MAILER_REDIS_URL (redis+sentinel://host:26379/service/0), "
        "or that Redis alone (redis://host:6379/0)."
    )
    assert "unknown command" not in text
    with sentinel(folder, server) as port:
        knows(port)
        url = f"redis+sentinel://127.0.0.1:{server.port},127.0.0.1:{port}/main/0"
        async with Mailer(Settings(redis_url=url, namespace=namespace)) as mailer:
            assert await mailer.campaigns() == []
        async with Mailer(Settings(redis_url=f"redis://127.0.0.1:{port}/0"), timeout=5) as mailer:
            with pytest.raises(RedisUnavailable, match=r"If it is a Sentinel, write redis\+sentinel://host:port/service/0"):
                await mailer.campaigns()


@pytest.mark.parametrize("number", [16, 99, 12_345])
async def test_a_database_that_the_server_does_not_have_is_told_with_those_that_most_have(
    server: RedisServer, number: int
) -> None:
    assert (await said(f"redis://127.0.0.1:{server.port}/{number}")).endswith(
        "it has no database of the number that MAILER_REDIS_URL names. Write another number at the end of MAILER_REDIS_URL, such "
        "as redis://host:6379/0; most servers have databases 0 to 15."
    )


async def test_sentinels_may_have_a_password_of_their_own(folder: Path, namespace: str) -> None:
    master = RedisServer(options=("--requirepass", "sesame"))
    master.start()
    lines = ("sentinel auth-pass main sesame", "requirepass geheim")
    try:
        with sentinel(folder, master, *lines) as port:
            knows(port, password="geheim")
            place = f":sesame@127.0.0.1:{port}/main/0"
            async with Mailer(
                Settings(redis_url=f"redis+sentinel://{place}?sentinel_password=geheim", namespace=namespace)
            ) as mailer:
                assert await mailer.campaigns() == []
            text = await said(f"redis+sentinel://{place}")
            assert re.search("it does not take this user and password.*Put the right", text)
            assert "sesame" not in text
    finally:
        master.remove()


@needs_tls
async def test_sentinels_and_their_servers_may_speak_tls(folder: Path, ca: Signed, namespace: str) -> None:
    ours = sign(folder, "localhost", ca)
    with tls_server(folder, ours, ca, "--tls-auth-clients", "no", "--tls-replication", "yes") as (server, port):
        by_tls, lines = free_port(), [f"tls-cert-file {ours.pem}", f"tls-key-file {ours.key_pem}", f"tls-ca-cert-file {ca.pem}"]
        lines += [f"tls-port {by_tls}", "tls-auth-clients no", "tls-replication yes"]
        plain, server.port = server.port, port
        with sentinel(folder, server, *lines) as its:
            server.port = plain
            knows(its)
            url = f"rediss+sentinel://localhost:{by_tls}/main/0?ssl_ca_certs={ca.pem}"
            async with Mailer(Settings(redis_url=url, namespace=namespace)) as mailer:
                assert await mailer.campaigns() == []
            assert "none of its Sentinels answers" in await said(f"redis+sentinel://localhost:{by_tls}/main/0")
