"""Escapes from the Python sandbox, each tried at each level that this machine offers. See docs/security-toolbox.md."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from actors.components.app import App
from actors.toolbox.python import kit
from actors.toolbox.python.isolation import Isolation, candidates, spare_uid
from actors.toolbox.python.jail.seccomp import filter_program
from actors.toolbox.python.result import Answer, PythonResult, artifact_name, judge, read_report
from actors.toolbox.python.visible import packages
from actors.tools.run_here import HeldBlobs, run_here
from actors.tools.tool_context import ToolContext
from bus.errors import PeerError, UsageError
from bus.failure import TerminalError
from store.artifact import describe
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
ESCAPES = (ROOT / "tests" / "children" / "escapes.py").read_text()
LEVELS = ("bubblewrap", "namespaces", "landlock", "rlimits")
MIB = 1024 * 1024
# What gets through without a file system and processes of its own. Which of them do depends on the user.
FILES = {"passwd", "node_file", "node_file_by_parents", "home", "data_folder", "environ_of_init", "environ_of_node",
         "write_data", "write_packages", "write_root", "root_of_parent", "memory_of_node", "disk", "kernel_log",
         "kernel_setting", "processes", "root"}  # fmt: skip
GETS_THROUGH: dict[str, set[str]] = {
    "bubblewrap": {"processes"} if not os.geteuid() else set(),  # no limit of processes counts for root
    "namespaces": set(),
    "landlock": {"processes"} if not os.geteuid() else set(),
    "rlimits": FILES,
}
_found: dict[str, Isolation | None] = {}


async def _usable(level: str) -> Isolation:
    """The way to shut in of that level that works here. Skips if there is none."""
    if level not in _found:
        ways = [way for way in candidates() if way.level == level and way.seccomp]
        _found[level] = next(iter([way for way in ways if not await kit._why_not(way)]), None)
    found = _found[level]
    if found is None:
        pytest.skip(f"this machine offers no sandbox by {level}")
    return found


async def _run(level: str, code: str, files: list[tuple[str, bytes]] | None = None, **settings: Any) -> PythonResult:
    tool = kit.Python(**{"timeout_s": 20.0, "processes": 8, "file_bytes": 4 * MIB, **settings})
    isolation = await _usable(level)
    done = await kit.run(isolation, tool.ceilings, code, files or [], tool.output_limit_chars * 4)
    return await tool._result(ToolContext("w", "j", "c"), isolation.text, done)


class Targets:
    """A process, a file, and sockets of this machine's that a program is after."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.secret = folder / "secret.txt"
        self.secret.write_text("a secret")
        self.victim = subprocess.Popen(["sleep", "600"], env={"CANARY": "sings"})
        self.sockets = [socket.create_server(("127.0.0.1", 0)), *self._unix()]

    def _unix(self) -> Iterator[socket.socket]:
        for name in (str(self.folder / "s"), "\0callboard-test-" + secrets.token_hex(4)):
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(name)
            sock.listen()
            yield sock

    def as_json(self, level: str) -> bytes:
        """What the program is told."""
        tcp, unix, abstract = self.sockets
        at_home = [str(path) for path in Path.home().iterdir() if path.is_file() and path.stat().st_size]
        # Limits alone keep nothing from being written, so that nothing of this machine's is tried with them.
        root, library = (str(self.folder),) * 2 if level == "rlimits" else ("", packages()[0])
        return json.dumps({
            "victim": self.victim.pid, "secret": str(self.secret), "folder": str(self.folder),
            "home_file": (at_home or [str(self.secret)])[0], "root": root, "packages": library,
            "port": tcp.getsockname()[1], "socket": unix.getsockname(), "abstract": abstract.getsockname().decode(),
        }).encode()  # fmt: skip

    def close(self) -> None:
        """The victim ends, and the sockets."""
        self.victim.kill()
        self.victim.wait()
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Targets]:
    """Something to be after, and a canary in this process's environment."""
    monkeypatch.setenv("CANARY", "sings")
    found = Targets(tmp_path)
    try:
        yield found
    finally:
        found.close()


@pytest.mark.parametrize("level", LEVELS)
async def test_escapes(level: str, targets: Targets) -> None:
    """Nothing of the node's is read, written, reached, signalled or inherited; limits alone protect no file."""
    inherited = os.open(targets.secret, os.O_RDONLY)
    os.set_inheritable(inherited, True)
    try:
        result = await _run(level, ESCAPES, [("targets.json", targets.as_json(level))])
    finally:
        os.close(inherited)
    assert result.outcome == "ok", result
    got = {name for name, success in json.loads(result.stdout).items() if success}
    assert got <= GETS_THROUGH[level]
    assert targets.victim.poll() is None
    assert (level == "rlimits") == ("passwd" in got)  # said on the page: limits alone keep no file from a program
    assert "a secret" not in result.stdout
    linked = [one.name for one in result.files]
    assert linked == (["hard.txt"] if level == "rlimits" else [])
    assert sorted(result.left_out) == ["link.txt: a symbolic link", "linked-folder: a symbolic link"]


SURVIVOR = """
import ctypes, os, signal, subprocess, sys, threading, time
def name(text): ctypes.CDLL(None).prctl(15, text.encode(), 0, 0, 0)
def daemon():
    if not os.fork():
        os.setsid()
        if not os.fork():
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            name(MARK)
            time.sleep(300)
        os._exit(0)
daemon()
thread = threading.Thread(target=daemon)
thread.start()
thread.join()
name(MARK)
"""


def _marked(mark: str) -> list[int]:
    """The processes of this machine that go by that name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/comm"):
        try:
            if path.read_text().strip() == mark:
                found.append(int(path.parent.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


@pytest.mark.parametrize("level", LEVELS)
async def test_nothing_survives(level: str) -> None:
    """A daemon in a session of its own that heeds no signal is gone when the call returns."""
    mark = f"sbx{secrets.token_hex(4)}"
    result = await _run(level, f"MARK = {mark!r}\n{SURVIVOR}\nprint(len(os.listdir('.')))")
    assert (result.outcome, result.stdout) == ("ok", "0\n"), result
    assert not _marked(mark)


TOOL = """
import asyncio, sys
from actors.toolbox.python.isolation import Isolation
from actors.toolbox.python.jail.order import Ceilings
from actors.toolbox.python.sandbox import run
level, uid, seccomp, program, code = sys.argv[1:]
asyncio.run(run(Isolation(level, int(uid), seccomp == "True", program), Ceilings(timeout_s=200.0), code, [], 1000))
"""


@pytest.mark.parametrize("level", LEVELS)
async def test_nothing_survives_the_tool(level: str, tmp_path: Path) -> None:
    """When the tool's process is killed in the middle, the program, its daemons and its folder are gone too."""
    way = await _usable(level)
    mark = f"sbx{secrets.token_hex(4)}"
    code = f"MARK = {mark!r}\n{SURVIVOR}\ntime.sleep(300)"
    tool = subprocess.Popen(
        [sys.executable, "-c", TOOL, way.level, str(way.uid), str(way.seccomp), way.bubblewrap, code],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        await wait_until(lambda: len(_marked(mark)) == 3, 30.0, what="the program and its two daemons")
        tool.send_signal(signal.SIGKILL)
        await wait_until(lambda: not _marked(mark), 30.0, what="none of them is left")
        await wait_until(lambda: not [*tmp_path.iterdir()], 30.0, what="the folder is gone")
    finally:
        tool.kill()
        tool.wait()
        for pid in _marked(mark):
            os.kill(pid, signal.SIGKILL)


LIMITS = [
    ("import time\ntime.sleep(60)", {"timeout_s": 0.3}, "timeout"),
    ("while True: pass", {"cpu_s": 1}, "cpu"),
    ("held = bytearray(10**9)", {}, "memory"),
    ("held = [b'x' * 10_000_000 for _ in range(100)]", {}, "memory"),
    ("import os\nfor _ in range(4): os.fork()\nheld = b'x' * 100_000_000\nimport time\ntime.sleep(30)",
     {"memory_bytes": 256 * MIB, "processes": 30}, "memory"),
    ("open('big', 'wb').write(bytes(10**7))", {}, "exception"),
    ("import os\nos.abort()", {}, "killed"),
    ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", {}, "killed"),
]  # fmt: skip


@pytest.mark.parametrize("level", LEVELS)
async def test_limits(level: str) -> None:
    """What takes too long, too much or ends badly is ended, and the result says which it was."""
    outcomes = [(await _run(level, code, **{"memory_bytes": 512 * MIB, **settings})).outcome
                for code, settings, _ in LIMITS]  # fmt: skip
    expected = [outcome for _, _, outcome in LIMITS]
    if level in ("landlock", "rlimits"):
        expected[-1] = "exception"  # it has no processes of its own, so no signal may be sent at all
    assert outcomes == expected


async def test_a_fork_bomb() -> None:
    """It gets as many processes as it may have, and ends with all of them when its time is up."""
    bomb = "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass"
    result = await _run("namespaces", bomb, timeout_s=0.5)
    assert result.outcome == "timeout"
    assert (await _run("namespaces", "1 + 1")).value == "2"


@pytest.mark.parametrize("level", LEVELS)
async def test_floods(level: str) -> None:
    """Output is read to its end and kept up to the limit; files are kept up to theirs, and what is not is said."""
    result = await _run(level, "print('x' * 3_000_000)\nimport sys\nsys.stderr.write('é' * 30)",
                        output_limit_chars=25)  # fmt: skip
    assert (result.outcome, result.stdout, result.stderr) == ("ok", "x" * 25, "é" * 25)
    assert result.notices == ["stdout: 3,000,001 bytes, of which the first 25 characters are kept",
                              "stderr: 60 bytes, of which the first 25 characters are kept"]  # fmt: skip
    code = "for n in range(40):\n    open(f'f{n:02}', 'w').write('data' * n)"
    result = await _run(level, code, kept_files=3)
    assert [file.name for file in result.files] == ["f00", "f01", "f02"]
    assert len(result.left_out) == 21 and result.left_out[0] == "f03: too many files"
    result = await _run(level, "for n in range(4): open(f'f{n}', 'wb').write(bytes(2_000_000))")
    if level in ("bubblewrap", "namespaces"):  # the folder has a size of its own
        assert "No space left on device" in result.error
    assert [one.size_bytes for one in result.files].count(2_000_000) == 2


async def test_what_comes_back() -> None:
    """The value, both streams, files with their folders, the error's own lines; and nothing of one run in the next."""
    level = "namespaces" if _found.get("namespaces") else "rlimits"
    code = """import os, sys
print("out"); print("err", file=sys.stderr)
os.mkdir("deep"); open("deep/table.csv", "w").write("a")
with open("in.txt", "a") as file: file.write("!")
open("odd\\n\\\\.txt", "w").close()
{"answer": 42}"""
    result = await _run(level, code, [("in.txt", b"hi"), ("same.txt", b"same")])
    assert (result.outcome, result.value, result.stdout, result.stderr) == ("ok", "{'answer': 42}", "out\n", "err\n")
    assert [(one.name, one.size_bytes) for one in result.files] == [
        ("deep-table.csv", 1), ("in.txt", 3), ("odd--.txt", 0)
    ]  # fmt: skip
    failed = await _run(level, "import os, json\nassert not os.listdir('.')\n\njson.loads('{')")
    assert failed.outcome == "exception"
    assert failed.error.splitlines()[:3] == [
        "Traceback (most recent call last):", '  File "<program>", line 4, in <module>', "    json.loads('{')",
    ]  # fmt: skip
    assert "decoder.py" not in failed.error and "JSONDecodeError" in failed.error
    assert (await _run(level, "print('a'")).error.splitlines()[-1].startswith("SyntaxError: '(' was never closed")
    assert (await _run(level, "import sys\nsys.exit('done badly')")).error == "SystemExit: done badly"
    assert (await _run(level, "import os\nos._exit(3)")).error == "the program ended with exit code 3"


FAKE_PLOTS = """
import sys, types
plots = types.ModuleType("matplotlib.pyplot")
class Figure:
    def savefig(self, name): open(name, "wb").write(b"png")
plots.get_fignums = lambda: [1, 2]
plots.figure = lambda number: Figure()
sys.modules["matplotlib.pyplot"] = plots
"""


async def test_figures_are_saved() -> None:
    """Figures that were left open come back as files, beside a file that has the first name already."""
    level = "namespaces" if _found.get("namespaces") else "rlimits"
    result = await _run(level, FAKE_PLOTS + "open('figure-1.png', 'w').close()")
    assert [(one.name, one.media_type) for one in result.files] == [
        ("figure-1.png", "image/png"), ("figure-1x.png", "image/png"), ("figure-2.png", "image/png")]  # fmt: skip


async def test_a_machine_that_offers_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """With less than ``require`` asks for, nothing is run, and the error says what would help."""
    monkeypatch.setattr(kit, "candidates", lambda: iter([Isolation("rlimits", 0, False)]))
    with pytest.raises(TerminalError, match=r"no sandbox of the isolation 'namespaces'; install bubblewrap"):
        await kit.Python(require="namespaces").isolation()
    assert (await kit.Python().isolation()).text == "rlimits"
    with pytest.raises(UsageError, match="any, landlock, namespaces or bubblewrap"):
        kit.Python(require="rlimits")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="memory_bytes of the kit python is too small"):
        kit.Python(memory_bytes=1)


async def test_the_tool() -> None:
    """As an app has it: the schema that a model sees, inputs from artifacts, a result that says what was in force."""
    app = App("desk", version="1.0.0")
    (tool,) = app.use(kit.Python(timeout_s=20)).tools
    assert not tool.read_only
    assert (tool.name, list(tool.input_schema["properties"])) == ("python", ["code", "files"])
    assert "without network" in (tool.description or "")
    blobs = HeldBlobs()
    table = await ToolContext("w", "j", "c", _blobs=blobs).artifact("table.csv", b"1,2")
    body = msgspec.json.encode({"code": "open('copy.csv', 'w').write(open('table.csv').read())", "files": [table]})
    result = msgspec.json.decode(await run_here(tool, body, blobs), type=PythonResult)
    assert result.outcome == "ok" and result.isolation.endswith("rlimits")
    assert result.files == [structs.replace(table, name="copy.csv")]
    with pytest.raises(PeerError, match=r"the content of artifact table\.csv is not kept"):
        await run_here(tool, body, HeldBlobs())


async def test_a_cancelled_call_leaves_nothing() -> None:
    """A call that is cancelled in the middle ends its program."""
    level = "namespaces" if _found.get("namespaces") else "rlimits"
    mark = f"sbx{secrets.token_hex(4)}"
    call = asyncio.create_task(_run(level, f"MARK = {mark!r}\n{SURVIVOR}\ntime.sleep(300)", timeout_s=200.0))
    await wait_until(lambda: len(_marked(mark)) == 3, 30.0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await wait_until(lambda: not _marked(mark), 30.0)


@given(st.text())
def test_names_of_files_are_names(path: str) -> None:
    """Whatever a program calls its files, the name is one that an artifact may have."""
    assert describe(artifact_name(path), b"").name


@given(st.text(), st.sampled_from(["", "timeout", "memory", "killed"]), st.integers(-64, 255))
def test_a_forged_report_is_not_believed(report: str, outcome: Any, status: int) -> None:
    """What the program says of itself is read whatever it is, and never against what the warden saw."""
    for text in (report, json.dumps({"outcome": "ok", "value": report}), json.dumps({"outcome": report})):
        judged, reason = judge(Answer(outcome=outcome, status=status), read_report(text))
        assert judged == outcome if outcome else (judged == "ok") <= (status == 0)
        assert reason or judged == "ok" or text != report


@given(st.integers(1, 4_000_000), st.sampled_from(["x86_64", "aarch64"]), st.booleans())
def test_the_filter_jumps_within_itself(pid: int, machine: str, own: bool) -> None:
    """No jump of the filter leads beyond its end, and its last step allows."""
    program = filter_program(machine, private_processes=own, own_pid=pid)
    assert program is not None
    steps = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    assert all(at + 1 + max(jump[1:3]) < len(steps) for at, jump in enumerate(steps) if jump[0] & 7 == 5)
    assert steps[-1] == (6, 0, 0, 0x7FFF0000)
    assert filter_program("pdp11", private_processes=own, own_pid=pid) is None


@pytest.mark.parametrize(
    ("uid_map", "uid"),
    [("0 0 4294967295", 1_500_000_007), ("0 100000 65536", 65_534), ("0 1000 1", 0), ("", 0)],
)  # fmt: skip
def test_a_spare_user(uid_map: str, uid: int) -> None:
    """Root becomes a user that nobody is, nobody where there are few users, and stays itself where there is one."""
    assert spare_uid(uid_map, 7) == uid
