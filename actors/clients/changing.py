"""Changing how jobs go on: the part of a client that forks and amends them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from actors.changes.amend import Amended, amend_job
from actors.changes.fork import fork_job, look_at_fork
from actors.changes.fork_plan import ForkPlan
from actors.clients.handle import JobHandle
from actors.clients.inputs import plain_input
from actors.clients.submitting import Submitting, while_full
from actors.components.input_check import check_input
from bus.amendment import AddItems, AddSteps, Change, FinishMap, SetPolicy, SkipStep
from bus.errors import UsageError
from bus.subjects import check_job_id
from supervisor.breaker import OnOpen
from supervisor.retry import Retry

_RETRY = Retry.__struct_fields__


class Changing(Submitting):
    """What may be done to a job beside speaking to it; a ``Client`` is one."""

    async def fork(
        self,
        job_id: str,
        *,
        from_: str,
        input: dict[str, Any] | bytes | None = None,  # noqa: A002 - the word that the wire uses
        new_id: str | None = None,
    ) -> JobHandle[Any]:
        """Start a new job that goes on from ``from_`` with what ``job_id`` had recorded before; the handle is its.

        ``from_`` is the key of an operation as ``callboard show`` prints it, or what such keys begin with: a step of a
        document, the name of a component (its first call), a gather. What had its outcome before that operation was
        begun is reused by its key and not run again, whatever ``input`` says; None is the input of ``job_id``. The same
        ``new_id`` again is the same fork. The job itself goes on, or stays as it is.
        Raises: UsageError ``unknown_job``, ``unknown_step``, ``log_incomplete``, ``never_ran`` or ``job_id_conflict``,
        InvalidInput, TooLarge, StreamFull, BusError.
        """
        raw = None if input is None else plain_input(job_id, (), {}, input)
        if raw is not None:
            await self._check_input(job_id, from_, raw)
        fork = None if new_id is None else check_job_id(new_id)
        made = await while_full(
            lambda: fork_job(self.bus, self.blobs, self.workspace, job_id, from_, raw=raw, fork=fork)
        )
        return JobHandle(self._client, made.job, since=made.since)

    async def _check_input(self, job_id: str, from_: str, raw: bytes) -> None:
        """Against the version that the job began with, if it is known; the fork's host checks it again."""
        submitted = (await self.plan_fork(job_id, from_=from_)).submitted
        wanted = (submitted.workflow, submitted.version)
        for info in await self._client.workflows.components():
            if info.kind != "tool" and (info.name, info.version) == wanted:
                check_input(info, msgspec.json.decode(raw))

    async def plan_fork(self, job_id: str, *, from_: str) -> ForkPlan:
        """What :meth:`fork` would reuse and do anew; nothing is done. Raises: as :meth:`fork`."""
        return await look_at_fork(self.bus, self.blobs, self.workspace, job_id, from_)

    # ---- amendments

    async def amend(self, job_id: str, change: Change, *, by: str = "") -> Amended:
        """Write a change into the job's log and wake it; where it stands there, and which calls in flight it is about.

        Raises: UsageError ``bad_change``, ``unknown_job``, ``job_ended``, or ``not_a_document`` for what only the steps
        of a workflow document can be told; BusError.
        """
        return await amend_job(self.bus, self.blobs, self.workspace, job_id, change, by=by)

    async def set_policy(
        self,
        job_id: str,
        target: str,
        *,
        retry: Retry | dict[str, Any] | None = None,
        timeout_s: float | None = None,
        on_open: OnOpen | None = None,
        by: str = "",
    ) -> Amended:
        """Have calls of ``target`` (a component's name, a call's key, a step) made otherwise from now on.

        ``retry`` as a dict holds the fields that change. A call that is out follows with its next attempt. A job that
        has failed takes it too, for when it is retried. Raises: as :meth:`amend`.
        """
        fields = {name: getattr(retry, name) for name in _RETRY} if isinstance(retry, Retry) else retry
        return await self.amend(job_id, SetPolicy(target, fields, timeout_s, on_open), by=by)

    async def add_steps(self, job_id: str, steps: Iterable[dict[str, Any]], *, into: str = "", by: str = "") -> Amended:
        """Inject steps, written as in a document, into the list within step ``into``, or at the top.

        Raises: as :meth:`amend`.
        """
        return await self.amend(job_id, AddSteps(_raw(list(steps), "steps"), into), by=by)

    async def add_items(self, job_id: str, step: str, items: Iterable[Any], *, by: str = "") -> Amended:
        """Give map ``step`` an instance for each of ``items``. Raises: as :meth:`amend`."""
        return await self.amend(job_id, AddItems(step, _raw(list(items), "items")), by=by)

    async def finish_map(self, job_id: str, step: str, *, by: str = "") -> Amended:
        """Complete map ``step`` with what it has by now. Raises: as :meth:`amend`."""
        return await self.amend(job_id, FinishMap(step), by=by)

    async def skip_step(self, job_id: str, step: str, *, by: str = "") -> Amended:
        """Give ``step`` up, or do not begin it; what needs it goes on. Raises: as :meth:`amend`."""
        return await self.amend(job_id, SkipStep(step), by=by)


def _raw(values: list[Any], what: str) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(values))
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise UsageError(f"the {what} are no JSON: {error}", code="bad_change", path=what) from error
