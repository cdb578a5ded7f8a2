"""A host's part in jobs that are planned: makes the schedule of a request that came too early, ends a cancelled one.

A request with ``Job-Start`` lies in the queue until a host takes it; that host has the server bring it again at its
time, and acks it. A word to a planned job is a signal in its log and a wake-up. Of a job that has not begun only the
word to end it is heeded: ``job.cancelled`` is stored on the condition that nobody has begun the job, then the schedule
goes. Should a host die in between, the schedule brings a request for a job that has ended, and that is dropped.
"""

from __future__ import annotations

from typing import Any

from actors.jobs.journal import Journal
from actors.jobs.order import Order
from actors.jobs.planned import find_planned, publish_plan, remove_planned
from actors.jobs.signals import CANCEL, TERMINATE, reason_in
from actors.operations.hosting import Hosting
from bus import headers as h
from bus import subjects
from bus.crash import crash_point
from bus.errors import Fenced
from bus.mailbox import Delivery
from bus.messages import JobCancelled
from bus.reader import last_of_each
from bus.streams import EVENTS
from store.log import append_event

TERMINATED = "terminated"


async def plan(hosting: Hosting, order: Order, lease: Delivery) -> bool:
    """Put a request off until its time; False if the log has its job already. Raises: UsageError, BusError."""
    assert order.starts_at is not None
    (await hosting.take(order.workflow, order.version)).decode_input(order.body)
    life = await last_of_each(hosting.bus, EVENTS, [subjects.event(order.workspace, order.job, "job.*")])
    if any(not stored.subject.endswith(".job.rejected") for stored in life):
        return False
    crash_point("host.before_plan")
    await publish_plan(
        hosting.bus, order.workspace, order.job, lease.subject, order.starts_at, lease.body, lease.headers
    )
    crash_point("host.after_plan")
    await lease.ack()
    return True


async def withdraw(hosting: Hosting, order: Order, journal: Journal, lease: Delivery) -> None:
    """End a planned job that somebody has cancelled, and remove its schedule. Raises: BusError."""
    planned = await find_planned(hosting.bus, order.workspace, order.job)
    if planned is None:  # begun, or still in the queue: it finds the signal in its log
        await lease.ack()
        return
    if journal.ended is None:
        event = _cancelled(order.job, planned.workflow, journal)
        prefix = subjects.log_prefix(order.workspace, order.job)
        condition = {h.EXPECTED_SEQUENCE: str(journal.life_at), h.EXPECTED_SUBJECT: f"{prefix}.job.*"}
        try:
            await append_event(hosting.bus, hosting.blobs, prefix, event, condition, since=journal.life_at)
        except Fenced:
            await lease.nak(0.1 * lease.attempt)  # its time has come meanwhile: look again
            return
        crash_point("host.after_withdrawal")
    await remove_planned(hosting.bus, planned)
    await lease.ack()


def _cancelled(job: str, workflow: str, journal: Journal) -> JobCancelled:
    words: dict[str, Any] = {"job": job, "workflow": workflow}
    if found := journal.next_signal(TERMINATE):
        signal = found[1]
        return JobCancelled(by=signal.by, reason=": ".join(filter(None, (TERMINATED, reason_in(signal)))), **words)
    found = journal.next_signal(CANCEL)
    assert found is not None
    return JobCancelled(by=found[1].by, reason=reason_in(found[1]), **words)
