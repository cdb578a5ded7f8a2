"""One run of a program in a virtual machine at E2B: made for it, fed, asked, and ended for certain.

A machine lives as long as it was made for, at most: if this process is killed, nobody has to remember it.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from actors.toolbox.python.e2b_errors import failure, lost
from actors.toolbox.python.jail.guest import OUTCOME
from actors.toolbox.python.jail.order import Ceilings
from actors.toolbox.python.parcel import Garbled, Limits, parcel, read_outcome, start_code
from actors.toolbox.python.sandbox import Run
from bus.errors import UsageError
from bus.failure import TerminalError

if TYPE_CHECKING:
    from e2b_code_interpreter import AsyncSandbox

_T = TypeVar("_T")
KEY = "E2B_API_KEY"
ROOM_S = 180.0  # for the machine to be made and its files to be moved, beside the program's own time
_FOLDER = "/tmp/callboard"  # noqa: S108 - of the machine, where all users may write
_CREATE_S = 60.0
_MOVE_S = 120.0
_GRACE_S = 30.0
_KILL_S = 20.0


async def run_at_e2b(ceilings: Ceilings, code: str, files: list[tuple[str, bytes]], output_limit_bytes: int) -> Run:
    """Run ``code`` in a new machine with ``files`` in its working directory.

    The machine is ended when this returns or raises. Raises: UsageError without the SDK, TerminalError without a key or
    with a wrong one, RetryableError if there is no machine, or it is lost.
    """
    key = os.environ.get(KEY, "").strip()
    if not key:
        raise TerminalError(f"Python(remote='e2b') needs {KEY} in the environment of the process that serves the tool",
                            code="no_credentials")  # fmt: skip
    await asyncio.to_thread(_load)
    limits = Limits(ceilings.file_bytes, output_limit_bytes)
    try:
        machine = await _made(key, ceilings)
        try:
            done = await _ask(machine, ceilings, parcel(ceilings, code, files, limits), limits)
        finally:
            notice = await _whole(asyncio.ensure_future(_end(machine, ceilings)))
    except Exception as error:  # noqa: BLE001 - it is raised as what it means
        raise failure(error, key) from None  # what the SDK's error holds may hold the key
    return replace(done, notice=notice)


def _load() -> None:
    """The SDK takes a good part of a second to load. Raises: UsageError if it is not there."""
    try:
        import e2b_code_interpreter  # noqa: F401
    except ImportError as error:
        raise UsageError("Python(remote='e2b') needs the SDK of E2B", code="missing_extra",
                         hint="pip install 'callboard[e2b]'") from error  # fmt: skip


async def _made(key: str, ceilings: Ceilings) -> AsyncSandbox:
    """A new machine. One that is being made while the call is cancelled is ended as soon as it is known."""
    making = asyncio.ensure_future(_make(key, ceilings))
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        await _whole(asyncio.ensure_future(_end_once_made(making, ceilings)))
        raise


async def _make(key: str, ceilings: Ceilings) -> AsyncSandbox:
    from e2b_code_interpreter import AsyncSandbox

    # No retries: the call itself is tried again, later and elsewhere, and its owner sees that.
    return await AsyncSandbox.create(
        api_key=key, timeout=lifetime_s(ceilings), allow_internet_access=False, lifecycle={"on_timeout": "kill"},
        request_timeout=_CREATE_S, retries=0, idempotency_key=str(uuid.uuid4()),
    )  # fmt: skip


def lifetime_s(ceilings: Ceilings) -> int:
    """After so many seconds E2B ends the machine, whatever became of us."""
    return math.ceil(ceilings.timeout_s + ROOM_S)


async def _ask(machine: AsyncSandbox, ceilings: Ceilings, packed: bytes, limits: Limits) -> Run:
    await machine.files.write(f"{_FOLDER}/parcel.zip", packed, request_timeout=_MOVE_S)
    began_s = time.monotonic()
    execution = await machine.run_code(
        start_code(_FOLDER), timeout=ceilings.timeout_s + _GRACE_S, request_timeout=_CREATE_S
    )
    duration_s = time.monotonic() - began_s
    if execution.error:
        raise lost(f"it could not start the program: {execution.error.name}: {execution.error.value}"[:500])
    try:
        done = read_outcome(await _outcome(machine, limits.outcome_bytes), limits)
    except Garbled as error:
        raise lost(f"what it tells of the program cannot be read ({error})") from None
    return replace(done, duration_s=min(done.duration_s, duration_s))


async def _outcome(machine: AsyncSandbox, limit_bytes: int) -> bytes:
    """The file that tells of the run. Raises: Garbled if it is larger than it can be."""
    data = bytearray()
    async with await machine.files.read(f"{_FOLDER}/{OUTCOME}", format="stream") as chunks:
        async for chunk in chunks:
            data += chunk
            if len(data) > limit_bytes:
                raise Garbled("it is too large")
    return bytes(data)


async def _end(machine: AsyncSandbox, ceilings: Ceilings) -> str:
    """End the machine; if that cannot be, what people should know."""
    try:
        async with asyncio.timeout(_KILL_S):
            await machine.kill(request_timeout=_KILL_S / 2, retries=2)
    except Exception as error:  # noqa: BLE001 - the program has run; how it ended is what the call is about
        reason = type(error).__name__
        return f"the sandbox at E2B could not be ended ({reason}); it ends {lifetime_s(ceilings)} s after its start"
    return ""


async def _end_once_made(making: asyncio.Future[AsyncSandbox], ceilings: Ceilings) -> None:
    try:
        machine = await making
    except Exception:  # noqa: BLE001 - there is none to end
        return
    await _end(machine, ceilings)


async def _whole(ending: asyncio.Future[_T]) -> _T:
    """What ``ending`` gives; a call that is cancelled meanwhile leaves only after it, which is a matter of seconds."""
    try:
        return await asyncio.shield(ending)
    except asyncio.CancelledError:
        await asyncio.wait({ending})
        raise
