"""The tool ``shell``: commands from a list, in one folder. It is in no app unless somebody writes that list."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from actors.components.app import App
from actors.components.component import Component
from actors.toolbox.files.confined import open_folder
from actors.toolbox.kit import Kit
from actors.toolbox.output import Output, drain
from actors.toolbox.shell.command import read_allowed, read_command
from bus.errors import UsageError
from bus.failure import TerminalError

_ROOM_S = 15.0
_LAST_WORD_S = 5.0
# The command ends with this process, also when that is killed. It is told so by the kernel, before the command begins.
_TETHERED = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[3:])
"""


class CommandResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a command ended. ``outcome`` is ``ok`` for exit code 0; ``notices`` say what was cut."""

    outcome: Literal["ok", "failed", "timeout"]
    exit_code: int = 0
    stdout: str = ""
    stderr: str = ""
    notices: list[str] = []
    duration_s: float = 0.0


class Shell(Kit):
    """A tool that runs the commands of a list, without a shell, in ``root`` or a folder below it.

    ``allow`` are programs with how their arguments begin (``"git status"``); a last word ``$`` allows no more of them,
    and arguments may be patterns. ``outside`` lets further arguments name paths outside of ``root``. ``pass_env`` are
    variables of the node that commands may see. ``timeout_s`` and ``output_limit_chars`` (for each stream) are limits.
    Raises: UsageError for what cannot be.
    """

    def __init__(
        self,
        allow: tuple[str, ...],
        *,
        root: str | Path = ".",
        outside: bool = False,
        pass_env: tuple[str, ...] = (),
        path: str = "/usr/local/bin:/usr/bin:/bin",
        timeout_s: float = 30.0,
        output_limit_chars: int = 20_000,
        name: str = "shell",
    ) -> None:
        super().__init__()
        entries: object = allow
        self.allowed = [] if isinstance(entries, str) else [read_allowed(entry) for entry in allow]
        if not self.allowed:
            raise UsageError("the kit shell needs a list of commands", code="bad_kit", path="allow",
                             hint='Shell(allow=("git status", "ls"))')  # fmt: skip
        if timeout_s <= 0:
            raise UsageError("timeout_s of the kit shell is too small", code="bad_kit", path="timeout_s")
        self.root = Path(root)
        self.outside = outside
        self.pass_env = pass_env
        self.path = path
        self.timeout_s = timeout_s
        self.output_limit_chars = output_limit_chars
        self.name = name

    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """One tool, whose description names the commands."""
        allowed = "; ".join(each.text for each in self.allowed)

        async def shell(command: str, folder: str = ".") -> CommandResult:
            """Run a command.

            Args:
                command: A program and its arguments. There is no shell: no pipes, no redirections, no variables.
                folder: Where to run it, below the root.
            """
            return await self._serve(command, folder)

        described = app.tool(
            name=self.name, timeout_s=self.timeout_s + _ROOM_S,
            description=f"Run a command, without a shell. Allowed is what begins with: {allowed}",
        )(shell)  # fmt: skip
        return (described,)

    async def _serve(self, command: str, folder: str) -> CommandResult:
        words = read_command(command, self.allowed, outside=self.outside)
        program = shutil.which(words[0], path=self.path)
        if program is None:
            raise TerminalError(f"this node has no program {words[0]!r} in {self.path}", code="command_refused")
        # The open folder itself is the working directory, so that nobody can put a link in its place meanwhile.
        with open_folder(self.root, folder) as descriptor:
            return await self._run([program, *words], descriptor)

    async def _run(self, argv: list[str], folder: int) -> CommandResult:
        began_s = time.monotonic()
        stdout, stderr = Output(self.output_limit_chars * 4), Output(self.output_limit_chars * 4)
        process = await self._start(argv, folder)
        try:
            async with asyncio.timeout(self.timeout_s):
                await asyncio.gather(drain(process.stdout, stdout), drain(process.stderr, stderr), process.wait())
        except TimeoutError:
            pass  # said by the outcome
        finally:
            is_late = process.returncode is None
            await _end(process)
        texts = [stdout.text("stdout", self.output_limit_chars), stderr.text("stderr", self.output_limit_chars)]
        code = process.returncode or 0
        return CommandResult(
            outcome="timeout" if is_late else "failed" if code else "ok", exit_code=code, stdout=texts[0][0],
            stderr=texts[1][0], notices=[notice for _, notice in texts if notice],
            duration_s=round(time.monotonic() - began_s, 3),
        )  # fmt: skip

    async def _start(self, argv: list[str], folder: int) -> asyncio.subprocess.Process:
        tether = [sys.executable, "-I", "-S", "-c", _TETHERED, str(os.getpid())] if sys.platform == "linux" else []
        return await asyncio.create_subprocess_exec(
            *tether, *(argv if tether else argv[:1] + argv[2:]), cwd=f"/dev/fd/{folder}", env=self._environment(),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip

    def _environment(self) -> dict[str, str]:
        passed = {name: os.environ[name] for name in self.pass_env if name in os.environ}
        return {"PATH": self.path, "LANG": "C.UTF-8", "PAGER": "cat", "GIT_PAGER": "cat", "GIT_TERMINAL_PROMPT": "0",
                **passed}  # fmt: skip


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the command's group: the command if it is late, and what it left in the background in any case."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), _LAST_WORD_S)
