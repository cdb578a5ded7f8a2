"""One run of a function: every way in which it can end, the count of attempts, quarantine, and the watchdog."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import App, RetryableError, TerminalError, ToolContext
from actors.components.component import Component
from actors.tools.invocation import Aborted, Invocation, Stuck, Watchdog, describe
from actors.tools.past_attempts import Due, Past, Settled, Superseded, fold_past, standing
from actors.tools.progress import ProgressReports
from actors.tools.quarantine import Quarantine
from actors.tools.tool_context import CallCancelled
from bus.failure import Failure
from bus.messages import CallTool, Event, ReplyCompleted, ReplyFailed, ReplyRetrying
from tests.waiting import wait_until

CONTEXT = ToolContext("default", "job", "call:1")


@pytest.fixture
async def executor() -> AsyncIterator[ThreadPoolExecutor]:
    """Threads for sync functions."""
    threads = ThreadPoolExecutor(2)
    yield threads
    threads.shutdown(wait=False)


def tool(fn: Callable[..., Any]) -> Component[..., Any]:
    """A component of that function."""
    return App("t", version="1.0.0").tool(fn)


# ---- the ways to end


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (ValueError("x"), ValueError),
        (SystemExit(3), SystemExit),
        (KeyboardInterrupt(), Aborted),
        (asyncio.CancelledError(), Aborted),
        (StopIteration(1), Aborted),
        (StopAsyncIteration(), Aborted),
        (GeneratorExit(), Aborted),
        (BaseExceptionGroup("g", [KeyboardInterrupt()]), Aborted),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
@pytest.mark.parametrize("is_async", [True, False])
async def test_whatever_is_raised_reaches_the_caller(
    executor: ThreadPoolExecutor, raised: BaseException, expected: type[BaseException], is_async: bool
) -> None:
    """Nothing that a function raises ends the event loop or passes for a cancellation of ours."""
    if is_async and isinstance(raised, StopIteration):
        expected = RuntimeError  # Python's own doing

    async def awaited() -> int:
        raise raised

    def called() -> int:
        raise raised

    invocation = Invocation(tool(awaited if is_async else called), CONTEXT, {}, executor)
    with pytest.raises(expected):
        await invocation.outcome(5)


async def test_cancelled_before_it_begins(executor: ThreadPoolExecutor) -> None:
    """A function that never ran leaves nothing behind, no coroutine that is never awaited either."""
    ran: list[bool] = []

    async def run() -> None:
        ran.append(True)

    invocation = Invocation(tool(run), CONTEXT, {}, executor)
    invocation.cancel()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CallCancelled):
            await invocation.outcome(None)
        del invocation
        gc.collect()
    assert not ran


async def test_cancel_is_told_apart(executor: ThreadPoolExecutor) -> None:
    """After ``cancel`` a cancelled coroutine is CallCancelled; a thread that looks may raise it itself."""

    async def sleeps() -> None:
        await asyncio.sleep(3600)

    def looks(ctx: ToolContext) -> None:
        while True:
            ctx.check_cancelled()

    for fn in (sleeps, looks):
        invocation = Invocation(tool(fn), ToolContext("default", "job", "call:1"), {}, executor)
        asyncio.get_running_loop().call_soon(invocation.cancel)
        with pytest.raises(CallCancelled):
            await invocation.outcome(5)


async def test_time_out_and_stuck(executor: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch) -> None:
    """What yields when it is asked to times out; what does not is stuck."""
    monkeypatch.setattr("actors.tools.invocation.YIELD_GRACE_S", 0.05)
    release = threading.Event()

    def stays() -> None:
        release.wait(30)

    def leaves(ctx: ToolContext) -> None:
        while not ctx.cancelled:
            release.wait(0.001)

    with pytest.raises(TimeoutError, match=r"no result within 0.01 s$"):
        await Invocation(tool(leaves), ToolContext("w", "j", "c"), {}, executor).outcome(0.01)
    with pytest.raises(Stuck, match="does not yield"):
        await Invocation(tool(stays), CONTEXT, {}, executor).outcome(0.01)
    release.set()


async def test_value_that_comes_after_the_loop_has_closed() -> None:
    """A thread that outlives its event loop ends without noise."""
    threads = ThreadPoolExecutor(1)
    release = threading.Event()

    def run() -> None:
        async def begin() -> None:
            Invocation(tool(lambda_like), CONTEXT, {}, threads)

        asyncio.run(begin())

    def lambda_like() -> None:
        release.wait(30)

    await asyncio.to_thread(run)
    release.set()
    threads.shutdown(wait=True)


# ---- describing


class Mute(Exception):
    """Has no text."""

    def __str__(self) -> str:
        raise ZeroDivisionError


ODD_ERRORS = [
    (Mute(), None),
    (TerminalError("x", details={"a": object()}), False),
    (TerminalError("x", code=5), False),  # type: ignore[arg-type]
    (RetryableError("x", retry_after_s="soon"), True),  # type: ignore[arg-type]
    (RetryableError("x", retry_after_s=float("nan")), True),
    (ValueError("\ud800"), None),
    (TerminalError(object()), False),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("error", "retryable"), ODD_ERRORS)
def test_failure_can_always_be_written_and_read(error: Exception, retryable: bool | None) -> None:
    """Whatever an error holds, its failure crosses the wire and keeps the author's word on retries."""
    failure = describe(error)
    assert msgspec.json.decode(msgspec.json.encode(failure), type=Failure) == failure
    assert failure.retryable is retryable
    assert failure.exception == type(error).__name__


def test_plain_errors_keep_everything() -> None:
    """Code, details, wait, bases and traceback."""
    failure = describe(TerminalError("gone", code="sold_out", details={"left": 0}))
    assert (failure.code, failure.message, failure.details) == ("sold_out", "gone", {"left": 0})
    assert describe(RetryableError("x", retry_after_s=2)).retry_after_s == 2
    assert describe(ConnectionResetError("x")).bases == ("ConnectionResetError", "ConnectionError", "OSError")


# ---- attempts


def retry(attempt: int, *, handed_back: bool = False, call: str = "c") -> ReplyRetrying:
    """A record of a failed attempt."""
    return ReplyRetrying(job="j", call=call, attempt=attempt, handed_back=handed_back)


def past(events: list[Any], call: str, *, job_over: bool) -> Past:
    """What events after a command at 10 say."""
    return fold_past(list(enumerate(events, 11)), call, 10, job_over=job_over)


def test_fold_of_the_past() -> None:
    """Only the records of the very call count."""
    failure = Failure(code="x", message="")
    assert past([], "c", job_over=False) == Past()
    assert past([retry(1), retry(2), retry(9, call="d")], "c", job_over=True) == Past(failed=2, job_over=True)
    assert past([retry(1, handed_back=True)] * 2, "c", job_over=False) == Past(handed_back=2)
    for reply in (ReplyCompleted(job="j", call="c"), ReplyFailed(job="j", call="c", failure=failure)):
        assert past([reply], "c", job_over=False).answered
        assert not past([reply], "d", job_over=False).answered


def test_attempts_of_an_earlier_command_do_not_count() -> None:
    """A call that was given out anew has its whole budget again; an answer counts whichever command it was for."""
    earlier: list[tuple[int, Event]] = [(8, retry(3)), (9, retry(1, handed_back=True))]
    assert fold_past([*earlier, (11, retry(1))], "c", 10, job_over=False) == Past(failed=1)
    assert fold_past([(9, ReplyCompleted(job="j", call="c"))], "c", 10, job_over=False).answered


@given(failed=st.integers(0, 20), handed_back=st.integers(0, 20), deliveries=st.integers(1, 60))
def test_which_attempt_is_due(failed: int, handed_back: int, deliveries: int) -> None:
    """Never fewer than what is recorded, and at most one death more, however often the call was given out."""
    due = standing(Past(failed=failed, handed_back=handed_back), deliveries)
    if deliveries <= failed + handed_back:
        assert due == Superseded()
    else:
        assert isinstance(due, Due)
        assert due.attempt == failed + 1 + due.after_death
        assert due.after_death == (deliveries - handed_back > failed + 1)
    assert standing(Past(answered=True), deliveries) == Settled()
    assert standing(Past(job_over=True), deliveries) == Settled()
    assert standing(Past(given_out_anew=True), deliveries) == Settled()


@given(st.lists(st.sampled_from(["fails", "dies", "handed back", "held"]), max_size=12))
def test_attempts_over_any_history(history: list[str]) -> None:
    """Each attempt has its own number, in turn; a call that was only held beside another is charged once at most.

    A delivery that comes to light late, after others have written of the call, is nobody's to run.
    """
    events: list[Any] = []
    deliveries, begun = 0, []
    for what in history:
        deliveries += 1
        assert {standing(past(events, "c", job_over=False), d) for d in range(1, len(events) + 1)} <= {Superseded()}
        due = standing(past(events, "c", job_over=False), deliveries)
        assert isinstance(due, Due)
        if what == "held":  # given out, and its process died before it began
            continue
        if due.after_death:
            events.append(retry(due.attempt - 1))
        begun.append(due.attempt)
        if what == "fails":
            events.append(retry(due.attempt))
        elif what == "handed back":
            events.append(retry(due.attempt, handed_back=True))
            begun.pop()
    assert begun == sorted(set(begun))
    assert max(begun, default=0) <= len(begun) + history.count("held") + history.count("handed back")


# ---- quarantine


async def test_suspects_run_alone_and_one_by_one() -> None:
    """While a suspect runs nothing else does; afterwards the others go on side by side."""
    quarantine = Quarantine()
    now: set[str] = set()
    seen: list[set[str]] = []

    async def call(name: str, *, suspect: bool) -> None:
        async with quarantine.place(suspect=suspect):
            now.add(name)
            seen.append(set(now))
            await asyncio.sleep(0.01)
            now.discard(name)

    calls = [call("a", suspect=False), call("S", suspect=True), call("T", suspect=True), call("b", suspect=False),
             call("c", suspect=False)]  # fmt: skip
    await asyncio.gather(*calls)
    assert [s for s in seen if s & {"S", "T"}] == [{"S"}, {"T"}]
    assert {"b", "c"} in seen


async def test_suspect_is_alone_for_a_limited_time_only() -> None:
    """Neither a long call nor a long suspect stops a process for good, and a cancelled one leaves no trace."""
    quarantine = Quarantine(alone_s=0.02)
    never = asyncio.Event()

    async def stay(*, suspect: bool) -> None:
        async with quarantine.place(suspect=suspect):
            await never.wait()

    long = [asyncio.create_task(stay(suspect=suspect)) for suspect in (False, True, True)]
    async with asyncio.timeout(5), quarantine.place(suspect=True), quarantine.place(suspect=False):
        pass
    for task in long:
        task.cancel()
    await asyncio.wait(long)
    assert quarantine.is_open


# ---- watchdog


async def test_watchdog_tells_what_is_late_once() -> None:
    """A call that is forgotten in time is not reported, one without limit never."""
    late: list[str] = []
    watchdog = Watchdog(late.append, grace_s=0.0)
    watchdog.watch(1, "in time", 0.0)
    watchdog.forget(1)
    watchdog.watch(2, "without limit", None)
    watchdog.watch(3, "late", 0.0)
    await wait_until(lambda: late)
    watchdog.watch(4, "later", 0.0)
    await wait_until(lambda: late == ["late", "later"])


# ---- progress


async def test_progress_of_odd_numbers() -> None:
    """What is no number is the author's error, said at once; a division by zero upstream is left out."""
    event = CallTool(job="j", call="c", name="t", version=1)
    reports = ProgressReports(None, None, "default", event, 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="half"):
        reports.report("half", None, "")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        reports.report(1, [], "")  # type: ignore[arg-type]
    reports.report(float("nan"), None, "")
    reports.report(1, float("inf"), "")
    reports.report(1, 2, "half a \ud800 character")  # cannot be recorded here, and only a warning says so
    await asyncio.sleep(0)
    recording = reports.close()
    assert recording is not None
    await asyncio.wait({recording})
    reports.report(2, 2, "too late")
    await asyncio.sleep(0)
    assert reports.close() is recording
