"""Programs in machines at E2B: the real SDK against a local server that runs what it is sent."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from actors.components.app import App
from actors.toolbox.python import e2b_machine, kit
from actors.toolbox.python.isolation import Isolation
from actors.toolbox.python.jail.order import Ceilings, pack_input
from actors.toolbox.python.parcel import Garbled, Limits, read_outcome
from actors.toolbox.python.result import PythonResult
from actors.tools.run_here import HeldBlobs, run_here
from actors.tools.tool_context import ToolContext
from bus.errors import PeerError, UsageError
from bus.failure import Failure
from tests.fake_e2b import KEY, FakeE2B, Faults, Refusal
from tests.waiting import wait_until

MIB = 1024 * 1024
CONTEXT = ToolContext("w", "j", "c")
SETTINGS: dict[str, Any] = {"timeout_s": 20.0, "processes": 8, "file_bytes": 4 * MIB, "output_limit_chars": 25}


@pytest.fixture
async def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FakeE2B]:
    """E2B on this machine, and an environment that leads there."""
    async with FakeE2B(tmp_path) as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server


async def _remote(code: str, files: list[tuple[str, bytes]] | None = None, **settings: Any) -> PythonResult:
    tool = kit.Python(**{**SETTINGS, **settings}, remote="e2b")
    done = await e2b_machine.run_at_e2b(tool.ceilings, code, files or [], tool.output_limit_chars * 4)
    return await tool._result(CONTEXT, "e2b", done)


async def _at_home(code: str, files: list[tuple[str, bytes]]) -> PythonResult:
    tool = kit.Python(**SETTINGS)
    done = await kit.run(Isolation("rlimits", 0, False), tool.ceilings, code, files, tool.output_limit_chars * 4)
    return await tool._result(CONTEXT, "e2b", done)


async def _failure(code: str = "1") -> Failure:
    """How a call of the tool fails, as a job sees it."""
    (tool,) = App("desk", version="1.0.0").use(kit.Python(**SETTINGS, remote="e2b")).tools
    with pytest.raises(PeerError) as caught:
        await run_here(tool, msgspec.json.encode({"code": code}), HeldBlobs())
    assert KEY not in str(msgspec.json.encode(caught.value.failure))
    return caught.value.failure


PLOTS = """
import sys, types
plots = types.ModuleType("matplotlib.pyplot")
class Figure:
    def savefig(self, name): open(name, "wb").write(b"png")
plots.get_fignums = lambda: [1]
plots.figure = lambda number: Figure()
sys.modules["matplotlib.pyplot"] = plots
"""
PROGRAMS = [
    f"""{PLOTS}
import os
print("out"); print("err", file=sys.stderr)
os.mkdir("deep"); open("deep/table.csv", "w").write("a")
with open("in.txt", "a") as file: file.write("!")
os.symlink("in.txt", "link.txt")
print(sorted(os.environ), file=open("variables", "w"))
{{"answer": 42}}""",
    "import json\n\njson.loads('{')",
    "print('a'",
    "print('x' * 300_000)\nimport sys\nsys.stderr.write('é' * 30)\nsys.exit('done badly')",
    "for n in range(60): open(f'f{n:02}', 'w').write('data' * n)\nopen('big', 'wb').write(bytes(5_000_000))",
    "import os\nos.abort()",
]


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
async def test_as_at_home(server: FakeE2B, number: int) -> None:
    """Value, streams, limits, errors, figures and files are those of the same program in a sandbox of this machine."""
    files = [("in.txt", b"hi"), ("same.txt", b"same")]
    at_home = await _at_home(PROGRAMS[number], files)
    remote = await _remote(PROGRAMS[number], files)
    assert structs.replace(remote, duration_s=0.0) == structs.replace(at_home, duration_s=0.0)
    assert remote.duration_s > 0 and len(server.made) == 1 and not server.alive


async def test_the_first_program(server: FakeE2B) -> None:
    """What the comparison rests on, said in full for one program."""
    result = await _remote(PROGRAMS[0], [("in.txt", b"hi")])
    assert (result.outcome, result.value, result.stdout, result.stderr) == ("ok", "{'answer': 42}", "out\n", "err\n")
    assert [one.name for one in result.files] == ["deep-table.csv", "figure-1.png", "in.txt", "variables"]
    assert (result.left_out, result.isolation) == (["link.txt: a symbolic link"], "e2b")


async def test_limits(server: FakeE2B) -> None:
    """Time and memory of a program are limited there as here, and what it did until then comes back."""
    late = await _remote("print('so far', flush=True)\nimport time\ntime.sleep(60)", timeout_s=0.5)
    assert (late.outcome, late.stdout) == ("timeout", "so far\n")
    assert (await _remote("held = bytearray(10**9)")).outcome == "memory"
    assert not server.alive


async def test_the_tool(server: FakeE2B) -> None:
    """Artifacts go in and come out; each call has a machine of its own, without network, that ends by itself."""
    (tool,) = App("desk", version="1.0.0").use(kit.Python(timeout_s=20, remote="e2b")).tools
    blobs = HeldBlobs()
    table = await ToolContext("w", "j", "c", _blobs=blobs).artifact("table.csv", b"1,2")
    body = msgspec.json.encode({"code": "open('copy.csv', 'w').write(open('table.csv').read())", "files": [table]})
    for _ in range(2):
        result = msgspec.json.decode(await run_here(tool, body, blobs), type=PythonResult)
        assert result.files == [structs.replace(table, name="copy.csv")]
    wanted = [machine.wanted for machine in server.made.values()]
    assert [(one["timeout"], one["allow_internet_access"], one["autoPause"]) for one in wanted] == [
        (200, False, False)
    ] * 2
    assert not server.alive


REFUSALS = [
    (Refusal(401, f"no such key: {KEY}"), "unauthorized", False),
    (Refusal(403, f"{KEY} may not"), "unauthorized", False),
    (Refusal(400, "no such template"), "sandbox_refused", False),
    (Refusal(429, "slow down"), "rate_limited", True),
    (Refusal(500, "oh"), "sandbox_unavailable", True),
    (Refusal(503, "full"), "sandbox_unavailable", True),
    (Refusal(504, "late"), "sandbox_unavailable", True),
]


@pytest.mark.parametrize(("refusal", "code", "retryable"), REFUSALS)
async def test_no_machine(server: FakeE2B, refusal: Refusal, code: str, retryable: bool) -> None:
    """E2B is asked once, and what it says decides whether the call is tried again; the key is in no failure."""
    server.faults.create = refusal
    failed = await _failure()
    assert (failed.code, failed.retryable) == (code, retryable)
    assert server.requests == ["POST /v2/sandboxes"]


async def test_a_wrong_key(server: FakeE2B, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that E2B does not know is no matter of time, and it is not repeated in the failure."""
    monkeypatch.setenv("E2B_API_KEY", "e2b_wrong")
    failed = await _failure()
    assert (failed.code, failed.retryable) == ("unauthorized", False)
    assert "e2b_wrong" not in f"{failed}"


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    """An E2B that cannot be reached may be there later."""
    monkeypatch.setenv("E2B_API_KEY", KEY)
    monkeypatch.setenv("E2B_API_URL", f"http://127.0.0.1:{unused_tcp_port}")
    failed = await _failure()
    assert (failed.code, failed.retryable) == ("sandbox_lost", True)


async def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key or the SDK the failure says what would be right; a word that is no remote sandbox is refused."""
    monkeypatch.delenv("E2B_API_KEY", raising=False)
    failed = await _failure()
    assert (failed.code, failed.retryable) == ("no_credentials", False)
    assert "E2B_API_KEY in the environment" in failed.message
    monkeypatch.setenv("E2B_API_KEY", KEY)
    monkeypatch.setitem(sys.modules, "e2b_code_interpreter", None)
    failed = await _failure()
    assert (failed.code, failed.retryable, failed.hint) == ("missing_extra", False, "pip install 'callboard[e2b]'")
    with pytest.raises(UsageError, match="e2b, or none"):
        kit.Python(remote="moon")  # type: ignore[arg-type]


async def test_what_this_machine_offers_does_not_matter(server: FakeE2B, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any sandbox serves the tool, since none of the programs runs there."""
    monkeypatch.setattr(kit, "candidates", lambda: iter([]))
    tool = kit.Python(require="namespaces", remote="e2b")
    await tool.check_machine()
    assert (await tool._serve(CONTEXT, "6 * 7", [])).isolation == "e2b"
    with pytest.raises(UsageError):
        await kit.Python(require="namespaces").check_machine()


LOSSES = [
    Faults(execute="cut"), Faults(execute="torn"), Faults(execute="early"), Faults(execute=Refusal(502, "not found")),
    Faults(execute=Refusal(404, "no sandbox")), Faults(write=Refusal(502, "The sandbox was not found")),
    Faults(outcome=b""), Faults(outcome=bytes(20 * MIB)), Faults(outcome=pack_input("{}", [("answer", b"")])),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(LOSSES)))
async def test_lost_in_the_middle(server: FakeE2B, number: int) -> None:
    """A stream that is cut, a machine that is gone, an outcome that cannot be read: the call is tried again."""
    server.faults = LOSSES[number]
    failed = await _failure()
    assert (failed.code, failed.retryable) == ("sandbox_lost", True)
    assert not server.alive


async def test_a_machine_that_dies(server: FakeE2B) -> None:
    """A machine that ends while its program runs takes the program with it, and the call is tried again."""
    call = asyncio.create_task(_failure("import time\ntime.sleep(300)"))
    await wait_until(lambda: _programs(server) == 1, 30.0, what="the program runs")
    await server.lose("machine0")
    failed = await call
    assert (failed.code, failed.retryable) == ("sandbox_lost", True)


def _programs(server: FakeE2B) -> int:
    return sum(machine.process is not None and machine.process.returncode is None for machine in server.made.values())


async def test_a_cancelled_call(server: FakeE2B) -> None:
    """A call that is cancelled while its program runs ends the machine before it leaves."""
    call = asyncio.create_task(_remote("import time\ntime.sleep(300)", timeout_s=200.0))
    await wait_until(lambda: _programs(server) == 1, 30.0, what="the program runs")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert len(server.made) == 1 and not server.alive


async def test_cancelled_while_a_machine_is_made(server: FakeE2B) -> None:
    """A machine that nobody knows yet when the call is cancelled is ended too, also if it is cancelled once more."""
    server.faults.slow_create = asyncio.Event()
    call = asyncio.create_task(_remote("1"))
    await wait_until(lambda: len(server.made) == 1, 30.0, what="a machine is made")
    for _ in range(2):
        call.cancel()
        await asyncio.wait({call}, timeout=0.02)
    server.faults.slow_create.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert not server.alive


async def test_a_late_call(server: FakeE2B, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does not answer in its time is ended, and the call is tried again."""
    monkeypatch.setattr(e2b_machine, "_GRACE_S", -19.0)
    failed = await _failure("import time\ntime.sleep(300)")
    assert (failed.code, failed.retryable) == ("sandbox_lost", True)
    assert "timed out" in failed.message and not server.alive


async def test_a_machine_that_cannot_be_ended(server: FakeE2B) -> None:
    """The result of the program is kept, and says when the machine ends by itself."""
    server.faults.kill = Refusal(400, "no")
    result = await _remote("6 * 7")
    assert result.value == "42"
    assert result.notices == ["the sandbox at E2B could not be ended (SandboxException); it ends 200 s after its start"]


LIMITS = Limits(files_bytes=1000, output_bytes=100)


def _outcome(answer: bytes) -> bytes:
    head = '{"stdout": 3, "stderr": 0, "duration_s": 0.5}'
    return pack_input(head, [("stdout", b"out"), ("stderr", b""), ("answer", answer)])


def _meddled(change: Callable[[bytearray], object]) -> bytes:
    data = bytearray(_outcome((2).to_bytes(8, "big") + b"{}"))
    change(data)
    return bytes(data)


@given(st.integers(0, 200), st.binary(max_size=40))
def test_an_outcome_that_was_meddled_with(at: int, junk: bytes) -> None:
    """Whatever comes back is a run within the limits, or it is refused as unreadable; nothing else can come of it."""

    def overwrite(data: bytearray) -> None:
        data[at : at + len(junk)] = junk

    for data in (junk, _meddled(overwrite), _meddled(lambda data: data.__delitem__(slice(at, None)))):
        try:
            run = read_outcome(data, LIMITS)
        except Garbled:
            continue
        assert sum(len(content) for _, content in run.files) <= 1000
        assert len(run.stdout.kept) <= 100 and run.stdout.size_bytes >= len(run.stdout.kept)


def test_an_outcome_is_read() -> None:
    """A whole one is read; one whose files are more than was asked for is refused."""
    run = read_outcome(_outcome(b""), LIMITS)
    assert (run.answer, bytes(run.stdout.kept), run.duration_s) == (None, b"out", 0.5)
    head = b'{"files": [["a", 1001]]}'
    with pytest.raises(Garbled, match="more files than were asked for"):
        read_outcome(_outcome(len(head).to_bytes(8, "big") + head + bytes(1001)), LIMITS)
    assert e2b_machine.lifetime_s(Ceilings(timeout_s=0.5)) == 181
