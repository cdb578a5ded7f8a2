"""What a host does when a schedule fires: it decides, records the run, and asks for the job under the run's own id.

The tick is the un-acked message, so a host that dies hands it to another one, which finds the run recorded and asks for
the same job again. That is dropped if it has begun.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, assert_never

from actors.jobs.ends import read_ends
from actors.jobs.order import Order
from actors.jobs.requests import JobRequest, publish_request
from actors.schedules.runs import LastRun, claim_run, has_run, last_run, skip_run
from actors.schedules.schedule import Overlap, Rule, Schedule, due_at, is_overtaken, rule_in, run_id
from bus import headers as h
from bus import subjects
from bus.connection import Bus
from bus.crash import crash_point
from bus.mailbox import Delivery
from bus.objects import Blobs
from bus.reader import last_of_each
from bus.schedule_events import ScheduleSkipped
from bus.streams import EVENTS

WAIT_S = 2.0

Verdict = Literal["run", "skip", "wait", "overtaken"]


def is_tick(delivery: Delivery) -> bool:
    """Whether a schedule brought this request."""
    return h.SCHEDULER in delivery.headers and h.JOB_SCHEDULE in delivery.headers


def judge(overlap: Overlap, *, is_running: bool, is_late: bool) -> Verdict:
    """What becomes of a tick. ``is_running``: the last run has not ended; ``is_late``: the next tick is long due."""
    match overlap:
        case "allow":
            return "run"
        case "skip":
            return "overtaken" if is_late else "skip" if is_running else "run"
        case "queue":
            return "overtaken" if is_late else "wait" if is_running else "run"
    assert_never(overlap)


@dataclass(frozen=True)
class Tick:
    """One firing. ``next_text`` is what the server says of the next one."""

    order: Order
    rule: Rule
    due_at: datetime
    next_text: str

    @property
    def run(self) -> str:
        """The job that it asks for."""
        return run_id(self.rule.name, self.due_at)

    @property
    def schedule(self) -> Schedule:
        """What fired, as far as the message says it."""
        return Schedule(workspace=self.order.workspace, rule=self.rule, workflow=self.order.workflow)


async def fire(bus: Bus, blobs: Blobs, order: Order, lease: Delivery) -> None:
    """Handle a tick to its end. Raises: UsageError (a header that cannot be read), BusError."""
    rule, next_text = rule_in(lease.headers), lease.headers.get(h.SCHEDULE_NEXT, "")
    tick = Tick(order, rule, due_at(rule, next_text, lease.stored_at), next_text)
    firing = _Firing(bus, blobs, tick)
    while (verdict := await firing.decide()) is None:
        continue  # another run was recorded meanwhile: look again
    if verdict == "wait":
        await lease.nak(WAIT_S)
        return
    if verdict == "run":
        crash_point("schedule.after_fired")
        await firing.ask_for(tick.run)
    await lease.ack()


class _Firing:
    def __init__(self, bus: Bus, blobs: Blobs, tick: Tick) -> None:
        self._bus = bus
        self._blobs = blobs
        self._tick = tick
        self._place = (bus, blobs, tick.order.workspace, tick.rule.name)

    async def decide(self) -> Verdict | None:
        """What is done, once that is in the log; None if it has to be decided anew."""
        last, tick = await last_run(*self._place), self._tick
        if last.event is not None and (last.event.run == tick.run or await self._was_before(last)):
            return "run"
        is_running = tick.rule.overlap != "allow" and last.event is not None and await self._is_running(last.event.run)
        verdict = judge(tick.rule.overlap, is_running=is_running, is_late=is_overtaken(tick.next_text, _now()))
        if verdict == "run":
            claimed = await claim_run(self._bus, self._blobs, tick.schedule, tick.run, tick.due_at, last)
            return verdict if claimed else None
        if verdict != "wait":
            running = last.event.run if is_running and last.event else ""
            reason = "overtaken" if verdict == "overtaken" else "overlap"
            event = ScheduleSkipped(job=tick.rule.name, due_at=tick.due_at, reason=reason, running=running)
            await skip_run(self._bus, self._blobs, tick.order.workspace, event)
        return verdict

    async def _was_before(self, last: LastRun) -> bool:
        """A tick that comes again after a later one was handled: whether its run was recorded."""
        assert last.event is not None
        return last.event.due_at > self._tick.due_at and await has_run(*self._place, self._tick.run)

    async def _is_running(self, run: str) -> bool:
        """Whether a run goes on, or waits to begin; one that nobody knows of is asked for again."""
        workspace = self._tick.order.workspace
        if await read_ends(self._bus, workspace, [(run, 0)]):
            return False
        if not await last_of_each(self._bus, EVENTS, [subjects.event(workspace, run, "job.*")]):
            await self.ask_for(run)
        return True

    async def ask_for(self, run: str) -> None:
        """Put the request of a run into the queue."""
        order = self._tick.order
        request = JobRequest(
            workflow=order.workflow, job=run, input=order.body, workspace=order.workspace, priority=order.priority,
            traceparent=order.traceparent, deadline=order.deadline_at, version=order.version,
        )  # fmt: skip
        await publish_request(self._bus, self._blobs, request)


def _now() -> datetime:
    return datetime.now(UTC)
