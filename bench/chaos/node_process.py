"""One node of the run: ``callboard node`` as a user starts it, in a process of its own that never outlives us.

Run as a program it is that node: tethered to the process that started it, for that one may be killed as well.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from supervisor.tether import TETHER_FD_VARIABLE, hold_tether

ROOT = Path(__file__).resolve().parents[2]
STOP_S = 15.0


@dataclass(frozen=True)
class Child:
    """One actor's process, with its role: tool, host or gateway."""

    pid: int
    role: str
    name: str


class NodeProcess:
    """A node called ``name`` with a data directory of its own. ``prefix``: what is put before its command.

    ``env`` is added to ours. Everything that it and its actors print goes to ``log_path``.
    """

    def __init__(
        self, name: str, target: str, url: str, folder: Path, *, env: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (), arguments: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self.name = name
        self.pid = 0
        self.log_path = folder / f"{name}.log"
        self._command = [
            *prefix, sys.executable, "-m", "bench.chaos.node_process", "node", target, "--name", name, "--nats", url,
            *arguments,
        ]  # fmt: skip
        self._env = {
            **os.environ, "PYTHONPATH": str(ROOT), "CALLBOARD_DATA_DIR": str(folder / name), "NATS_CONTEXT": "",
            "CALLBOARD_TETHER_GRACE_S": "2", **(env or {}),
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None
        self._tether = -1
        self._seen: set[psutil.Process] = set()

    @property
    def alive(self) -> bool:
        """It was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None as long as it runs."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        """Start it; it is ready when its actors are registered."""
        self._let_go()
        inherited, self._tether = os.pipe()
        try:
            with self.log_path.open("ab") as out:
                self._process = subprocess.Popen(
                    self._command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                    pass_fds=(inherited,), cwd=ROOT, env={**self._env, TETHER_FD_VARIABLE: str(inherited)},
                )  # fmt: skip
        finally:
            os.close(inherited)
        self.pid = self._process.pid

    def children(self) -> list[Child]:
        """Its actors' processes as they are now."""
        return [child for process in self._tree()[1:] if (child := _child(process))]

    def kill(self) -> list[int]:
        """SIGKILL to the supervisor and all its processes, as the loss of a machine; the pids that died."""
        processes = self._tree()
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if self._process:
            self._process.wait()
        return [process.pid for process in processes]

    async def stop(self) -> int:
        """SIGTERM, then force; returns the exit code. None of its processes is left."""
        self._remember()
        if self._process and self.alive:
            self._process.send_signal(signal.SIGTERM)
            try:
                await asyncio.to_thread(self._process.wait, STOP_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self._let_go()
        self._end_leftovers()
        return self.exit_code or 0

    def _tree(self) -> list[psutil.Process]:
        if not self.alive:
            return []
        try:
            node = psutil.Process(self.pid)
            found = [node, *node.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []
        self._seen.update(found)
        return found

    def _remember(self) -> None:
        self._tree()

    def _end_leftovers(self) -> None:
        """A process that outlived its supervisor; psutil knows it from another one that got its number."""
        for process in self._seen:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.pid != os.getpid():
                    process.kill()
        self._seen.clear()

    def _let_go(self) -> None:
        if self._tether >= 0:
            os.close(self._tether)
            self._tether = -1


def _child(process: psutil.Process) -> Child | None:
    try:
        argv = process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return None
    if "actors.node.process" not in argv or "--name" not in argv:
        return None
    at = argv.index("--name")
    rest = argv[at + 1 :]
    return Child(process.pid, rest[1], rest[0]) if len(rest) > 1 else None


if __name__ == "__main__":
    hold_tether()
    from cli import main

    main()
