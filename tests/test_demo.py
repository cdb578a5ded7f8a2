"""The demo, as ``make demo`` runs it, on a small directory."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.testing import replay
from examples.survey import survey
from tests.stage import ROOT
from tests.waiting import wait_until

DEADLINE_S = 60


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A few files to survey, one of them broken."""
    for n in range(6):
        (tmp_path / f"m{n}.py").write_text(f"import os\n\ndef f{n}():\n    return os\n")
    (tmp_path / "broken.py").write_text("def\n")
    return tmp_path


def _start(code: Path, *options: str) -> subprocess.Popen[str]:
    argv = [sys.executable, "-m", "examples.demo", str(code), *options]
    return subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _pids(output: str) -> set[int]:
    """Every pid that the demo told of."""
    line = next(line for line in output.splitlines() if "each actor is a process" in line)
    return {int(pid) for pid in re.findall(r"pid (\d+)", output)} | {int(pid) for pid in re.findall(r" (\d+)", line)}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_demo(code: Path) -> None:
    """A process is killed, the job completes with the right result all the same, and nothing is left running.

    Its log is kept, and the job's function fits it.
    """
    kept = code / "job.json"
    demo = _start(code, "--snapshot", str(kept))
    output, errors = demo.communicate(timeout=DEADLINE_S)
    assert demo.returncode == 0, output + errors
    assert "kill -9" in output and "actor.restarting" in output and "job.completed" in output
    assert re.search(r"files\s+7\n", output) and re.search(r"unparsable\s+1\n", output)
    pids = _pids(output)
    assert len(pids) >= 9  # server, node, six actors, and the one that took the place of the killed
    assert not [pid for pid in pids if _is_alive(pid)]
    (await replay(survey, kept)).check()


def test_demo_without_sources(tmp_path: Path) -> None:
    """A directory without Python files is wrong use, said before anything starts."""
    demo = _start(tmp_path / "nothing")
    output, errors = demo.communicate(timeout=DEADLINE_S)
    assert (demo.returncode, output) == (2, "")
    assert "no Python files" in errors


def _until_ready(demo: subprocess.Popen[str]) -> Iterator[str]:
    assert demo.stdout is not None
    for line in demo.stdout:
        yield line
        if "each actor is a process" in line:
            return


async def test_demo_interrupted(code: Path) -> None:
    """Ctrl-C in the middle stops everything, in order."""
    demo = _start(code)
    seen = "".join(_until_ready(demo))
    demo.send_signal(signal.SIGINT)
    output, errors = demo.communicate(timeout=DEADLINE_S)
    assert demo.returncode == 130, output + errors
    await wait_until(lambda: not [pid for pid in _pids(seen + output) if _is_alive(pid)])
