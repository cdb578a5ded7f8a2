"""The command ``callboard`` for tests that run it often: a fork of one process that has imported all.

It takes a fifth of the processor time. That process is started by whoever asks first, one for each worker of pytest.
What is tested of a command's start itself (its imports, its crash points) takes ``python -m cli``.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

from tests.stage import ROOT

WAITING_MOST = 64
_SHIM = Path(__file__).parent / "children" / "command_shim.py"
_running = contextlib.ExitStack()


@cache
def callboard() -> tuple[str, ...]:
    """What to put before a command's arguments."""
    folder = _running.enter_context(tempfile.TemporaryDirectory(prefix="cb-"))
    path = str(Path(folder) / "commands")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(WAITING_MOST)  # who comes before the server has imported all waits here
        number = listener.fileno()
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.children.command_server", str(number)], stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, cwd=ROOT, pass_fds=[number], env={**os.environ, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    _running.enter_context(server)
    return (sys.executable, "-I", "-S", str(_SHIM), path)


def callboard_script() -> str:
    """The text of a shell script that is ``callboard``; up, node, tail and mcp, which stay, are started anew."""
    return f"""#!/bin/sh
case "$1" in
  up|node|tail|mcp) exec {shlex.quote(sys.executable)} -m cli "$@" ;;
  *) exec {shlex.join(callboard())} "$@" ;;
esac
"""


def close() -> None:
    """End the process, if there is one."""
    _running.close()
