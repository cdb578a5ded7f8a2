"""The tool ``python``: runs code of a model's (or of anybody's) in a sandbox, and says how well that one is shut."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal, get_args

from actors.components.app import App
from actors.toolbox.kit import Kit
from actors.toolbox.python.e2b_machine import ROOM_S, run_at_e2b
from actors.toolbox.python.isolation import STRENGTH, Isolation, Require, candidates
from actors.toolbox.python.jail.order import Ceilings
from actors.toolbox.python.result import Answer, PythonResult, artifact_name, judge, read_report
from actors.toolbox.python.sandbox import Run, run
from actors.tools.tool_context import ToolContext
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError
from store.artifact import Artifact

if TYPE_CHECKING:
    from actors.components.component import Component

Remote = Literal["e2b"]
MIB = 1024 * 1024
_PROBE = "import csv\nprint(6 * 7)"
_PROBE_CEILINGS = Ceilings(timeout_s=10, memory_bytes=256 * MIB, file_bytes=MIB)
_PROBINGS = 2  # a machine that is out of breath for a moment is not one that offers nothing
_ROOM_S = 60.0  # for the sandbox to be made and its files to be stored, beside the program's own time
_INPUT_LIMIT_BYTES = 256 * MIB


class Python(Kit):
    """A tool that runs Python code in a process of its own, without network, without this node's files or environment.

    ``timeout_s`` and ``cpu_s`` bound one program, ``memory_bytes`` each of its processes and all of them together,
    ``processes`` how many it may have at once (threads count), ``file_bytes`` the files that it writes, each and
    together, ``kept_files`` how many of them are kept, ``output_limit_chars`` stdout and stderr, each. ``require`` is
    the least isolation that is acceptable: on a machine that offers less the tool is not served. ``remote`` "e2b" runs
    each program in a virtual machine of its own at E2B, which is enough for every ``require``; the key is read from
    E2B_API_KEY when the tool runs.
    Raises: UsageError for what cannot be.
    """

    def __init__(
        self,
        *,
        name: str = "python",
        timeout_s: float = 30.0,
        cpu_s: int = 30,
        memory_bytes: int = 512 * MIB,
        processes: int = 32,
        file_bytes: int = 64 * MIB,
        kept_files: int = 50,
        output_limit_chars: int = 20_000,
        require: Require = "any",
        remote: Remote | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.require = require
        self.remote = remote
        self.output_limit_chars = output_limit_chars
        self.ceilings = Ceilings(timeout_s=timeout_s, cpu_s=cpu_s, memory_bytes=memory_bytes, processes=processes,
                                 file_bytes=file_bytes, files=kept_files)  # fmt: skip
        self._isolation: Isolation | None = None
        self._probing = asyncio.Lock()
        self._check()

    def _check(self) -> None:
        if self.require not in get_args(Require):
            raise UsageError(f"there is no isolation {self.require!r}", code="bad_kit", path="require",
                             hint="any, landlock, namespaces or bubblewrap")  # fmt: skip
        if self.remote not in (None, *get_args(Remote)):
            raise UsageError(f"there is no remote sandbox {self.remote!r}", code="bad_kit", path="remote",
                             hint="e2b, or none: a sandbox on this machine")  # fmt: skip
        least = {"timeout_s": 0.1, "cpu_s": 1, "memory_bytes": 64 * MIB, "processes": 1, "file_bytes": 1, "files": 0}
        for setting, value in least.items():
            if getattr(self.ceilings, setting) < value:
                raise UsageError(f"{setting} of the kit {self.name} is too small", code="bad_kit", path=setting,
                                 hint=f"{value} at least")  # fmt: skip

    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """One tool."""

        room_s = ROOM_S if self.remote else _ROOM_S

        @app.tool(name=self.name, timeout_s=self.ceilings.timeout_s + room_s)
        async def python(ctx: ToolContext, code: str, files: list[Artifact] | None = None) -> PythonResult:
            """Run a Python program in a sandbox without network and return what it printed and made.

            The value of the last expression comes back as text. Files that the program writes to its working
            directory, and open matplotlib or plotly figures, come back as artifacts. Nothing is kept between two calls.

            Args:
                ctx: The call.
                code: The program, as it would stand in a file.
                files: Artifacts that it finds in its working directory, by their names.
            """
            return await self._serve(ctx, code, files or [])

        return (python,)

    async def isolation(self) -> Isolation:
        """What is in force on this machine: found out once, by running a program. Raises: TerminalError if too weak."""
        async with self._probing:
            if self._isolation is None:
                self._isolation = await _strongest(self.require)
        return self._isolation

    async def check_machine(self) -> None:
        """Find out what is in force here, if programs run here. Raises: UsageError if it is less than is required."""
        if self.remote or STRENGTH[self.require] == 0:
            return
        for tries_left in reversed(range(_PROBINGS)):
            try:
                await self.isolation()
                return
            except TerminalError as error:
                if not tries_left:
                    raise _too_weak(error) from error

    async def _serve(self, ctx: ToolContext, code: str, files: list[Artifact]) -> PythonResult:
        output_limit_bytes = self.output_limit_chars * 4
        if self.remote:
            done = await run_at_e2b(self.ceilings, code, await _contents(ctx, files), output_limit_bytes)
            return await self._result(ctx, self.remote, done)
        isolation = await self.isolation()
        inputs = await _contents(ctx, files)
        try:
            done = await run(isolation, self.ceilings, code, inputs, output_limit_bytes)
        except OSError as error:
            raise RetryableError(f"no sandbox could be started: {error}", code="sandbox_unavailable") from error
        return await self._result(ctx, isolation.text, done)

    async def _result(self, ctx: ToolContext, isolation: str, done: Run) -> PythonResult:
        answer = done.answer or Answer(outcome="killed")
        report = read_report(answer.report)
        refused = answer.refused or (report.error if report.outcome == "refused" else "")
        if refused:
            raise RetryableError(f"no sandbox could be made: {refused}", code="sandbox_unavailable")
        outcome, error = judge(answer, report)
        stdout, cut_stdout = done.stdout.text("stdout", self.output_limit_chars)
        stderr, cut_stderr = done.stderr.text("stderr", self.output_limit_chars)
        return PythonResult(
            outcome=outcome, value=report.value, stdout=stdout, stderr=stderr, error=error,
            files=await _keep(ctx, done.files), left_out=answer.left_out,
            notices=[one for one in (cut_stdout, cut_stderr, report.figures, done.notice) if one],
            isolation=isolation, duration_s=round(done.duration_s, 3),
        )  # fmt: skip


def _too_weak(error: TerminalError) -> UsageError:
    tried = "; ".join((error.details or {}).get("tried", ())) or "no other way is known here"
    return UsageError(f"{error} (tried: {tried})", code=error.code, path="require",
                      hint="what each level keeps from a program is in docs/security-toolbox.md")  # fmt: skip


async def _strongest(require: Require) -> Isolation:
    tried: list[str] = []
    for isolation in candidates():
        if not isolation.is_enough(require):
            break
        reason = await _why_not(isolation)
        if not reason:
            return isolation
        tried.append(f"{isolation.text}: {reason}")
    raise TerminalError(
        f"this machine offers no sandbox of the isolation {require!r}; install bubblewrap, allow user namespaces, "
        "or accept less with Python(require=...) or CALLBOARD_PYTHON_REQUIRE",
        code="sandbox_too_weak", details={"tried": tried},
    )  # fmt: skip


async def _why_not(isolation: Isolation) -> str:
    try:
        done = await run(isolation, _PROBE_CEILINGS, _PROBE, [], 10_000)
    except OSError as error:
        return str(error)
    if done.stdout.kept == b"42\n" and done.answer:
        return ""
    said = done.answer.refused or done.answer.report if done.answer else done.stderr.kept.decode("utf-8", "replace")
    return said[-500:] or "no answer"


async def _contents(ctx: ToolContext, files: list[Artifact]) -> list[tuple[str, bytes]]:
    names = [artifact_name(file.name) for file in files]
    if len(set(names)) < len(names):
        raise TerminalError("two of the files have the same name; give each of them its own", code="bad_files")
    if sum(file.size_bytes for file in files) > _INPUT_LIMIT_BYTES:
        raise TerminalError(f"the files have more than {_INPUT_LIMIT_BYTES:,} bytes together", code="bad_files")
    return [(name, await ctx.content(file)) for name, file in zip(names, files, strict=True)]


async def _keep(ctx: ToolContext, files: list[tuple[str, bytes]]) -> list[Artifact]:
    return [await ctx.artifact(artifact_name(path), data) for path, data in files]
