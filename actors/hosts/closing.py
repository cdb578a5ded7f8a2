"""What is said when a job ends: to its parent, and of why."""

from __future__ import annotations

from typing import assert_never

from actors.jobs.requests import publish_wake
from actors.operations.hosting import Hosting
from bus.crash import crash_point
from bus.event import Parent
from bus.failure import Failure
from bus.messages import Event, JobCancelled, JobCompleted, JobFailed, ReplyCompleted, ReplyFailed
from store.log import append_unfenced


async def tell_parent(hosting: Hosting, parent: Parent | None, ended: JobCompleted | JobFailed | JobCancelled) -> None:
    """Answer the call that the job was started by, if it was by one. Raises: BusError."""
    if parent is None:
        return
    reply = answer_to(parent, ended)
    crash_point("host.before_parent_reply")
    await append_unfenced(hosting.bus, hosting.blobs, parent.workspace, reply)
    crash_point("host.after_parent_reply")
    await publish_wake(hosting.bus, parent.workspace, parent.workflow, parent.job, "reply")


def answer_to(parent: Parent, ended: JobCompleted | JobFailed | JobCancelled) -> Event:
    """What a child's end means to the call of its parent."""
    match ended:
        case JobCompleted(output=output):
            return ReplyCompleted(job=parent.job, call=parent.call, output=output, actor=f"job {ended.job}")
        case JobFailed(failure=failure):
            return ReplyFailed(job=parent.job, call=parent.call, failure=failure, actor=f"job {ended.job}")
        case JobCancelled(by=by, reason=reason):
            failure = Failure(code="cancelled", message=f"cancelled by {by or 'unknown'}: {reason}", retryable=False)
            return ReplyFailed(job=parent.job, call=parent.call, failure=failure, actor=f"job {ended.job}")
    assert_never(ended)


def poison(times: int) -> Failure:
    """Why a job that kills its hosts is ended."""
    return Failure(
        code="poison", retryable=False,
        message=f"the job took its host's process down {times} times in a row, with nothing done in between",
        hint="look at the host's output of that time",
    )  # fmt: skip
