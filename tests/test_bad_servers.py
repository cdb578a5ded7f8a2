"""Servers that are away, old, full, strict, or none: a clear error at once, and nothing that was accepted is lost."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from actors.jobs.requests import JobRequest, publish_request
from actors.node.process import CONNECT_VARIABLE, EXIT_BUS_CLOSED, EXIT_CONFIG
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import BusUnreachable, PermissionRefused, ServerUnsuitable, StreamFull
from bus.messages import JobCompleted, Signal
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import EVENTS, ensure_streams
from store.artifacts import CLAIM_BYTES
from store.log import append_unfenced, read_job
from tests.actor_process import run_actor
from tests.stage import stage
from tests.waiting import wait_until

BAD = "tests.apps.bad:app"
REFUSED_PORT = "nats://127.0.0.1:1"
USERS = """authorization { users = [
  { user: all, password: pw }
  { user: reader, password: pw, permissions: { publish: { deny: ["log.>", "jobs.>"] } } }
  { user: deaf, password: pw, permissions: { subscribe: { deny: "_INBOX.>" } } }
  { user: lowly, password: pw, permissions: { publish: { deny: "$JS.API.>" } } }
] }"""
SMALL_ACCOUNT = "accounts { A { jetstream: { max_file: 2MB, max_mem: 1MB }, users: [ { user: a, password: a } ] } }"


def options(url: str, user: str = "", password: str = "pw") -> ConnectOptions:
    """How to connect, as that user."""
    return ConnectOptions(servers=[url], user=user, password=password if user else "")


def as_user(url: str, user: str, password: str = "pw") -> str:
    """The URL with the credentials in it."""
    return url.replace("://", f"://{user}:{password}@")


@contextlib.asynccontextmanager
async def fake_server(greeting: bytes) -> AsyncIterator[str]:
    """Something that listens, says ``greeting``, and answers pings."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        writer.write(greeting)
        with contextlib.suppress(OSError):
            while line := await reader.readline():
                if line.startswith(b"PING"):
                    writer.write(b"PONG\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


# ---- none, old, other


async def test_no_server() -> None:
    """The error comes within the time-out, names the address and says what to do."""
    began_s = time.monotonic()
    with pytest.raises(BusUnreachable, match=r"no NATS server at nats://127.0.0.1:1.*callboard up"):
        await Bus.connect(options(REFUSED_PORT), timeout_s=0.5)
    assert time.monotonic() - began_s < 5


@pytest.mark.parametrize(
    ("version", "words"), [("2.9.25", "nats-server 2.9.25 is too old .2.12"), ("odd", "odd is not a valid")]
)
async def test_old_server(version: str, words: str) -> None:
    """An old server, or one whose version nobody understands, is refused, and the connection is closed again."""
    greeting = f'INFO {{"server_id":"X","version":"{version}","headers":true,"max_payload":1048576}}\r\n'
    async with fake_server(greeting.encode()) as url:
        with pytest.raises(ServerUnsuitable, match=words):
            await Bus.connect(options(url))


@pytest.mark.parametrize("greeting", [b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"INFO {\r\n"])
async def test_listener_that_is_no_nats_server(greeting: bytes) -> None:
    """The error says that something else listens there."""
    async with fake_server(greeting) as url:
        with pytest.raises(BusUnreachable, match=f"what listens at {url} is no NATS server.*check host and port"):
            await Bus.connect(options(url), timeout_s=0.5)


async def test_listener_that_says_nothing() -> None:
    """It counts as no server."""
    async with fake_server(b"") as url:
        with pytest.raises(BusUnreachable, match=f"no NATS server at {url}"):
            await Bus.connect(options(url), timeout_s=0.5)


async def test_old_server_ends_an_actor(tmp_path: Path) -> None:
    """The process ends with an error line instead of a traceback."""
    greeting = b'INFO {"server_id":"X","version":"2.9.25","headers":true,"max_payload":1048576}\r\n'
    async with fake_server(greeting) as url:
        code, err = await run_actor(options(url), tmp_path, "gateway")
    assert code == EXIT_BUS_CLOSED
    assert "error: nats-server 2.9.25 is too old" in err
    assert "Traceback" not in err


async def test_jetstream_off(tmp_path: Path) -> None:
    """Said by the library and by the actor's process, with what to do."""
    async with await EmbeddedServer.start(jetstream=False) as server:
        async with await Bus.connect(options(server.url)) as bus:
            with pytest.raises(ServerUnsuitable, match=r"JetStream is off.*nats-server -js"):
                await ensure_streams(bus)
        code, err = await run_actor(options(server.url), tmp_path, "tool", BAD, "act", "1")
    assert code == EXIT_BUS_CLOSED
    assert "error: JetStream is off" in err
    assert "Traceback" not in err


async def test_jetstream_off_for_the_account() -> None:
    """An account without JetStream on a server that has it."""
    config = (
        "accounts { A { jetstream: enabled, users: [ { user: a, password: a } ] }"
        ", N { users: [ { user: n, password: pw } ] } }"
    )
    async with (
        await EmbeddedServer.start(config=config) as server,
        await Bus.connect(options(server.url, "n")) as bus,
    ):
        with pytest.raises(ServerUnsuitable, match="JetStream is off: JetStream not enabled for account"):
            await ensure_streams(bus)


# ---- credentials and permissions


@pytest.mark.parametrize(("user", "password"), [("", ""), ("all", "wrong"), ("nobody", "pw")])
async def test_wrong_credentials(tmp_path: Path, user: str, password: str) -> None:
    """Told at once, also to an actor that would wait for an absent server for ever."""
    async with await EmbeddedServer.start(config=USERS) as server:
        connect = options(server.url, user, password)
        async with asyncio.timeout(3):
            with pytest.raises(BusUnreachable, match=r"refuses these credentials: .*Authorization Violation"):
                await Bus.connect(connect, timeout_s=float("inf"))
        code, err = await run_actor(connect, tmp_path, "gateway")
    assert code == EXIT_BUS_CLOSED
    assert "refuses these credentials" in err
    assert "Traceback" not in err


async def test_no_permission(tmp_path: Path) -> None:
    """Refused at once instead of after the time-out, with the subject; other requests go on."""
    async with await EmbeddedServer.start(config=USERS) as server:
        async with await Bus.connect(options(server.url, "all")) as bus:
            await ensure_streams(bus)
        async with await Bus.connect(options(server.url, "reader")) as bus, asyncio.timeout(3):
            blobs = Blobs(bus)
            with pytest.raises(PermissionRefused, match=r'publish to "log.default.job-1.signal.go"') as caught:
                await append_unfenced(bus, blobs, "default", Signal(job="Job-1", name="go"))
            assert caught.value.subject == "log.default.job-1.signal.go"
            with pytest.raises(PermissionRefused, match=r'publish to "jobs.default.order"'):
                await publish_request(bus, blobs, JobRequest(workflow="order", job="j1"))
            assert await read_job(bus, blobs, "default", "Job-1") == []
        async with await Bus.connect(options(server.url, "lowly")) as bus, asyncio.timeout(3):
            with pytest.raises(PermissionRefused, match=r"js.api.stream.info"):
                await ensure_streams(bus)
        code, err = await run_actor(options(server.url, "lowly"), tmp_path, "gateway")
    assert code == EXIT_BUS_CLOSED
    assert "error: nats: permissions violation for publish" in err


async def test_no_permission_for_the_inbox() -> None:
    """Without an inbox every request would time out, so the connection says it."""
    async with await EmbeddedServer.start(config=USERS) as server:
        async with asyncio.timeout(3):
            with pytest.raises(PermissionRefused, match=r"_inbox.*inbox_prefix"):
                await Bus.connect(options(server.url, "deaf"))


async def test_tool_that_may_not_reply(tmp_path: Path) -> None:
    """Its calls are handed back ever more slowly and not run again and again; another node's tool serves them."""
    async with await EmbeddedServer.start(config=USERS) as server:
        url = as_user(server.url, "all")
        strict = {CONNECT_VARIABLE: msgspec.json.encode(options(server.url, "reader")).decode()}
        async with stage(url, tmp_path, BAD, only=("ask",)) as on:
            async with stage(url, tmp_path, BAD, env=strict, only=("act",), node="n2"):
                await on.submit("ask", "mute", {"tool": "act", "mode": "ok"})
                await wait_until(lambda: bool(on.effects()))

                async def handed_back() -> bool:
                    info = await on.bus.api(f"CONSUMER.INFO.{EVENTS}.tool-act-v1")
                    return bool(info["num_redelivered"] and info["delivered"]["consumer_seq"] >= 3)

                await wait_until(handed_back)
                assert on.effects() == ["mute/act:1 1"]
            async with stage(url, tmp_path, BAD, only=("act",), node="n3"):
                assert isinstance(await on.end("mute"), JobCompleted)


# ---- full


@pytest.mark.parametrize(
    ("config", "user"), [("jetstream { max_file_store: 2MB }", ""), (SMALL_ACCOUNT, "a")], ids=["server", "account"]
)
async def test_full_store_is_backpressure(tmp_path: Path, config: str, user: str) -> None:
    """Submits are told that it is full; jobs that run wait, big results too, and go on when there is room."""
    async with await EmbeddedServer.start(config=config) as server:
        url = as_user(server.url, user, "a") if user else server.url
        async with stage(url, tmp_path, BAD, only=("big", "ask")) as on:
            await on.submit("ask", "first", {"tool": "big", "mode": "ok", "n": 10})
            await on.end("first")
            ballast = await fill(on.bus)
            with pytest.raises(StreamFull, match=r"insufficient resources|resource limits exceeded"):
                await publish_request(on.bus, on.blobs, JobRequest(workflow="ask", job="no", input=b"1" * 100_000))
            with pytest.raises(StreamFull):
                await on.blobs.put(b"x" * 400_000)
            for sequence in ballast[:1]:  # room for a small job's first steps, not for the result
                await on.bus.api(f"STREAM.MSG.DELETE.{EVENTS}", {"seq": sequence})
            await on.submit("ask", "waits", {"tool": "big", "mode": "ok", "n": CLAIM_BYTES + 1000})
            await wait_until(lambda: on.effects() == ["first/big:1 1", "waits/big:1 1"], what=lambda: str(on.effects()))
            await on.bus.api(f"STREAM.PURGE.{EVENTS}", {"filter": "log.default.ballast.>"})
            end = await on.end("waits")
            assert isinstance(end, JobCompleted), end
            assert on.effects() == ["first/big:1 1", "waits/big:1 1"]
            assert all(status.restarts == 0 for status in on.supervisor.statuses())


async def fill(bus: Bus) -> list[int]:
    """Write until nothing fits any more; the sequences."""
    sequences = []
    for size in (100_000, 20_000, 2_000):
        with contextlib.suppress(StreamFull):
            while True:
                sequences.append(await bus.append("log.default.ballast.signal.x", b"x" * size))
    return sequences


async def test_full_log_is_backpressure(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The same for a limit of the stream itself."""
    async with stage(nats_server.url, tmp_path, BAD, only=("big", "ask")) as on:
        await on.submit("ask", "first", {"tool": "big", "mode": "ok", "n": 10})
        await on.end("first")
        info = await on.bus.api(f"STREAM.INFO.{EVENTS}")
        used = info["state"]["messages"]
        await on.bus.api(f"STREAM.UPDATE.{EVENTS}", info["config"] | {"max_msgs": used + 2})
        await on.submit("ask", "waits", {"tool": "big", "mode": "ok", "n": 10})

        async def full() -> bool:
            state = (await on.bus.api(f"STREAM.INFO.{EVENTS}"))["state"]
            return bool(state["messages"] == used + 2)

        await wait_until(full)
        await on.bus.api(f"STREAM.UPDATE.{EVENTS}", info["config"])
        end = await on.end("waits")
        assert isinstance(end, JobCompleted), end
        assert all(status.restarts == 0 for status in on.supervisor.statuses())


def test_exit_codes() -> None:
    """What a supervisor and an operator may rely on (sysexits.h)."""
    assert (EXIT_CONFIG, EXIT_BUS_CLOSED) == (78, 69)
