"""Jobs started by a job: the command in the log, the request in the queue, the answer when the child has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from typing import Any

import msgspec

from actors.changes.job_retry import retry_job
from actors.jobs.journal import Entry, Pending
from actors.jobs.requests import JobRequest, publish_request
from actors.operations.hosting import Target
from actors.operations.job import ChildJob
from actors.operations.operation_core import OperationCore
from actors.operations.values import bind, name_of, value_of
from bus import jobid
from bus.crash import crash_point
from bus.errors import UsageError
from bus.event import Parent
from bus.messages import CallAgent, CallJob, ChildCall
from store.log import Recorded

MAX_DEPTH = 32


class ChildCalls(OperationCore):
    """``start`` of another job, and its result."""

    def start(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, ChildJob[Any]]:
        """See ``Job.start``."""
        return self._find_and_start(self.new_key(name_of(target)), target, args, kwargs)

    async def _find_and_start(
        self, key: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> ChildJob[Any]:
        return await self._start(key, await self.hosting.find(target, ("job", "agent")), args, kwargs)

    async def _start(self, key: str, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ChildJob[Any]:
        self.check_running()
        entry = self.journal.recall(key, target.kind, target.name)
        child = _ended_child(entry) or jobid.child(self.job, key)
        place = entry.asked_at if entry else 0  # asked anew after a retry, it keeps its place in the job
        if entry is None or (isinstance(entry.outcome, Pending) and not entry.parked_on):
            if entry is None:
                self._depth()
                await self._may_begin()
            elif entry.is_void:
                await self.unpaused()
            self.busy += 1
            try:
                with self._asking():
                    entry = await self._ask_child(key, target, child, entry, args, kwargs)
            finally:
                self.rest()
        await self._take_up(place or entry.asked_at)
        return ChildJob(child, lambda: self._child_result(key, target))

    def _depth(self) -> int:
        """How many jobs are above this one. Raises: UsageError if none may be below it."""
        depth = self.submitted.parent.depth if self.submitted.parent else 0
        if depth >= MAX_DEPTH:
            message = f"{MAX_DEPTH} jobs are above this one already, each started by the one before"
            raise UsageError(message, code="too_deep", hint="does a workflow start itself without end?")
        return depth

    async def _ask_child(
        self, key: str, target: Target, child: str, entry: Entry | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Entry:
        """Record the command, then publish the request; after a crash in between the request is published again."""
        if self.listen is not None:
            await self.listen()
        if entry is None:
            body = bind(target, args, kwargs)
            entry = self.journal.begin(key, target.kind, target.name)
            command = _command(self.job, key, target, child, body)
            self.journal.apply(Recorded(await self.append(command), command))
        else:
            body = bytes(entry.command.input) if entry.command and not entry.copied else bind(target, args, kwargs)
            if entry.is_void:
                await self._ask_child_anew(key, target, child, body)
        request = JobRequest(
            workspace=self.workspace, workflow=target.name, input=body, job=child,
            traceparent=self.submitted.traceparent, priority=target.priority, deadline=self.deadline_at,
            version=target.version,
            parent=Parent(self.workspace, self.job, key, self.submitted.workflow, self._depth() + 1, self.budgets),
        )  # fmt: skip
        crash_point("host.before_request")
        await publish_request(self.hosting.bus, self.hosting.blobs, request)
        return entry

    async def _ask_child_anew(self, key: str, target: Target, child: str, body: bytes) -> None:
        """The parent was retried, and its child had failed: then the child goes on too, or starts if it never did.

        Before the command, so that after a crash at any point the child is retried until that is on record, and not
        once more when it has failed again.
        """
        with contextlib.suppress(UsageError):  # it runs, it completed, or it was cancelled: its answer will say so
            await retry_job(self.hosting.bus, self.hosting.blobs, self.workspace, child, by=f"job {self.job}")
        command = _command(self.job, key, target, child, body)
        self.journal.apply(Recorded(await self.append(command), command))

    async def _run_child(self, key: str, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        await self._start(key, target, args, kwargs)
        return await self._child_result(key, target)

    async def _child_result(self, key: str, target: Target) -> Any:
        entry = self.journal.entries[key]
        while isinstance(entry.outcome, Pending):
            await self._wait(key, None)
        await self._take_up(entry.sequence)
        return value_of(entry, target.component)


def _command(job: str, key: str, target: Target, child: str, body: bytes) -> ChildCall:
    make = CallAgent if target.kind == "agent" else CallJob
    return make(job=job, call=key, name=target.name, version=target.major, input=msgspec.Raw(body), child=child)


def _ended_child(entry: Entry | None) -> str:
    """The child that has answered: a fork may have that of its source."""
    if entry is None or isinstance(entry.outcome, Pending) or not isinstance(entry.command, ChildCall):
        return ""
    return entry.command.child
