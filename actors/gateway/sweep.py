"""The sweep: a request that no host will ever take is refused with a trace, and does not stay in the queue.

A host takes only what its consumers' filters match, so a request for a workflow that nobody has, or on a subject that
is none, would lie in JOBS silently. The gateway that leads looks every two seconds. A former leader may still be at it,
and a gateway may die half-way: all of it may be done again (``actors.dead_letters.rejection``), and the request
goes last.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import NamedTuple

from actors.components.newest import WORKFLOW_KINDS
from actors.components.registry import Registry
from actors.dead_letters.rejection import record_refusal, refused_stored, usable
from bus import headers as h
from bus import subjects
from bus.connection import ApiError, Bus
from bus.errors import BusError, CallboardError, UsageError
from bus.failure import Failure
from bus.objects import Blobs
from bus.reader import Stored, scan
from bus.streams import JOBS, stream_info
from bus.subjects import DEFAULT_WORKSPACE, check_name

log = logging.getLogger("callboard.sweep")

PERIOD_S = 2.0
GRACE_S = 2.0
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
    """Looks after JOBS as long as it runs, whenever ``is_on_duty`` says so: one gateway of all is enough."""

    def __init__(
        self,
        bus: Bus,
        blobs: Blobs,
        registry: Registry,
        *,
        period_s: float = PERIOD_S,
        grace_s: float = GRACE_S,
        is_on_duty: Callable[[], bool] = lambda: True,
    ) -> None:
        self.rejected = 0
        self._bus = bus
        self._blobs = blobs
        self._registry = registry
        self._period_s = period_s
        self._grace_s = grace_s
        self._is_on_duty = is_on_duty
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
                if self._is_on_duty():
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
        return Verdict(usable(workspace), workflow, failure)

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
        refused = refused_stored(stored, verdict.failure, verdict.workspace, verdict.workflow, actor="gateway")
        await record_refusal(self._bus, self._blobs, refused)
        await self._delete(stored.sequence)
        self.rejected += 1

    async def _delete(self, sequence: int) -> None:
        try:
            await self._bus.api(f"STREAM.MSG.DELETE.{JOBS}", {"seq": sequence, "no_erase": True})
        except ApiError as error:
            log.debug("seq %d of %s is gone already: %s", sequence, JOBS, error)


# ---- pure


def _bad_subject(subject: str, error: UsageError) -> Verdict:
    tokens = [*subject.split("."), "", ""]
    failure = Failure(code="bad_subject", message=str(error.args[0]), retryable=False, hint=error.hint)
    return Verdict(usable(tokens[1]) if tokens[2] else DEFAULT_WORKSPACE, tokens[2] or tokens[1], failure)


def _is_name(value: str) -> bool:
    with contextlib.suppress(CallboardError):
        return bool(check_name(value, "name"))
    return False
