"""``callboard mcp``: an MCP client, the SDK's own, lists and calls what runs, over standard streams and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client, MCPError
from mcp.client.stdio import StdioServerParameters

from actors.clients.client import Client as Ours
from actors.components.component import ComponentInfo
from actors.mcp_server.answer import IMAGE_LIMIT_BYTES, answer, is_shown, refusal
from actors.mcp_server.offer import NAME_LIMIT_CHARS, offers
from actors.mcp_server.server import guarded, parse_address, serve_http
from bus.embedded import EmbeddedServer
from bus.errors import PeerError, UsageError
from bus.failure import Failure
from store.artifact import describe
from tests.stage import ROOT, Stage, stage
from tests.waiting import wait_until

LIMIT_S = 60
RUNNING = {"squares", "report", "busy", "sum_up", "wait_long", "reckoner"}


def environment(url: str) -> dict[str, str]:
    """What ``callboard mcp`` gets of the environment."""
    return {"NATS_URL": url, "PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}


def over_stdio(url: str, *arguments: str) -> Client:
    """The SDK's client with ``callboard mcp`` as its server."""
    command = ["-m", "cli", "mcp", *arguments]
    server = StdioServerParameters(command=sys.executable, args=command, env=environment(url), cwd=ROOT)
    return Client(server, read_timeout_seconds=LIMIT_S)


@contextlib.asynccontextmanager
async def over_http(url: str, tmp_path: Path, *arguments: str, **env: str) -> AsyncIterator[str]:
    """``callboard mcp --http``; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (tmp_path / "mcp.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", "mcp", "--http", f"127.0.0.1:{port}", *arguments, cwd=ROOT,
            stdout=log, stderr=log, env=environment(url) | env,
        )  # fmt: skip
    try:
        await wait_until(lambda: _listens(port), LIMIT_S, what=(tmp_path / "mcp.log").read_text)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), LIMIT_S) in (0, -signal.SIGTERM)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


async def ready(cast: Stage) -> None:
    """Until every component answers."""
    from bus.service import discover

    async def all_there() -> bool:
        return {service.name for service in await discover(cast.bus)} >= RUNNING

    await wait_until(all_there, LIMIT_S)


async def test_a_client_lists_and_calls_what_runs(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Tools answer at once, jobs with their progress; a cancelled call cancels its job; failures say what is right."""
    async with stage(nats_server.url, tmp_path, "tests.apps.calls:app", gateway=True, only=tuple(RUNNING)) as cast:
        await ready(cast)
        async with over_stdio(nats_server.url) as client:
            await check_tools(client)
            await check_jobs(client, cast)
        only = ("--only", "squares", "--only", "sum_up")
        async with (
            over_http(nats_server.url, tmp_path, *only) as url,
            Client(url, read_timeout_seconds=LIMIT_S) as client,
        ):
            assert [tool.name for tool in (await client.list_tools()).tools] == ["sum_up", "squares"]
            assert (await client.call_tool("squares", {"count": 1})).structured_content["rows"] == [[0, 0]]
            assert (await client.call_tool("sum_up", {"count": 3})).content[0].text == "5"


async def check_tools(client: Client) -> None:
    """What tools take and give."""
    tools = {tool.name: tool for tool in (await client.list_tools()).tools}
    assert set(tools) == RUNNING
    assert tools["squares"].description == "The first square numbers."
    assert tools["squares"].input_schema["properties"]["count"]["type"] == "integer"
    assert tools["squares"].annotations.read_only_hint and tools["busy"].annotations is None
    assert tools["squares"].output_schema and tools["busy"].output_schema is None
    answered = await client.call_tool("squares", {"count": 2})
    assert answered.structured_content == {"columns": ["n", "square"], "rows": [[0, 0], [1, 1]]}
    written: Any = (await client.call_tool("report", {"title": "May"})).structured_content
    assert written["files"][0]["name"] == "report.md"
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("squares", {"count": 101}, "too_many: 100 at most"), ("busy", {}, "busy: come back later"),
        ("squares", {"count": "x"}, "$.count"), ("sum_up", {}, "count"),
    ]  # fmt: skip
    for name, arguments, words in wrong:
        refused = await client.call_tool(name, arguments)
        assert refused.is_error and words in refused.content[0].text, refused
    with pytest.raises(MCPError, match="no tool 'circles'"):
        await client.call_tool("circles", {})


async def check_jobs(client: Client, cast: Stage) -> None:
    """A job's events are the progress of the call; a call that is given up takes its job with it."""
    said: list[str] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        said.append(f"{progress:g} {message}")

    answered = await client.call_tool("sum_up", {"count": 4})
    assert answered.content[0].text == "14"
    assert answered.meta and answered.meta["callboard/job"]
    waiting = asyncio.create_task(client.call_tool("wait_long", {}, progress_callback=hear))
    await wait_until(lambda: any("wait_long" in line for line in said), LIMIT_S)
    asked = await client.call_tool("reckoner", {"question": "What is the third?"})
    assert asked.content[0].text == "The last is 4."
    [job] = await Ours(cast.bus).find_jobs(workflow="wait_long")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    ended = await cast.end(job.job, deadline_s=LIMIT_S)
    assert (ended.kind, ended.by) == ("job.cancelled", "an MCP client")


async def test_nothing_but_the_protocol_is_on_standard_output(nats_server: EmbeddedServer) -> None:
    """Each line is a message of JSON-RPC, also with all that can be logged; it ends when its input does."""
    async with await connected_streams(nats_server.url):
        pass
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "mcp", cwd=ROOT, env=environment(nats_server.url) | {"CALLBOARD_LOG": "DEBUG"},
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin and process.stdout
    client = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    for message in ({"id": 1, "method": "initialize", "params": client}, {"method": "notifications/initialized"},
                    {"id": 2, "method": "tools/list"}):  # fmt: skip
        process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
    lines = [json.loads(await asyncio.wait_for(process.stdout.readline(), LIMIT_S)) for _ in range(2)]
    assert [line["id"] for line in lines] == [1, 2] and lines[1]["result"]["tools"] == []
    out, err = await asyncio.wait_for(process.communicate(b""), LIMIT_S)
    assert (out, process.returncode) == (b"", 0)
    assert b"[mcp]" in err


async def connected_streams(url: str) -> Any:
    """A bus whose streams and buckets are there, as after the start of any node."""
    from bus.connection import Bus
    from bus.options import ConnectOptions
    from bus.streams import ensure_streams

    bus = await Bus.connect(ConnectOptions(servers=[url]), name="test")
    await ensure_streams(bus)
    return bus


@pytest.mark.parametrize(
    ("header", "status"), [("", 401), ("Bearer other", 401), ("t0ken", 401), ("Bearer t0ken", 200)]
)
async def test_http_asks_for_the_token(header: str, status: int) -> None:
    """With a token in the environment nobody else gets in; other machines are served with one only."""
    said: list[Any] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"authorization", header.encode())] if header else []
    await guarded(app, "t0ken")({"type": "http", "headers": headers}, None, send)
    assert said[0]["status"] == status
    with pytest.raises(UsageError, match="reached by other machines"):
        await serve_http(None, "0.0.0.0", 1, "")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "address"),
    [("8765", ("127.0.0.1", 8765)), ("0.0.0.0:1", ("0.0.0.0", 1)), ("[::1]:80", ("::1", 80)), ("host", None),
     ("host:99999", None), ("", None)],
)  # fmt: skip
def test_addresses(text: str, address: tuple[str, int] | None) -> None:
    """A host and a port, or a port of this machine; anything else is refused."""
    if address:
        assert parse_address(text) == address
        return
    with pytest.raises(UsageError, match="is no address"):
        parse_address(text)


# ---- what clients are shown


def info(kind: str, name: str, version: str, **more: Any) -> ComponentInfo:
    """A component as the registry has it."""
    return ComponentInfo(kind=kind, name=name, app="shop", version=version, input_schema={}, output_schema={},
                         digest="", **more)  # type: ignore[arg-type] # fmt: skip


def test_what_shares_a_name_can_be_told_apart() -> None:
    """The newest of each major; older majors and other kinds have that in their names."""
    found = offers([info("job", "send", "1.0.0"), info("tool", "send", "2.1.0"), info("tool", "send", "2.0.0"),
                    info("tool", "send", "1.9.0"), info("agent", "clerk", "1.0.0")])  # fmt: skip
    assert [(each.name, each.info.version) for each in found] == [
        ("job_send", "1.0.0"), ("send", "2.1.0"), ("send_v1", "1.9.0"), ("clerk", "1.0.0")]  # fmt: skip
    assert found[-1].description == "An agent of app shop: clerk."


names = st.text("abAB09-_", min_size=1, max_size=90)


@given(st.lists(st.tuples(st.sampled_from(["tool", "job", "agent"]), names, st.integers(0, 3)), unique=True))
def test_every_component_has_a_name_that_clients_take(components: list[tuple[str, str, int]]) -> None:
    """All of them are offered, each under a name of its own that is no longer than what clients take."""
    infos = [info(kind, name, f"{major}.0.0") for kind, name, major in components]
    found = offers(infos)
    assert {each.info.name for each in found} == {each.name for each in infos} and len(found) == len(infos)
    assert len({each.name for each in found}) == len(found)
    assert all(0 < len(each.name) <= NAME_LIMIT_CHARS for each in found)


def test_answers() -> None:
    """A text goes as text, an object as structured content too, a picture as a picture, and a failure with its hint."""
    assert answer(b'"hi"').content[0].text == "hi"  # type: ignore[union-attr]
    assert answer(b'{"text": "hi", "files": []}').content[0].text == "hi"  # type: ignore[union-attr]
    assert answer(b'{"text": "hi", "rows": 3}').content[0].text == '{"text": "hi", "rows": 3}'  # type: ignore[union-attr]
    assert answer(b"[1]").structured_content is None
    image = describe("a.png", b"png")
    assert is_shown(image) and not is_shown(describe("a.txt", b"x"))
    assert not is_shown(msgspec.structs.replace(image, size_bytes=IMAGE_LIMIT_BYTES + 1))
    shown: Any = answer(b"{}", [(image, b"png")], job="j").content[1]
    assert (shown.mime_type, shown.data) == ("image/png", "cG5n")
    failed = refusal(PeerError(Failure(code="gone", message="it is gone", hint="look elsewhere")))
    assert failed.is_error and failed.content[0].text == "gone: it is gone\nhint: look elsewhere"  # type: ignore[union-attr]
