"""Running a tool's function once: on the loop or in a thread, under its time-out, whatever it does.

An async function that is cancelled and goes on, or a thread past its time, cannot be stopped from within; ``Stuck``
says so and its process has to go. The watchdog is for the worse case: code that blocks the loop itself.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import msgspec

from actors.components.component import Component
from actors.tools.tool_context import CallCancelled, ToolContext
from bus.failure import Failure, RetryableError, TerminalError, failure_of

YIELD_GRACE_S = 3.0
STUCK_EXIT = 75

# (value, None) or (None, what was raised): a SystemExit that left a task would end the event loop.
Outcome = tuple[Any, BaseException | None]


class Stuck(TimeoutError):
    """The call is past its time and does not yield: only the end of its process stops it."""


class Aborted(Exception):
    """The function raised what is no error of its own work, such as KeyboardInterrupt or a CancelledError."""


class Invocation:
    """One run of a component's function. ``outcome`` may be awaited once."""

    def __init__(
        self, component: Component[..., Any], context: ToolContext, arguments: dict[str, Any],
        executor: ThreadPoolExecutor,
    ) -> None:  # fmt: skip
        self._context = context
        self._asked_to_stop = False
        self._is_async = component.is_async
        if component.context_param is not None:
            arguments = {component.context_param: context, **arguments}
        loop = asyncio.get_running_loop()
        self._running: asyncio.Future[Outcome]
        if component.is_async:
            self._running = loop.create_task(_guarded(component.fn, arguments))
        else:
            self._running = loop.create_future()
            executor.submit(copy_context().run, _in_thread, component.fn, arguments, self._running)

    def cancel(self) -> None:
        """Ask the function to stop; a thread can only be asked through its context."""
        self._context.cancel()
        self._asked_to_stop = True
        if self._is_async:
            self._running.cancel()

    async def outcome(self, timeout_s: float | None) -> Any:
        """What the function returns.

        Raises: what it raises (SystemExit included), Aborted, CallCancelled after ``cancel``, TimeoutError, Stuck.
        """
        try:
            await self._ended(timeout_s)
        except asyncio.CancelledError:
            await self._wind_down()
            raise
        if self._running.done():
            return self._result()
        await self._wind_down()
        message = f"no result within {timeout_s:g} s"
        if not self._running.done():
            raise Stuck(f"{message}, and the call does not yield")
        raise TimeoutError(message)

    async def _ended(self, timeout_s: float | None) -> None:
        """Until it has ended or the time is up; ``asyncio.wait`` for one future costs a call some 5 us more."""
        loop = asyncio.get_running_loop()
        woken = loop.create_future()

        def wake(_: object = None) -> None:
            if not woken.done():
                woken.set_result(None)

        self._running.add_done_callback(wake)
        timer = None if timeout_s is None else loop.call_later(timeout_s, wake)
        try:
            await woken
        finally:
            self._running.remove_done_callback(wake)
            if timer:
                timer.cancel()

    def _result(self) -> Any:
        if self._running.cancelled():
            if self._asked_to_stop:
                raise CallCancelled("the call was cancelled")
            raise Aborted("the function raised CancelledError, and nobody had cancelled it")
        value, error = self._running.result()
        if error is None:
            return value
        # A StopIteration cannot leave a coroutine; the others would end the process.
        if isinstance(error, StopIteration | StopAsyncIteration) or not isinstance(error, Exception | SystemExit):
            raise Aborted(f"the function raised {type(error).__name__}") from error
        raise error

    async def _wind_down(self) -> None:
        """Ask the function to stop, and give it a moment."""
        self.cancel()
        await asyncio.wait({self._running}, timeout=YIELD_GRACE_S)


async def invoke(
    component: Component[..., Any], context: ToolContext, arguments: dict[str, Any], *, timeout_s: float | None,
    executor: ThreadPoolExecutor,
) -> Any:  # fmt: skip
    """Run the function once. Raises: as ``Invocation.outcome``."""
    return await Invocation(component, context, arguments, executor).outcome(timeout_s)


async def _guarded(fn: Callable[..., Awaitable[Any]], arguments: dict[str, Any]) -> Outcome:
    """Called in here, so that a call that is cancelled before it begins leaves no coroutine that nobody awaits."""
    try:
        return await fn(**arguments), None
    except asyncio.CancelledError:
        raise
    except BaseException as raised:  # noqa: BLE001 - carried to whoever waits
        return None, raised


def _in_thread(fn: Callable[..., Any], arguments: dict[str, Any], future: asyncio.Future[Outcome]) -> None:
    """Run in the thread; the future is done only when the function has really ended."""
    outcome: Outcome
    try:
        outcome = fn(**arguments), None
    except BaseException as raised:  # noqa: BLE001 - carried to the loop
        outcome = None, raised
    loop = future.get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(_settle, future, outcome)


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)


# ---- what it raised


def describe(error: BaseException) -> Failure:
    """The failure that describes what a tool raised, whatever that is: its parts may be of any type.

    A failure that cannot be written would leave its call without an answer, and one that cannot be read as well.
    """
    try:
        return msgspec.json.decode(msgspec.json.encode(failure_of(error)), type=Failure)
    except Exception as reason:  # noqa: BLE001 - the error's own __str__ may raise anything
        return _plain_failure(error, reason)


def _plain_failure(error: BaseException, reason: Exception) -> Failure:
    name = type(error).__name__
    retryable = {RetryableError: True, TerminalError: False}
    stated = next((word for kind, word in retryable.items() if isinstance(error, kind)), None)
    why = f"{type(reason).__name__}: {_text(reason)}"
    message = f"{name}: {_text(error)} (some of what it holds cannot be written as JSON: {why})"
    return Failure(code="error", message=message, retryable=stated, exception=name)


def _text(error: BaseException) -> str:
    try:
        return str(error).encode(errors="backslashreplace").decode()
    except Exception:  # noqa: BLE001 - see describe
        return "its text cannot be made"


# ---- when the loop itself is blocked


class Watchdog:
    """Ends the process when a call is past its time and the event loop does not turn to say so."""

    def __init__(self, on_expiry: Callable[[str], None] | None = None, *, grace_s: float = 2 * YIELD_GRACE_S) -> None:
        self._deadlines: dict[int, tuple[float, str]] = {}
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._on_expiry = on_expiry or _exit
        self._grace_s = grace_s

    def watch(self, key: int, call: str, timeout_s: float | None) -> None:
        """``call`` runs; it may take ``timeout_s`` and a grace."""
        if timeout_s is None:
            return
        self._deadlines[key] = time.monotonic() + timeout_s + self._grace_s, call
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
            self._thread.start()
        if not self._wake.is_set():
            self._wake.set()

    def forget(self, key: int) -> None:
        """The call has ended."""
        self._deadlines.pop(key, None)

    def _run(self) -> None:
        while True:
            if not self._deadlines:
                self._wake.clear()
                if not self._deadlines:
                    self._wake.wait()
            time.sleep(1.0)
            now = time.monotonic()
            for key, (deadline, call) in list(self._deadlines.items()):
                if deadline < now:
                    self.forget(key)
                    self._on_expiry(call)


def _exit(call: str) -> None:
    os.write(2, f"{call} blocks the event loop past its time-out: ending the process\n".encode())
    os._exit(STUCK_EXIT)
