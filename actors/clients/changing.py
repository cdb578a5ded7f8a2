"""Changing how jobs go on: the part of a client that forks them."""

from __future__ import annotations

from typing import Any

from actors.clients.handle import JobHandle
from actors.clients.inputs import plain_input
from actors.clients.submitting import Submitting, while_full
from actors.jobs.fork import fork_job, look_at_fork
from actors.jobs.fork_plan import ForkPlan
from bus.subjects import check_job_id


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
        TooLarge, StreamFull, BusError.
        """
        raw = None if input is None else plain_input(job_id, (), {}, input)
        fork = None if new_id is None else check_job_id(new_id)
        made = await while_full(
            lambda: fork_job(self.bus, self.blobs, self.workspace, job_id, from_, raw=raw, fork=fork)
        )
        return JobHandle(self._client, made.job, since=made.since)

    async def plan_fork(self, job_id: str, *, from_: str) -> ForkPlan:
        """What :meth:`fork` would reuse and do anew; nothing is done. Raises: as :meth:`fork`."""
        return await look_at_fork(self.bus, self.blobs, self.workspace, job_id, from_)
