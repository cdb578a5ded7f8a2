"""One child process: its output, its end, and that nothing of it is left when it or its supervisor is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from bus.errors import UsageError
from supervisor.child import ChildSpec
from supervisor.lines import LINE_LIMIT_BYTES, LineSplitter
from supervisor.process import ChildProcess, describe_exit
from supervisor.tether import TETHER_FD_VARIABLE, TETHER_GRACE_VARIABLE, hold_tether

if TYPE_CHECKING:
    from collections.abc import Iterator

CHILDREN = Path(__file__).parent / "children"
DEADLINE_S = 20.0

Family = tuple["subprocess.Popen[str]", list[int]]


class Lines(list[tuple[str, str]]):
    """What a process printed, as (stream, text)."""

    def note(self, _name: str, stream: str, text: str) -> None:
        """To be used as on_line."""
        self.append((stream, text))


async def start(lines: Lines, *argv: str) -> ChildProcess:
    """A child process that prints into ``lines``."""
    return await ChildProcess.start(ChildSpec(name="a", argv=argv), lines.note)


# ---- the tether


def start_family(loop: str, *modes: str) -> Family:
    """A supervisor process with one child per mode, and the pids of all its descendants once every child is ready."""
    env = {**os.environ, TETHER_GRACE_VARIABLE: "0.5"}
    argv = [sys.executable, str(CHILDREN / "parent.py"), loop, *modes]
    parent = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids, ready = [], 0
    while ready < len(modes):
        word, *rest = parent.stdout.readline().split()
        ready += word == "ready"
        pids.append(int(rest[0] if word == "helper" else rest[1]))
        assert word == "helper" or rest[2] == "False", "the tether's number must not be passed on to helpers"
    return parent, pids


def alive(pid: int) -> bool:
    """Whether the process still runs; a zombie that nobody reaps, as in some containers, does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def all_gone(pids: list[int]) -> None:
    """Wait until none of the processes runs. They are no children of ours, so the system tells us nothing."""
    async with asyncio.timeout(DEADLINE_S):
        while any(alive(pid) for pid in pids):  # noqa: ASYNC110 - nobody could set an event
            await asyncio.sleep(0.02)


@pytest.fixture
def families() -> Iterator[list[Family]]:
    """Families to be cleared away, however the test ends."""
    families: list[Family] = []
    yield families
    for parent, pids in families:
        parent.kill()
        parent.communicate()
        for pid in filter(alive, pids):
            os.kill(pid, 9)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_three_children_go_when_their_supervisor_is_killed(loop: str, families: list[Family]) -> None:
    """kill -9 of the supervisor ends each child: none holds a sibling's write end, which would keep its pipe open."""
    parent, pids = start_family(loop, "polite", "polite", "polite")
    families.append((parent, pids))
    assert len(set(pids)) == 3
    parent.kill()
    await all_gone(pids)


async def test_a_blocked_child_and_a_childs_helper_go_too(families: list[Family]) -> None:
    """An event loop that never runs again and a helper process of a child do not outlive the grace."""
    parent, pids = start_family("asyncio", "blocked", "helper")
    families.append((parent, pids))
    assert len(set(pids)) == 3
    parent.kill()
    await all_gone(pids)


async def test_one_killed_child_leaves_its_siblings(families: list[Family]) -> None:
    """Each child has a tether of its own: the end of one process is not the end of the others."""
    parent, pids = start_family("asyncio", "polite", "polite")
    families.append((parent, pids))
    os.kill(pids[0], 9)
    assert parent.stdout is not None
    restarted = int(parent.stdout.readline().split()[2])
    pids.append(restarted)
    assert not alive(pids[0])
    assert alive(pids[1])
    assert parent.poll() is None


async def test_the_release_hook_runs(families: list[Family], tmp_path: Path) -> None:
    """on_release is called when the supervisor is gone."""
    parent, pids = start_family("asyncio", f"polite {tmp_path / 'released'}")
    families.append((parent, pids))
    parent.kill()
    await all_gone(pids)
    assert (tmp_path / "released").exists()


def test_a_process_without_supervisor_is_not_tethered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run by hand there is no pipe, and that is no error."""
    monkeypatch.delenv(TETHER_FD_VARIABLE, raising=False)
    assert hold_tether() is False


@pytest.mark.parametrize("number", ["none", "99999", "-1", "0x3", "1" * 30])
def test_a_tether_that_is_no_pipe_is_refused(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrapper that closed the descriptor is told so; running on without a tether would make orphans one day."""
    monkeypatch.setenv(TETHER_FD_VARIABLE, number)
    with pytest.raises(UsageError, match="no open pipe"):
        hold_tether()


def test_a_wrong_grace_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grace that is no number says so where the process starts."""
    read_fd, write_fd = os.pipe()
    monkeypatch.setenv(TETHER_FD_VARIABLE, str(read_fd))
    monkeypatch.setenv(TETHER_GRACE_VARIABLE, "soon")
    with pytest.raises(UsageError, match="soon"):
        hold_tether()
    os.close(read_fd)
    os.close(write_fd)


# ---- output and end


async def test_output_arrives_as_lines_of_bounded_length() -> None:
    """Both streams, undecodable bytes, a huge line without end, and a last line without a line break."""
    script = (
        "import sys; o = sys.stdout.buffer; o.write(b'one\\r\\n\\xff\\n' + b'x' * 3_000_000); "
        "sys.stderr.write('oops'); o.write(b'\\nlast')"
    )
    lines = Lines()
    assert (await (await start(lines, sys.executable, "-c", script)).wait()).code == 0
    out = [text for stream, text in lines if stream == "stdout"]
    assert [out[0], out[1], out[3]] == ["one", "\N{REPLACEMENT CHARACTER}", "last"]
    assert out[2] == "x" * LINE_LIMIT_BYTES + f" ... ({3_000_000 - LINE_LIMIT_BYTES:,} bytes cut)"
    assert ("stderr", "oops") in lines


async def test_a_daemon_that_keeps_the_pipe_does_not_hold_up_the_exit() -> None:
    """A process that left the session keeps our pipe open; the exit is reported all the same."""
    lines = Lines()
    script = "import os, subprocess; print(subprocess.Popen(['sleep', '600'], start_new_session=True).pid); os._exit(3)"
    process = await start(lines, sys.executable, "-c", script)
    async with asyncio.timeout(DEADLINE_S):
        assert (await process.wait()).description == "exit 3"
    [(_, pid)] = lines
    assert alive(int(pid))
    os.kill(int(pid), signal.SIGKILL)


async def test_helpers_of_a_dead_child_are_killed() -> None:
    """What a child leaves behind in its process group goes when it goes."""
    lines = Lines()
    await (await start(lines, "/bin/sh", "-c", "sleep 600 & echo $!")).wait()
    await all_gone([int(lines[0][1])])


async def test_stop_kills_the_whole_group_after_the_grace() -> None:
    """A process that ignores SIGTERM is killed together with its helpers."""
    lines = Lines()
    process = await start(lines, "/bin/sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait")
    async with asyncio.timeout(DEADLINE_S):
        while not lines:  # noqa: ASYNC110 - a deadline holds
            await asyncio.sleep(0.01)
    assert (await process.stop(0.05)).description == "SIGKILL"
    await all_gone([process.pid, int(lines[0][1])])


async def test_no_descriptor_is_left_behind() -> None:
    """Starting, failing to start and ending children leaves as many open descriptors as before."""

    def descriptors() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    await (await start(Lines(), "/bin/sh", "-c", "exit 0")).wait()  # the loop's own ones are open from here on
    before = descriptors()
    for _ in range(5):
        await (await start(Lines(), "/bin/sh", "-c", "exit 0")).wait()
        with pytest.raises(FileNotFoundError):
            await start(Lines(), "/no/such/program")
    assert descriptors() == before


@pytest.mark.parametrize(
    ("code", "text"), [(0, "exit 0"), (3, "exit 3"), (-9, "SIGKILL"), (-11, "SIGSEGV"), (-50, "signal 50")]
)
def test_exits_are_described_for_people(code: int, text: str) -> None:
    """Codes and signals by name."""
    assert describe_exit(code).description == text


def test_lines_do_not_depend_on_how_bytes_arrive() -> None:
    """Any cut of the same bytes into chunks gives the same lines."""
    data = b"one\n\ntwo\xc3\xa9\r\nthree"
    whole = ["one", "", "twoé", "three"]
    for cuts in [(), (1,), (3, 4), (8,), (9, 10), tuple(range(1, len(data)))]:
        splitter = LineSplitter()
        chunks = [data[start:end] for start, end in pairwise((0, *cuts, len(data)))]
        lines = [line for chunk in chunks for line in splitter.feed(chunk)]
        assert [*lines, *splitter.close()] == whole
