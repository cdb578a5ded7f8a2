"""The sweep: a request that no host will ever take is refused with a trace, and does not stay in the queue.

A host takes only what its consumers' filters match, so a request for a workflow that nobody has, or on a subject that
is none, would lie in JOBS silently. Every gateway looks every two seconds; two of them may find the same request, and a
gateway may die half-way: so the rejection is appended on the condition that it is not there yet, the request goes last,
and all of it may be done again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from actors.registry import Registry
from actors.requests import publish_wake
from bus import headers as h
from bus import jobid, subjects
from bus.connection import ApiError, Bus
from bus.errors import BusError, CallboardError, Fenced, UsageError
from bus.event import NULL, Parent
from bus.failure import Failure
from bus.messages import JobRejected, ReplyFailed
from bus.objects import Blobs
from bus.reader import Stored, last_of_each, scan
from bus.streams import EVENTS, JOBS, stream_info
from bus.subjects import DEFAULT_WORKSPACE, CallKind, check_job_id, check_name
from store.log import append_event, append_unfenced

log = logging.getLogger("callboard.sweep")

PERIOD_S = 2.0
GRACE_S = 2.0
WORKFLOW_KINDS: tuple[CallKind, ...] = ("job", "agent")
_AT_ONCE = 32
_NO_CONSUMER = 10014


class Verdict(NamedTuple):
    """Why the requests on one subject are refused. ``workflow`` is the one asked for, as far as that can be said."""

    workspace: str
    workflow: str
    failure: Failure

    @property
    def keeps_wakes(self) -> bool:
        """A wake-up for a workflow that nobody has may still find one; on a subject that is none it never will."""
        return self.failure.code == "unknown_workflow"


class Sweep:
    """Looks after JOBS as long as it runs."""

    def __init__(
        self, bus: Bus, blobs: Blobs, registry: Registry, *, period_s: float = PERIOD_S, grace_s: float = GRACE_S
    ) -> None:
        self.rejected = 0
        self._bus = bus
        self._blobs = blobs
        self._registry = registry
        self._period_s = period_s
        self._grace_s = grace_s
        self._first_seen_s: dict[str, float] = {}
        # Wake-ups stay: a sweep begins after what it has seen.
        self._swept_to: dict[str, int] = {}
        self._created = ""
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look, every ``period_s`` seconds."""
        self._task = asyncio.create_task(self._run(), name="sweep of JOBS")

    async def stop(self) -> None:
        """Look no more."""
        if self._task:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except BusError as error:
                log.warning("%s; trying again", error)
            except Exception:
                log.exception("the sweep of %s failed; trying again", JOBS)
            await asyncio.sleep(self._period_s)

    async def sweep(self) -> None:
        """Look once at every subject in the queue. Raises: BusError."""
        async with self._lock:
            await self._look()

    async def _look(self) -> None:
        info = await stream_info(self._bus, JOBS, subjects="jobs.>")
        if info is None:
            raise BusError(f"there is no stream {JOBS}")
        if info["created"] != self._created:  # its sequences begin anew
            self._created = info["created"]
            self._swept_to.clear()
        present = info["state"].get("subjects") or {}
        suspects = [subject for subject in present if self._judge(subject)]
        now = asyncio.get_running_loop().time()
        self._first_seen_s = {subject: self._first_seen_s.get(subject, now) for subject in suspects}
        self._swept_to = {subject: seq for subject, seq in self._swept_to.items() if subject in self._first_seen_s}
        due = [subject for subject in suspects if now - self._first_seen_s[subject] >= self._grace_s]
        if due:
            await self._registry.refresh()
        for subject in due:
            verdict = self._judge(subject)
            if verdict and not await self._has_consumer(verdict):
                await self._clear(subject, verdict)

    def _judge(self, subject: str) -> Verdict | None:
        """None for a request that some host can take, now or once it runs."""
        try:
            workspace, workflow, _ = subjects.parse_request(subject)
        except UsageError as error:
            return _bad_subject(subject, error)
        if any(self._registry.find(kind, workflow) for kind in WORKFLOW_KINDS):
            return None
        failure = Failure(
            code="unknown_workflow", message=f"no workflow is named {workflow!r}", retryable=False,
            hint=self._registry.hint(workflow, WORKFLOW_KINDS),
        )  # fmt: skip
        return Verdict(_usable(workspace), workflow, failure)

    async def _has_consumer(self, verdict: Verdict) -> bool:
        """Whether hosts have served this workflow, whatever the registry says: it is a table that can be lost."""
        if not verdict.keeps_wakes or not _is_name(verdict.workflow):
            return False
        try:
            await self._bus.api(f"CONSUMER.INFO.{JOBS}.job-{verdict.workflow}-normal")
        except ApiError as error:
            if error.err_code == _NO_CONSUMER:
                return False
            raise
        return True

    # ---- refusing

    async def _clear(self, subject: str, verdict: Verdict) -> None:
        """Refuse all requests on one subject that were not looked at before."""
        async for page in scan(self._bus, JOBS, subject, since=self._swept_to.get(subject, 0)):
            due = [stored for stored in page if not (verdict.keeps_wakes and stored.headers.get(h.JOB_WAKE))]
            for start in range(0, len(due), _AT_ONCE):
                await asyncio.gather(*(self._refuse(stored, verdict) for stored in due[start : start + _AT_ONCE]))
            self._swept_to[subject] = page[-1].sequence

    async def _refuse(self, stored: Stored, verdict: Verdict) -> None:
        job, asked = job_id_of(stored, verdict.workspace)
        event = JobRejected(
            job=job, workflow=verdict.workflow, failure=verdict.failure, requested_job=asked, input=_shown(stored.body)
        )
        await self._leave_trace(stored, verdict.workspace, event)
        await self._tell_parent(stored, verdict.failure)
        await self._delete(stored.sequence)
        self.rejected += 1
        log.warning("%s: refused: %s", stored.subject, verdict.failure.message)

    async def _leave_trace(self, request: Stored, workspace: str, event: JobRejected) -> None:
        """Write the rejection, once for this request, under an id that no job has."""
        while True:
            prefix = subjects.log_prefix(workspace, event.job)
            newest = await self._newest(f"{prefix}.job.*")
            if newest and not newest.subject.endswith(".job.rejected"):
                event = msgspec.structs.replace(event, job=_own_id(request), requested_job=event.job)
                continue
            if newest and newest.at >= request.at:
                return
            expected = newest.sequence if newest else 0
            condition = {h.EXPECTED_SEQUENCE: str(expected), h.EXPECTED_SUBJECT: f"{prefix}.job.*"}
            try:
                await append_event(self._bus, self._blobs, prefix, event, condition, since=expected)
                return
            except Fenced:
                continue  # another gateway was faster, or a host took the id: look again

    async def _newest(self, subject: str) -> Stored | None:
        found = await last_of_each(self._bus, EVENTS, [subject])
        return max(found, key=lambda stored: stored.sequence, default=None)

    async def _tell_parent(self, request: Stored, failure: Failure) -> None:
        """A job that waits for this one as its child must not wait for ever."""
        if not (header := request.headers.get(h.JOB_PARENT)) or request.headers.get(h.JOB_WAKE):
            return
        try:
            parent = msgspec.json.decode(header, type=Parent)
            reply = ReplyFailed(job=check_job_id(parent.job), call=parent.call, failure=failure, actor="gateway")
            await append_unfenced(self._bus, self._blobs, check_name(parent.workspace, "workspace"), reply)
            await publish_wake(
                self._bus, parent.workspace, check_name(parent.workflow, "workflow"), parent.job, "reply"
            )
        except (msgspec.DecodeError, UsageError) as error:
            log.warning("seq %d of %s: header %s cannot be read: %s", request.sequence, JOBS, h.JOB_PARENT, error)

    async def _delete(self, sequence: int) -> None:
        try:
            await self._bus.api(f"STREAM.MSG.DELETE.{JOBS}", {"seq": sequence, "no_erase": True})
        except ApiError as error:
            log.debug("seq %d of %s is gone already: %s", sequence, JOBS, error)


# ---- what a request says of itself


def job_id_of(stored: Stored, workspace: str) -> tuple[str, str]:
    """(the id of the job that a request asks for, what it named instead if that can be no id)."""
    if given := stored.headers.get(h.JOB_ID):
        try:
            return check_job_id(given), ""
        except UsageError:
            return _own_id(stored), given
    if message_id := stored.headers.get(h.MSG_ID):
        return jobid.from_message_id(workspace, message_id), ""
    return _own_id(stored), ""


def _own_id(stored: Stored) -> str:
    return jobid.from_delivery(stored_ns(stored.headers[h.TIME_STAMP]), stored.sequence)


def stored_ns(text: str) -> int:
    """The server's instant in ns since the epoch, exactly as it stands in the ack subject of a delivery."""
    head, _, fraction = text.rstrip("Z").partition(".")
    return int(datetime.fromisoformat(head).replace(tzinfo=UTC).timestamp()) * 1_000_000_000 + int(f"{fraction:0<9}")


def _shown(body: bytes) -> msgspec.Raw:
    """The input as far as it is JSON, else its beginning as text: what came must be there to look at."""
    if not body:
        return NULL
    try:
        msgspec.json.decode(body)
        return msgspec.Raw(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(body[:1000].decode(errors="replace")))


def _bad_subject(subject: str, error: UsageError) -> Verdict:
    tokens = [*subject.split("."), "", ""]
    failure = Failure(code="bad_subject", message=str(error.args[0]), retryable=False, hint=error.hint)
    return Verdict(_usable(tokens[1]) if tokens[2] else DEFAULT_WORKSPACE, tokens[2] or tokens[1], failure)


def _usable(workspace: str) -> str:
    """The workspace of a trace; one that cannot be gets its trace in the default workspace."""
    return workspace if _is_name(workspace) else DEFAULT_WORKSPACE


def _is_name(value: str) -> bool:
    with contextlib.suppress(CallboardError):
        return bool(check_name(value, "name"))
    return False
