"""``callboard call``: one tool at once, by a request or in this process; what it prints, saves, and how it fails."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pty
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import actors.toolbox
from actors import App
from actors.clients.direct_call import call_directly
from actors.command_bodies import calling
from actors.command_bodies.artifact_files import places
from actors.command_bodies.session import Session, complain
from actors.components.announcement import announce
from actors.components.component import Component
from actors.components.registry import Registry
from actors.console.page import plain_lines
from actors.console.result_page import output_page, result_page
from actors.node.process import Actor
from actors.toolbox import Python
from actors.toolbox.kit import Kit
from actors.toolbox.settings import build, from_environment, settings_of, variable_of
from actors.toolbox.shelf import find_tool, kit_names, kits, standard_app
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import PeerError, UsageError
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from store.artifact import describe
from tests.apps.calls import app as calls
from tests.command_line import callboard

ROOT = Path(__file__).parent.parent


@contextlib.asynccontextmanager
async def served(url: str, app: App) -> AsyncIterator[Bus]:
    """The services of the app's tools, as the processes of a node announce them."""
    async with (
        await Bus.connect(ConnectOptions(servers=[url]), name="test call") as bus,
        contextlib.AsyncExitStack() as s,
    ):
        await ensure_streams(bus)
        actor = cast("Actor", SimpleNamespace(bus=bus, blobs=Blobs(bus), node="n1"))
        for component in app.components:
            service = await announce(actor, Registry(bus), component)
            s.push_async_callback(service.stop)
        yield bus


async def said(url: str, ref: str, body: dict[str, Any], capsys: pytest.CaptureFixture[str], **options: Any) -> Any:
    """What the command prints, decoded; that of an error is its exit code and its words."""
    capsys.readouterr()
    try:
        assert await calling.call(Session(url), ref, body, **options) == 0
    except (UsageError, PeerError) as error:
        return complain(error), capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


async def test_a_tool_is_called_at_once(
    server: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its output is printed and its artifacts saved; what goes wrong has the exit code and hint of its kind."""
    url = server.url
    async with served(url, calls) as bus:
        assert await said(url, "squares", {"count": 2}, capsys) == {
            "columns": ["n", "square"],
            "rows": [[0, 0], [1, 1]],
        }
        assert (await said(url, "calls.squares@2", {"count": 1}, capsys))["rows"] == [[0, 0]]
        assert (await said(url, "report", {"title": "May"}, capsys, save=str(tmp_path / "out")))[
            "text"
        ] == "# May\nready"
        assert (tmp_path / "out" / "report.md").read_text() == "May"
        code, words = await said(url, "squares", {"count": "two"}, capsys)
        assert code == 2 and "$.count" in words
        code, words = await said(url, "square", {"count": 2}, capsys)
        assert code == 2 and "did you mean squares" in words
        assert await said(url, "squares", {"count": 101}, capsys) == (1, "error: 100 at most\n")
        code, words = await said(url, "dawdle", {"seconds": 20}, capsys, timeout_s=0.1)
        assert code == 1 and "no result within 0.1 s" in words
        info = next(each for each in calls.components if each.name == "busy").info()
        with pytest.raises(PeerError) as failed:
            await call_directly(bus, info, b"{}")
        assert (failed.value.failure.code, failed.value.failure.retryable) == ("busy", True)
    code, words = await said(url, "squares", {"count": 2}, capsys)
    assert code == 1 and "nobody serves tool squares@2" in words and "--only squares" in words


async def test_a_header_says_how_long_a_direct_call_may_take(server: EmbeddedServer) -> None:
    """A number of seconds is heeded, and what is none is refused."""
    async with served(server.url, calls) as bus:
        for text in ("soon", "-1", "inf"):
            answer = await bus.request("tool.dawdle.v2.call", b'{"seconds": 0}', headers={"Call-Timeout": text})
            assert b"Call-Timeout" in answer.data and b"bad_argument" in answer.data


# ---- in this process


async def test_a_tool_of_an_app_runs_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a server; artifacts are written from memory, two of one name beside each other."""
    session = Session("nats://127.0.0.1:1")
    target = "tests.apps.calls:app"
    await calling.call_here(session, "report", {"title": "June"}, target=target, save=str(tmp_path))
    assert json.loads(capsys.readouterr().out)["files"][0]["name"] == "report.md"
    assert (tmp_path / "report.md").read_text() == "June"
    with pytest.raises(PeerError, match="100 at most"):
        await calling.call_here(session, "squares", {"count": 101}, target=target)
    with pytest.raises(UsageError, match="no tool 'squares@1'"):
        await calling.call_here(session, "squares@1", {"count": 1}, target=target)
    with pytest.raises(PeerError, match="no result within"):
        await calling.call_here(session, "dawdle", {"seconds": 9}, target=target, timeout_s=0.05)


def test_a_name_of_an_artifact_leads_nowhere_else() -> None:
    """A path in the name of a file that somebody else sent does not leave the folder."""
    for name in ("../../a.txt", "a.txt", "..", "/etc/a.txt", "..\\a.txt", "x/..", "."):
        named = msgspec.structs.replace(describe("a.txt", b"x"), name=name)
        paths = list(itertools.islice(places(Path("out"), named), 3))
        assert len(set(paths)) == 3
        assert all(path.resolve().parent == Path("out").resolve() for path in paths)
        assert not name.endswith("a.txt") or [path.name for path in paths] == ["a.txt", "a-2.txt", "a-3.txt"]


def test_the_command_line(tmp_path: Path) -> None:
    """Arguments, standard input and a terminal: JSON in a pipe, a table for people, a hint where JSON was meant."""
    command = [*callboard(), "call", "squares", "--app", "tests.apps.calls:app"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"}
    done = subprocess.run([*command, "--input", "-"], input='{"count": 3}', capture_output=True, text=True, cwd=ROOT,
                          env=env, timeout=60, check=True)  # fmt: skip
    assert json.loads(done.stdout)["rows"] == [[0, 0], [1, 1], [2, 4]]
    ours, theirs = pty.openpty()
    shown = subprocess.run([*command, "count=3"], stdout=theirs, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=env,
                           timeout=60, check=False)  # fmt: skip
    assert shown.returncode == 2 and "count:=3" in shown.stderr
    shown = subprocess.run(
        [*command, "count:=3", "--no-color"], stdout=theirs, cwd=ROOT, env=env, timeout=60, check=True
    )
    os.close(theirs)
    table = os.read(ours, 4096).decode()
    os.close(ours)
    assert "square" in table and "{" not in table


# ---- what it looks like


def lines(value: Any) -> str:
    """The page as plain text."""
    return "\n".join(plain_lines(output_page(value)))


def test_outputs_are_shown_as_what_they_are() -> None:
    """Columns and rows are a table, a text is text, an artifact is its name, and the rest is as for results."""
    table = lines({"columns": [{"name": "sku"}, {"name": "qty"}], "rows": [["A1", 2], ["B2"]], "truncated": False})
    assert "sku" in table and "A1" in table and "truncated" in table
    assert lines({"text": "one\ntwo", "files": []}) == "one\ntwo"
    file = msgspec.to_builtins(describe("a.txt", b"xyz"))
    assert "a.txt (text/plain, 3 B" in lines({"text": "one", "files": [file]})
    assert "a.txt (text/plain, 3 B" in lines([file])
    assert output_page({"a": 1}) == result_page({"a": 1})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["columns", "rows", "text", "x"]), inner, max_size=4)
    ),
)


@given(json_values)
def test_any_output_can_be_shown(value: Any) -> None:
    """Whatever a tool returns makes a page."""
    assert lines(value) is not None


# ---- kits and their settings


class Lookup(Kit):
    """A kit for tests: required and optional settings of several types."""

    def __init__(
        self, url: str, *, rows: int = 10, only: tuple[str, ...] = (), root: Path = Path("/tmp"), name: str = "lookup"
    ) -> None:
        super().__init__()
        if not url.startswith("db:"):
            raise UsageError("url is no db:", hint="db:...")
        self.url, self.rows, self.only, self.root, self.name = url, rows, only, root, name

    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """Two tools."""

        @app.tool(name=self.name)
        def lookup(query: str, rows: int = 1) -> dict[str, Any]:
            """Look up."""
            return {"query": query, "asked": rows, "limit": self.rows, "only": self.only, "url": self.url}

        @app.tool(name=f"{self.name}_schema")
        def schema() -> list[str]:
            """What there is."""
            return list(self.only)

        return lookup, schema


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kit of this file is the only one."""
    monkeypatch.setattr(actors.toolbox, "_HOMES", {"Kit": "actors.toolbox.kit", "Lookup": __name__})


def test_settings_are_read_from_text() -> None:
    """Lists by commas, numbers, paths; what cannot be says what would be right."""
    assert list(settings_of(Lookup)) == ["url", "rows", "only", "root", "name"]
    assert variable_of(Lookup, "url") == "CALLBOARD_LOOKUP_URL"
    assert from_environment(Lookup, {"CALLBOARD_LOOKUP_ROWS": "5", "CALLBOARD_LOOKUP_URL": ""}) == {"rows": "5"}
    made = cast("Lookup", build(Lookup, {"url": "db:x", "rows": "5", "only": "a, b", "root": "/data"}))
    assert cast("Lookup", build(Lookup, {"url": "db:x", "only": '["a,b"]'})).only == ("a,b",)
    assert (made.rows, made.only, made.root) == (5, ("a", "b"), Path("/data"))
    for given_, text in (({}, "needs the setting url"), ({"url": "db:", "rows": "x"}, "rows cannot be 'x'"),
                         ({"url": "db:", "row": "1"}, "no setting 'row'")):  # fmt: skip
        with pytest.raises(UsageError, match=text):
            build(Lookup, given_)


@pytest.mark.usefixtures("shelf")
async def test_a_kit_is_built_for_one_call(capsys: pytest.CaptureFixture[str]) -> None:
    """Settings go to the kit and the rest to the tool; what is both is input; the environment says the rest."""
    await calling.call_here(Session(), "lookup", {"url": "db:1", "only": "a", "query": "q", "rows": 3})
    assert json.loads(capsys.readouterr().out) == {"query": "q", "asked": 3, "limit": 10, "only": ["a"], "url": "db:1"}
    found = find_tool("lookup_schema", {"rows": "7", "only": "x,y"}, {"CALLBOARD_LOOKUP_URL": "db:env"})
    assert found.body == {} and found.tool() == ["x", "y"]
    with pytest.raises(UsageError, match="needs the setting url") as missing:
        find_tool("lookup", {"query": "q"}, {})
    assert "CALLBOARD_LOOKUP_URL" in missing.value.hint
    with pytest.raises(UsageError, match="url is no db:"):
        find_tool("lookup", {"url": "q"}, {})
    with pytest.raises(UsageError, match="no tool 'lookups'") as unknown:
        find_tool("lookups", {}, {"CALLBOARD_LOOKUP_URL": "db:env"})
    assert "lookup" in unknown.value.hint


@pytest.mark.usefixtures("shelf")
def test_the_standard_app_has_what_is_set(caplog: pytest.LogCaptureFixture) -> None:
    """A kit whose settings are in the environment is taken; another is left out, with a word."""
    assert [each.name for each in standard_app({"CALLBOARD_LOOKUP_URL": "db:"}).components] == [
        "lookup",
        "lookup_schema",
    ]
    with caplog.at_level("INFO"):
        assert not standard_app({}).components
    assert "without Lookup" in caplog.text


def test_the_shelf_as_it_is() -> None:
    """Every kit that is exported can be told its settings; those that need none are in the app, none that runs code."""
    assert all(settings_of(kit) for kit in kits(kit_names()))
    names = {component.name for component in standard_app({}).components}
    assert "fetch" in names and not names & {"python", "sql", "shell"}
    some = {"CALLBOARD_SQL_URL": "sqlite:///x.db", "CALLBOARD_PYTHON_TIMEOUT_S": "5"}
    assert {component.name for component in standard_app(some).components} >= names | {"python", "sql", "sql_schema"}


def test_models_code_is_kept_from_the_nodes_files_unless_somebody_says_so() -> None:
    """The standard app asks for isolation of its own accord where there is some to ask for; a setting weakens it."""

    def require(**environ: str) -> str:
        (kit,) = [kit for kit in standard_app(environ).kits if isinstance(kit, Python)]
        return kit.require

    least = "landlock" if sys.platform == "linux" else "any"
    assert require(CALLBOARD_PYTHON_TIMEOUT_S="5") == least
    assert require(CALLBOARD_PYTHON_REQUIRE="any") == "any"
    assert require(CALLBOARD_PYTHON_REQUIRE="namespaces") == "namespaces"
