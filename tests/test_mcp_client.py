"""Kit ``Mcp``: tools of a real MCP server as ours; how they fail, how the server's death is met, and what is kept."""

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
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import App, RetryableError, TerminalError, ToolContext
from actors.command_bodies.describe import describe
from actors.components.codec import InvalidInput
from actors.components.component import Component
from actors.toolbox import Mcp
from actors.toolbox.kit import asking_anew
from actors.toolbox.mcp import listing
from actors.toolbox.mcp.connection import ServerAway
from actors.toolbox.mcp.content import McpResult, pieces_of, text_of
from actors.toolbox.mcp.listing import ListedTool, Listing
from actors.toolbox.mcp.target import McpTarget
from actors.tools.invocation import Invocation
from actors.tools.run_here import HeldBlobs
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import ReplyRetrying
from bus.paths import DATA_DIR_VARIABLE
from store.artifact import describe as describe_artifact
from tests.apps.mcp_tools import SERVER
from tests.stage import ROOT, stage
from tests.waiting import wait_until

LIMIT_S = 60


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listings of other tests are not seen."""
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "data"))


def command(log: Path, *more: str) -> list[str]:
    """The small server."""
    return [sys.executable, str(SERVER), "--log", str(log), *more]


def noted(log: Path, what: str) -> list[int]:
    """The pids of the servers that noted this, in order."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [int(line.partition(" ")[0]) for line in lines if line.partition(" ")[2] == what]


def used(kit: Mcp) -> dict[str, Component[..., Any]]:
    """The kit's tools by name, in an app of their own."""
    return {tool.name: tool for tool in App("mine", version="1.0.0").use(kit).tools}


async def ask(
    tool: Component[..., Any], *, blobs: HeldBlobs | None = None, hear: Any = None, **values: Any
) -> McpResult:
    """One attempt at the tool, as a tool actor makes it."""
    arguments = tool.decode_input(json.dumps(values).encode())
    context = ToolContext("w", "j", "c", _blobs=blobs, _report=hear)
    result = await Invocation(tool, context, arguments, None).outcome(LIMIT_S)  # type: ignore[arg-type]
    assert isinstance(result, McpResult)
    tool.encode_output(result)
    return result


# ---- the tools


async def test_tools_of_a_server_are_tools_of_ours(tmp_path: Path) -> None:
    """Names, schemas, results, files, failures and progress come over as they are; one session serves all calls."""
    log = tmp_path / "log"
    tools = used(Mcp(command(log), name="small"))
    assert len(tools) == 8 and "small_math_add" in tools
    add = tools["small_math_add"]
    assert add.input_schema["required"] == ["a"] and add.description == "Add two numbers."
    assert add.output_schema["properties"]["data"]["anyOf"][0]["required"] == ["sum"]
    assert (await ask(tools["small_echo"], text="hi")).text == "hi"
    assert (await ask(add, a=2, b=3)).data == {"sum": 5}
    assert add.decode_output(add.bind_input((), {"a": 1}).replace(b'{"a":1}', b"{}")) == McpResult()
    for wrong in ({}, {"text": 1}, {"text": "x", "more": 1}):
        with pytest.raises(InvalidInput):
            await ask(tools["small_echo"], **wrong)
    with pytest.raises(TerminalError, match="no such page\ntry another"):
        await ask(tools["small_fail"])
    blobs = HeldBlobs()
    picture = await ask(tools["small_picture"], blobs=blobs)
    assert picture.text == "look\nthe page\nmore: docs://more"
    assert [file.name for file in picture.files] == ["image.png", "image-2.png", "data.bin"]
    assert await blobs.get(picture.files[0].sha256) == b"png"
    assert len(set(noted(log, "start"))) == 2  # one for the listing, one for all calls
    await check_slow(tools["small_slow"], log)
    await check_death(tools, log)


async def check_slow(slow: Component[..., Any], log: Path) -> None:
    """Its progress is told; a call that is given up is given up at the server too."""
    reports: list[tuple[float, float | None, str]] = []
    running = asyncio.create_task(ask(slow, hear=lambda *report: reports.append(report)))
    await wait_until(lambda: len(reports) > 2, LIMIT_S)
    assert reports[0] == (0, 600, "step 0")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await wait_until(lambda: noted(log, "cancelled"), LIMIT_S)


async def check_death(tools: dict[str, Component[..., Any]], log: Path) -> None:
    """A server that dies under a call makes it retryable; the next call has another server."""
    before = noted(log, "start")[-1]
    with pytest.raises(RetryableError, match="went away during the call of die"):
        await ask(tools["small_die"])
    assert (await ask(tools["small_echo"], text="again")).text == "again"
    idle = noted(log, "start")[-1]
    assert idle != before
    os.kill(idle, signal.SIGKILL)

    async def answered() -> bool:
        with contextlib.suppress(RetryableError):
            return (await ask(tools["small_echo"], text="anew")).text == "anew"
        return False

    await wait_until(answered, LIMIT_S)
    assert noted(log, "start")[-1] != idle


def test_the_listing_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes of the machine take what was told before; a node's description asks anew."""
    asked: list[McpTarget] = []

    async def ask_server(target: McpTarget, start_timeout_s: float) -> Listing:
        asked.append(target)
        return Listing([ListedTool(name="echo"), ListedTool(name="two words")])

    monkeypatch.setattr(listing, "_ask", ask_server)
    first, again = used(Mcp(["a"], name="x")), used(Mcp(["a"], name="x"))
    assert list(first) == ["x_echo", "x_two_words"]
    vouched = used(Mcp(["a"], read_only=["echo"]))
    assert [each.read_only for each in vouched.values()] == [True, False]
    assert all(each.read_only for each in used(Mcp(["a"], read_only=True)).values())
    assert [each.digest for each in first.values()] == [each.digest for each in again.values()]
    assert len(asked) == 1
    [file] = (tmp_path / "data" / "mcp").iterdir()
    file.write_bytes(b"{broken")
    assert list(used(Mcp(["a"], only=["echo"]))) == ["echo"]
    with asking_anew():
        used(Mcp(["a"]))
    assert len(asked) == 3
    with pytest.raises(UsageError, match="no tool 'eco'") as unknown:
        used(Mcp(["a"], only=["eco"]))
    assert "did you mean 'echo'" in unknown.value.hint


# ---- a server that cannot be had


def test_a_server_that_dies_at_once_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the command and the last words of the server, without the credential that it was given."""
    monkeypatch.setenv("OUR_SECRET", "s3cret")
    with pytest.raises(ServerAway) as broken:
        used(Mcp(command(tmp_path / "log", "--broken"), env={"SECRET": "OUR_SECRET"}))
    said = str(broken.value)
    assert "mcp_server.py" in said and "warming up / error: no licence for ***" in said and "s3cret" not in said


def test_a_server_that_does_not_answer_in_time(tmp_path: Path) -> None:
    """After the time that it has to start the error says so, with what it wrote."""
    with pytest.raises(ServerAway, match=r"did not answer within 1.5 s; its last words: thinking"):
        used(Mcp(command(tmp_path / "log", "--silent"), start_timeout_s=1.5))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "needs a command or a url"),
        ({"command": ["a"], "url": "http://a"}, "needs a command or a url"),
        ({"url": "ftp://user:pw@host/x"}, "ftp://host/x is no address"),
        ({"command": "npx server"}, "takes lists"),
        ({"command": ["a"], "headers_from_env": {"A": "B"}}, "headers_from_env for a url"),
        ({"command": ["no-such-command-anywhere"]}, "no command 'no-such-command-anywhere'"),
        ({"command": [sys.executable], "env": ["NOT_SET_ANYWHERE"]}, "NOT_SET_ANYWHERE is not set"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], said: str) -> None:
    """Each says what is wrong before any call; no address is told with its credentials."""
    with pytest.raises(UsageError, match=said) as wrong:
        used(Mcp(**settings))
    assert "pw" not in str(wrong.value)


# ---- over HTTP


@contextlib.asynccontextmanager
async def http_server(log: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The small server at that port; killed at the end."""
    process = await asyncio.create_subprocess_exec(*command(log, "--http", str(port)), cwd=ROOT)
    try:
        await wait_until(lambda: _listens(port), LIMIT_S)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


async def test_a_server_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers come from the environment; killed in the middle of a call the server is found again when it is back."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("OUR_TOKEN", "t0ken")
    kit = Mcp(url=f"http://127.0.0.1:{port}/mcp", headers_from_env={"Authorization": "Bearer ${OUR_TOKEN}"})
    async with http_server(tmp_path / "log", port) as server:
        tools = used(kit)
        headers = (await ask(tools["environment"])).data["headers"]
        assert headers["authorization"] == "Bearer t0ken"
        running = asyncio.create_task(ask(tools["slow"]))
        await wait_until(lambda: noted(tmp_path / "log", "call slow"), LIMIT_S)
        server.kill()
        with pytest.raises(RetryableError, match="went away"):
            await running
        with pytest.raises(RetryableError):
            await ask(tools["echo"], text="x")
    async with http_server(tmp_path / "log", port):
        assert (await ask(tools["echo"], text="back")).text == "back"


# ---- in real processes


async def test_a_killed_server_costs_an_attempt(
    nats_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node's tool processes list nothing; a call of a job whose MCP server is killed is made again."""
    log, target = tmp_path / "log", "tests.apps.mcp_tools:app"
    monkeypatch.setenv("CALLBOARD_TEST_MCP_LOG", str(log))
    described = await describe(target)
    assert {c.name for c in described.components} == {"small_echo", "small_second_time", "talk"}
    assert described.components[0].input_schema["required"] == ["text"]
    async with stage(nats_server.url, tmp_path, target, env={"CALLBOARD_TEST_MCP_LOG": str(log)}) as cast:
        await cast.submit("talk", "t1", {})
        await wait_until(lambda: noted(log, "call second_time"), LIMIT_S)
        assert len(noted(log, "start")) == 3  # one was described, and two tools have a session
        os.kill(noted(log, "call second_time")[0], signal.SIGKILL)
        assert bytes((await cast.end("t1", deadline_s=LIMIT_S)).output) == b'"hello, at last"'
        retried = [r.event for r in await cast.events("t1") if isinstance(r.event, ReplyRetrying)]
        # On a slow machine the next attempt may come before its time, and goes back without being one.
        assert [event.failure.code for event in retried if event.failure] == ["mcp_away"]


# ---- pure


def test_only_named_variables_reach_a_server() -> None:
    """Of a mapping the server's names, of a list our own; a text with a variable in it is a header."""
    target = McpTarget(command=("a",), env={"TOKEN": "OURS"})
    assert target.child_env({"OURS": "1", "OTHER": "2"}) == {"TOKEN": "1"}
    there = McpTarget(url="https://user:pw@host:8/mcp?key=pw", headers={"A": "T", "B": "Basic $T-${U_1}"})
    assert there.header_values({"T": "one", "U_1": "two"}) == {"A": "one", "B": "Basic one-two"}
    assert there.secrets({"T": "long one", "U_1": "longer one", "X": "other"}) == ["longer one", "long one"]
    assert there.label == "https://host:8/mcp"
    assert there.digest != McpTarget(url="https://host:8/mcp").digest


resources = st.builds(
    lambda uri, blob: SimpleNamespace(type="resource", resource=SimpleNamespace(uri=uri, mime_type=None, blob=blob)),
    st.text() | st.from_regex(r"file:///[^?#]{0,20}", fullmatch=True), st.text(),
)  # fmt: skip
pictures = st.builds(lambda kind, data: SimpleNamespace(type="image", mime_type=kind, data=data), st.text(), st.text())


@given(st.lists(resources | pictures | st.builds(lambda t: SimpleNamespace(type="text", text=t), st.text())))
def test_any_content_makes_files_with_names_of_their_own(content: list[Any]) -> None:
    """Whatever a server sends can be kept as an artifact, and no two of an answer have one name."""
    pieces = pieces_of(content)
    names = [describe_artifact(piece.name, piece.data, piece.media_type).name for piece in pieces]
    assert len(set(names)) == len(names) == sum(block.type != "text" for block in content)
    assert isinstance(text_of(content), str)
