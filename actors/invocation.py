"""Running a tool's function once: on the loop or in a thread, under its time-out, whatever it does.

An async function that is cancelled and goes on, or a thread past its time, cannot be stopped from within; ``Stuck``
says so and its process has to go. The watchdog is for the worse case: code that blocks the loop itself.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

from actors.component import Component
from actors.tool_context import ToolContext

YIELD_GRACE_S = 3.0
STUCK_EXIT = 75


class Stuck(TimeoutError):
    """The call is past its time and does not yield: only the end of its process stops it."""


async def invoke(
    component: Component[..., Any], context: ToolContext, arguments: dict[str, Any], *, timeout_s: float | None,
    executor: ThreadPoolExecutor,
) -> Any:  # fmt: skip
    """What the function returns. Raises: what it raises, TimeoutError, Stuck."""
    if component.context_param is not None:
        arguments = {component.context_param: context, **arguments}
    if component.is_async and timeout_s is None:
        return await component.fn(**arguments)
    running: asyncio.Future[Any]
    if component.is_async:
        running = asyncio.ensure_future(component.fn(**arguments))
    else:
        running = asyncio.get_running_loop().create_future()
        executor.submit(copy_context().run, _in_thread, component.fn, arguments, running)
    return await _within(running, context, timeout_s, cancellable=component.is_async)


def _in_thread(fn: Callable[..., Any], arguments: dict[str, Any], future: asyncio.Future[Any]) -> None:
    """Run in the thread; the future is done only when the function has really ended."""
    try:
        value, error = fn(**arguments), None
    except BaseException as raised:  # noqa: BLE001 - carried to the loop, SystemExit included
        value, error = None, raised
    loop = future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(_settle, future, value, error)


def _settle(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if isinstance(error, StopIteration):  # may not be set on a future
        error = RuntimeError("the tool raised StopIteration")
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


async def _within(
    running: asyncio.Future[Any], context: ToolContext, timeout_s: float | None, *, cancellable: bool
) -> Any:
    try:
        await asyncio.wait({running}, timeout=timeout_s)
    except asyncio.CancelledError:
        await _wind_down(running, context, cancellable)
        raise
    if running.done():
        return running.result()
    await _wind_down(running, context, cancellable)
    message = f"no result within {timeout_s:g} s"
    if not running.done():
        raise Stuck(f"{message}, and the call does not yield")
    if not running.cancelled():
        running.exception()  # it came too late; retrieved, so that nobody is told that it was not
    raise TimeoutError(message)


async def _wind_down(running: asyncio.Future[Any], context: ToolContext, cancellable: bool) -> None:
    """Ask the function to stop, and give it a moment. A thread can only be asked through its context."""
    context.cancel()
    if cancellable:
        running.cancel()
    await asyncio.wait({running}, timeout=YIELD_GRACE_S)


class Watchdog:
    """Ends the process when a call is past its time and the event loop does not turn to say so."""

    def __init__(self, on_expiry: Callable[[str], None] | None = None) -> None:
        self._deadlines: dict[str, float] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._on_expiry = on_expiry or _exit

    def watch(self, call: str, timeout_s: float | None) -> None:
        """``call`` runs; it may take ``timeout_s`` and a grace."""
        if timeout_s is None:
            return
        self._deadlines[call] = time.monotonic() + timeout_s + 2 * YIELD_GRACE_S
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
            self._thread.start()
        self._wake.set()

    def forget(self, call: str) -> None:
        """``call`` has ended."""
        self._deadlines.pop(call, None)

    def _run(self) -> None:
        while True:
            if not self._deadlines:
                self._wake.clear()
                if not self._deadlines:
                    self._wake.wait()
            time.sleep(1.0)
            now = time.monotonic()
            for call, deadline in list(self._deadlines.items()):
                if deadline < now:
                    self._on_expiry(call)


def _exit(call: str) -> None:
    os.write(2, f"call {call} blocks the event loop past its time-out: ending the process\n".encode())
    os._exit(STUCK_EXIT)
