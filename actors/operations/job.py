"""What a workflow is written with: every method here is durable.

A job function may be stopped at any ``await`` and run again from its start, in another process, on another machine,
days later. What it did through these methods is then answered from the log; so between them the function must be
deterministic. For what is not (the clock, random numbers, a small read from outside) there are ``now``, ``uuid``,
``random`` and ``local``. For work that takes time or can fail, write a tool.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from actors.components.component import Component
from actors.jobs.call_policy import CallPolicy
from actors.operations.question import make_question
from bus.approval_events import Escalation
from store.approval import Decision
from supervisor.breaker import OnOpen
from supervisor.retry import Retry

if TYPE_CHECKING:
    from actors.operations.locks import Lock
    from actors.operations.operations import Operations

P = ParamSpec("P")
R = TypeVar("R")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")


_NO_POLICY = CallPolicy()


class ChildJob(Generic[R]):
    """A job started by another one. ``id`` is its job id; ``await child.result()`` waits for its end."""

    def __init__(self, job_id: str, result: Callable[[], Coroutine[Any, Any, R]]) -> None:
        self.id = job_id
        self._result = result

    async def result(self) -> R:
        """What the child returned. Raises: CallFailed if it failed, was cancelled or was refused."""
        return await self._result()


class Job:
    """The running job, first parameter of each ``@app.job`` function."""

    def __init__(self, operations: Operations, policy: CallPolicy = _NO_POLICY) -> None:
        self._operations = operations
        self._policy = policy

    @property
    def operations(self) -> Operations:
        """What it is built on, for what runs in place of a function, such as a workflow document."""
        return self._operations

    @property
    def id(self) -> str:
        """The job's id."""
        return self._operations.job

    @property
    def workspace(self) -> str:
        """The workspace that it runs in."""
        return self._operations.workspace

    def options(
        self, *, retry: Retry | None = None, timeout_s: float | None = None, on_open: OnOpen | None = None
    ) -> Job:
        """This job, with another policy for the calls made through the returned object.

        await job.options(timeout_s=5).call(quote, sku=sku)

        ``on_open`` is for the time while the tool's circuit is open: "wait", or "fail" at once with a CallFailed of
        code ``circuit_open``; None: as the tool's Breaker says. Raises: UsageError for any other word.
        """
        return Job(self._operations, self._policy.but(CallPolicy(retry, timeout_s, on_open)))

    # ---- calls

    @overload
    def call(self, target: Component[P, R], *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def call(self, target: str, **kwargs: Any) -> Coroutine[Any, Any, Any]: ...

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Have a tool, an agent or another workflow run, and wait for its answer.

        ``target`` is a component, or its name where it is not at hand: ``"send"``, ``"mail.send"`` (app and name),
        ``"mail.send@2"`` (with its major version). The command is in the log before this waits, so it is given once;
        it may *run* twice if its process dies (the tool sees the same idempotency key).

        Raises: CallFailed when its attempts are spent; InvalidInput and UsageError if it cannot be asked at all.
        """
        return self._operations.call(target, args, kwargs, self._policy)

    @overload
    def start(self, target: Component[P, R], *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, ChildJob[R]]: ...
    @overload
    def start(self, target: str, **kwargs: Any) -> Coroutine[Any, Any, ChildJob[Any]]: ...

    def start(self, target: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, ChildJob[Any]]:
        """Start another workflow as a child job, without waiting for its end."""
        return self._operations.start(target, args, kwargs)

    # ---- several at once

    @overload
    def gather(self, a: Awaitable[T1], b: Awaitable[T2], /) -> Coroutine[Any, Any, tuple[T1, T2]]: ...
    @overload
    def gather(
        self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], /
    ) -> Coroutine[Any, Any, tuple[T1, T2, T3]]: ...
    @overload
    def gather(
        self, a: Awaitable[T1], b: Awaitable[T2], c: Awaitable[T3], d: Awaitable[T4], /
    ) -> Coroutine[Any, Any, tuple[T1, T2, T3, T4]]: ...
    @overload
    def gather(self, *branches: Awaitable[R]) -> Coroutine[Any, Any, tuple[R, ...]]: ...

    def gather(self, *branches: Awaitable[Any]) -> Coroutine[Any, Any, tuple[Any, ...]]:
        """Run branches side by side; their results in order.

        The first failure in the log's order is raised and the other branches are given up (what they recorded stays).
        """
        return self._operations.gather(branches)

    # ---- waiting

    def sleep(self, seconds: float) -> Coroutine[Any, Any, None]:
        """Wait for ``seconds``; durable, to within 250 ms. A long sleep parks the job and costs no process."""
        return self._operations.sleep(seconds)

    def wait_for(self, signal: str, *, timeout_s: float | None = None) -> Coroutine[Any, Any, Any]:
        """Wait for the next signal of that name, and return its data. Signals that came earlier count, in order.

        Raises: TimeoutError if none came within ``timeout_s`` seconds of the first time that this was reached.
        """
        return self._operations.wait_for(signal, timeout_s)

    def approval(
        self,
        title: str,
        *,
        details: Any = None,
        answer: Any = None,
        roles: Sequence[str] = (),
        quorum: int = 1,
        expires_s: float | None = None,
        escalate: Sequence[Escalation] = (),
        edit: Any = None,
    ) -> Coroutine[Any, Any, Decision]:
        """Ask people, and wait for what they decide; meanwhile the job parks. They see ``title`` and ``details``.

        ``answer``: what an approval has to say besides, as a JSON Schema or a type. ``roles``: who may answer (empty:
        anybody). ``quorum``: how many different people have to approve; one who rejects rejects it. ``expires_s``:
        seconds until it is decided without them, as expired. ``escalate``: who may answer too, after how long.
        ``edit``: values (a dict or a Struct) that whoever approves may change; an edit that changes one voids the
        approvals before it.

        A rejection and an expiry are no errors: look at ``approved`` and ``expired``. Raises: UsageError for a
        question that nobody could answer.
        """
        question = make_question(
            title, details=details, answer=answer, roles=roles, quorum=quorum, expires_s=expires_s, escalate=escalate,
            edit=edit,
        )  # fmt: skip
        return self._operations.approval(question)

    # ---- one at a time

    def lock(self, name: str, *, limit: int = 1, timeout_s: float | None = None) -> Lock:
        """A critical section: of all jobs of the workspace, at most ``limit`` are in a section of that name at once.

        async with job.lock("account-17") as lease:
            await job.call(book, account=17, token=lease.token)

        First come, first served; a job that waits for long is parked. What the job holds or waits for goes with its
        end, however it ends. ``lease.token`` is a fencing token: it rises with each grant.
        Raises: TimeoutError if the lock was not granted within ``timeout_s`` seconds; UsageError for a bad name or
        limit, and inside of a section of the same lock.
        """
        return self._operations.lock(name, limit, timeout_s)

    # ---- undoing

    @overload
    def undo_with(self, target: Component[P, R], *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, None]: ...
    @overload
    def undo_with(self, target: str, **kwargs: Any) -> Coroutine[Any, Any, None]: ...

    def undo_with(self, target: Any, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
        """Put on record how something is undone: if the job fails or is cancelled, ``target`` is called with that.

        What was put on record last is undone first. Say it before the call that it undoes, if undoing what was not
        done does no harm: then a call that is out when the job is cancelled is undone too. A job that is terminated
        undoes nothing, and one that has undone something cannot be retried. Raises: InvalidInput, UsageError.
        """
        return self._operations.undo_with(target, args, kwargs, self._policy)

    # ---- telling

    def emit(self, event: str, data: Any = None) -> Coroutine[Any, Any, None]:
        """Tell the world, once: an event ``emit.<event>`` in the job's log, for whoever follows it.

        Live at ``events.<workspace>.<job>.emit.<event>``. ``data`` has to be JSON. Raises: UsageError.
        """
        return self._operations.emit(event, data)

    # ---- what is not deterministic, recorded

    def local(self, fn: Callable[P, R | Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        """Run a small function in the job's own process and record what it returns; must be quick, may run twice.

        The result has to be JSON; on a replay it comes back as plain JSON values.
        """
        return self._operations.local(fn, args, kwargs)

    async def now(self) -> datetime:
        """The present instant in UTC; the same on every replay."""
        return datetime.fromisoformat(await self._operations.record("now", _now))

    async def uuid(self) -> uuid.UUID:
        """A random UUID (version 4); the same on every replay."""
        return uuid.UUID(await self._operations.record("uuid", _uuid))

    async def random(self) -> Random:
        """A generator of random numbers, seeded once; the same numbers on every replay."""
        return Random(await self._operations.record("random", _seed))


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _uuid() -> str:
    return str(uuid.uuid4())


def _seed() -> int:
    return uuid.uuid4().int >> 75
