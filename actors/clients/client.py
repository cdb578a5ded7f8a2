"""The client: submit jobs, wait for their results, follow them, and speak to them.

    async with Client.connect() as client:
        handle = await client.submit(order, sku="A1", qty=2)     # a component: checked here, typed result
        receipt = await handle.result(timeout_s=30)
        other = await client.submit("order", sku="A1", qty=2)    # a name: checked by a gateway, plain JSON result

``job_id``, ``priority``, ``idempotency_key``, ``offline_ok`` and ``input`` are words of ``submit`` itself. A workflow
that has inputs of these names takes them with ``input={"priority": ...}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator, Iterable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast, overload

import msgspec

from actors.clients.approving import Approving
from actors.clients.bulk import Told, Verb, can_be, tell_all
from actors.clients.offline import OfflineSubmits, check_offline_name
from actors.clients.outcome import output_of
from actors.clients.requests import JobRequest, check_request, find_earlier, job_id_for, publish_request
from actors.clients.signals import CANCEL, PAUSE, RESUME, TERMINATE, make_signal, send_signal, unknown_job
from actors.components.component import Component
from actors.jobs.ends import JobEnds
from actors.jobs.hold import data_of
from actors.jobs.job_retry import retry_job
from bus import subjects
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, BusUnreachable, StreamFull, UsageError
from bus.objects import Blobs
from bus.options import resolve_options
from bus.service import ask
from bus.subjects import DEFAULT_WORKSPACE, Priority, check_job_id, check_name
from store.job_list import ListedJob, ListedState, Wanted, list_jobs
from store.log import Recorded, read_job
from store.tail import TailItem, live_filter, tail
from store.view import JobView, fold_view

log = logging.getLogger("callboard.client")

R = TypeVar("R")

FULL_WAIT_S = 30.0
SIGNAL_WAIT_S = 5.0
FRESH_S = 0.05
_API_TIMEOUT_S = 5.0
_API_TRIES = 3


class JobHandle(Generic[R]):
    """A job that was submitted: its ``id`` and ``workspace``, and what can be asked of it.

    ``held``: the server was away, and the request lies in this machine's outbox until it is back.
    """

    def __init__(
        self,
        client: Client,
        job: str,
        component: Component[..., R] | None = None,
        *,
        since: int = 0,
        fresh: bool = False,
        held: bool = False,
    ) -> None:
        self.id = job
        self.held = held
        self.workspace = client.workspace
        self._client = client
        self._component = component
        self._since = since
        self._fresh_until_s = asyncio.get_running_loop().time() + FRESH_S if fresh else 0.0
        self._ended: Recorded | None = None

    def __repr__(self) -> str:
        return f"<job {self.id} in workspace {self.workspace}>"

    async def result(self, timeout_s: float | None = None) -> R:
        """What the job returned, waiting at most ``timeout_s`` seconds for it; typed if it was submitted by component.

        Raises: JobFailedError, JobCancelledError, JobRejectedError, TimeoutError (the job goes on), BusClosed.
        """
        if self._ended is None:
            fresh = asyncio.get_running_loop().time() < self._fresh_until_s
            self._ended = await self._client.wait_for_end(self.id, timeout_s=timeout_s, since=self._since, fresh=fresh)
        output = output_of(self._ended.event)
        if self._component is not None:
            return self._component.decode_output(output)
        value: R = msgspec.json.decode(output)
        return value

    async def view(self) -> JobView:
        """The job as it stands. Raises: UsageError ``unknown_job`` until a host has taken it up."""
        return await self._client.get(self.id)

    def follow(self, since_seq: int = 0) -> AsyncGenerator[TailItem, None]:
        """Its events, see :meth:`Client.follow`."""
        return self._client.follow(self.id, since_seq)

    async def signal(self, name: str, data: Any = None, *, by: str = "") -> int:
        """Give it a signal, see :meth:`Client.signal`; waits some seconds for a host to take the job up first."""
        return await self._client.signal(self.id, name, data, by=by, wait_s=SIGNAL_WAIT_S)

    async def retry(self, *, calls: Iterable[str] = (), by: str = "") -> None:
        """Let it go on from where it failed, see :meth:`Client.retry`; :meth:`result` then waits for its new end."""
        again = await self._client.retry(self.id, calls=calls, by=by)
        self._since, self._ended = again._since, None

    async def cancel(self, reason: str = "", *, by: str = "") -> int:
        """Ask it to end, see :meth:`Client.cancel`; waits some seconds for a host to take the job up first."""
        return await self._client.cancel(self.id, reason, by=by, wait_s=SIGNAL_WAIT_S)

    async def terminate(self, reason: str = "", *, by: str = "") -> int:
        """End it now, see :meth:`Client.terminate`; waits some seconds for a host to take the job up first."""
        return await self._client.terminate(self.id, reason, by=by, wait_s=SIGNAL_WAIT_S)

    async def pause(self, *, children: bool = True, by: str = "") -> int:
        """Let it begin nothing new, see :meth:`Client.pause`; waits some seconds for a host to take it up first."""
        return await self._client.pause(self.id, children=children, by=by, wait_s=SIGNAL_WAIT_S)

    async def resume(self, *, children: bool = True, by: str = "") -> int:
        """Let it go on, see :meth:`Client.resume`; waits some seconds for a host to take the job up first."""
        return await self._client.resume(self.id, children=children, by=by, wait_s=SIGNAL_WAIT_S)


class Connecting:
    """A client under way: ``await`` it, or enter it with ``async with`` to have it closed at the end."""

    def __init__(self, url: str | None, context: str | None, workspace: str, bus: Bus | None, timeout_s: float) -> None:
        self._arguments = (url, context, timeout_s)
        self._workspace = check_name(workspace, "workspace")
        self._bus = bus
        self._client: Client | None = None

    def __await__(self) -> Generator[Any, None, Client]:
        return self._open().__await__()

    async def _open(self) -> Client:
        if self._bus is not None:
            return Client(self._bus, self._workspace)
        url, context, timeout_s = self._arguments
        bus = await Bus.connect(resolve_options(url, context), name="callboard client", timeout_s=timeout_s)
        return Client(bus, self._workspace, owns_bus=True)

    async def __aenter__(self) -> Client:
        self._client = await self._open()
        return self._client

    async def __aexit__(self, *_: object) -> None:
        if self._client is not None:
            await self._client.close()


class Client(Approving):
    """Speaks to one workspace over one connection. Made by :meth:`connect`."""

    def __init__(self, bus: Bus, workspace: str = DEFAULT_WORKSPACE, *, owns_bus: bool = False) -> None:
        self.bus = bus
        self.workspace = workspace
        self.blobs = Blobs(bus)
        self._owns_bus = owns_bus
        self._ends = JobEnds(bus, self.blobs, workspace)
        self._offline = OfflineSubmits(bus)

    @classmethod
    def connect(
        cls,
        url: str | None = None,
        *,
        context: str | None = None,
        workspace: str = DEFAULT_WORKSPACE,
        bus: Bus | None = None,
        timeout_s: float = 5,
    ) -> Connecting:
        """Connect within ``timeout_s`` seconds: ``await`` it, or enter it with ``async with``.

        Without ``url`` and ``context`` the environment and the ``nats`` CLI's context say where to. A ``bus`` that is
        given is used, and not closed. Raises: UsageError, BusUnreachable, ServerUnsuitable.
        """
        return Connecting(url, context, workspace, bus, timeout_s)

    async def close(self) -> None:
        """Let go of the connection; jobs go on."""
        await self._offline.close()
        await self._ends.close()
        if self._owns_bus:
            await self.bus.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- submit

    @overload
    async def submit(
        self,
        target: Component[..., R],
        /,
        *args: Any,
        job_id: str | None = None,
        priority: Priority = "normal",
        idempotency_key: str | None = None,
        offline_ok: bool = False,
        input: dict[str, Any] | bytes | None = None,
        **kwargs: Any,
    ) -> JobHandle[R]: ...
    @overload
    async def submit(
        self,
        target: str,
        /,
        *args: Any,
        job_id: str | None = None,
        priority: Priority = "normal",
        idempotency_key: str | None = None,
        offline_ok: bool = False,
        input: dict[str, Any] | bytes | None = None,
        **kwargs: Any,
    ) -> JobHandle[Any]: ...
    async def submit(
        self,
        target: Component[..., Any] | str,
        /,
        *args: Any,
        job_id: str | None = None,
        priority: Priority = "normal",
        idempotency_key: str | None = None,
        offline_ok: bool = False,
        input: dict[str, Any] | bytes | None = None,  # noqa: A002 - the word that the wire uses
        **kwargs: Any,
    ) -> JobHandle[Any]:
        """Request a job; when this returns the request is stored.

        A component is checked here and published at once. A name such as ``"order"`` or ``"order@2"`` goes to a
        gateway, which checks the input against the registered schema. ``input`` is an object, or JSON text, in the
        place of arguments. The same ``job_id`` or ``idempotency_key`` again is the same job. Waits up to 30 s while
        the queue is full.

        ``offline_ok``: when the server is away for more than some seconds the request is kept in this machine's outbox
        and delivered once when it is back, by this client or by others (``callboard outbox``); the handle is ``held``.

        Raises: UsageError (bad input, unknown workflow, an id that is another job's), TooLarge, StreamFull,
        BusUnreachable (a name, and no gateway answers), PermissionRefused, BusClosed; with ``offline_ok`` OutboxError.
        """
        job = job_id_for(self.workspace, job_id, idempotency_key)
        is_new = job_id is None and idempotency_key is None
        publish: Coroutine[Any, Any, JobHandle[Any]]
        if isinstance(target, Component):
            raw = _input_of(target, args, kwargs, input)
            publish = self._submit_component(target, job, raw, priority, is_new=is_new)
        else:
            raw = _plain_input(target, args, kwargs, input)
            publish = self._submit_name(target, job, raw, priority, is_new=is_new)
        if not offline_ok:
            return await publish
        return await self._offline.attempt(publish) or await self._hold(target, job, raw, priority)

    async def _hold(
        self, target: Component[..., Any] | str, job: str, raw: bytes, priority: Priority
    ) -> JobHandle[Any]:
        component = target if isinstance(target, Component) else None
        name = component.name if component else check_offline_name(str(target))
        request = JobRequest(workflow=name, job=job, input=raw, workspace=self.workspace, priority=priority)
        await self._offline.hold(request)
        return JobHandle(self, job, component, held=True)

    async def _submit_component(
        self, target: Component[..., R], job: str, raw: bytes, priority: Priority, *, is_new: bool
    ) -> JobHandle[R]:
        request = JobRequest(workflow=target.name, job=job, input=raw, workspace=self.workspace, priority=priority)
        since = 0
        if is_new:
            self._ends.expect(job)
        else:
            exists, since = await find_earlier(self.bus, self.blobs, check_request(request))
            if exists:
                return JobHandle(self, job, target)
        await _while_full(lambda: publish_request(self.bus, self.blobs, request))
        return JobHandle(self, job, target, since=since, fresh=is_new)

    async def _submit_name(
        self, name: str, job: str, raw: bytes, priority: Priority, *, is_new: bool
    ) -> JobHandle[Any]:
        if is_new:
            self._ends.expect(job)
        workflow, _, version = name.partition("@")
        fields: dict[str, Any] = {"workflow": workflow, "job_id": job, "priority": priority}
        if version:
            fields["version"] = version
        if len(raw) > self.bus.max_body_bytes // 2:
            fields["input_blob"] = await self.blobs.put(raw)
        else:
            fields["input"] = msgspec.Raw(raw)
        body = msgspec.json.encode(fields)
        await _while_full(lambda: self._ask("submit", body))
        return JobHandle(self, job, fresh=is_new)

    async def _ask(self, verb: str, body: bytes) -> bytes:
        """Call a gateway. Asking again after a lost answer is safe: the job id goes along."""
        subject = subjects.api(self.workspace, "jobs", verb)
        for tries_left in reversed(range(_API_TRIES)):
            try:
                return await ask(self.bus, subject, body, timeout_s=_API_TIMEOUT_S)
            except NoResponder as error:
                hint = "start one with 'callboard node', or submit the component itself"
                raise BusUnreachable(f"no gateway answers at {subject}", hint=hint) from error
            except Ambiguous:
                if not tries_left:
                    raise
                await self.bus.settle()
        raise AssertionError("unreachable")

    # ---- results

    async def result(self, job_id: str, *, timeout_s: float | None = None) -> Any:
        """The JSON result of any job, see :meth:`JobHandle.result`."""
        return await self.handle(job_id).result(timeout_s)

    @overload
    def handle(self, job_id: str) -> JobHandle[Any]: ...
    @overload
    def handle(self, job_id: str, component: Component[..., R]) -> JobHandle[R]: ...
    def handle(self, job_id: str, component: Component[..., Any] | None = None) -> JobHandle[Any]:
        """A handle on a job that was submitted before, perhaps by somebody else. Raises: UsageError."""
        return JobHandle(self, check_job_id(job_id), component)

    async def wait_for_end(
        self, job_id: str, *, timeout_s: float | None = None, since: int = 0, fresh: bool = False
    ) -> Recorded:
        """The event that ended the job (after sequence ``since``). Raises: TimeoutError, BusClosed, Unreadable."""
        if timeout_s is None:
            return await self._ends.wait(job_id, since=since, fresh=fresh)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._ends.wait(job_id, since=since, fresh=fresh)
        except TimeoutError:
            raise TimeoutError(f"job {job_id} did not end within {timeout_s:g} s; it goes on") from None

    async def retry(self, job_id: str, *, calls: Iterable[str] = (), by: str = "") -> JobHandle[Any]:
        """Let a failed job go on from where it failed; the handle's result is that of its new end.

        Made anew are the calls by which it failed, and those named in ``calls``; what the job has recorded is not done
        again. Raises: UsageError ``unknown_job``, ``not_failed`` or ``no_such_call``, BusError.
        """
        return JobHandle(self, job_id, since=await self.retry_now(job_id, calls=calls, by=by))

    async def retry_now(self, job_id: str, *, calls: Iterable[str] = (), by: str = "") -> int:
        """As :meth:`retry`; only the sequence at which the retry stands in the log."""
        return (await retry_job(self.bus, self.blobs, self.workspace, job_id, calls=calls, by=by)).sequence

    async def get(self, job_id: str) -> JobView:
        """The job as it stands. Raises: UsageError ``unknown_job``."""
        events = await read_job(self.bus, self.blobs, self.workspace, check_job_id(job_id))
        if not events:
            raise unknown_job(self.workspace, job_id)
        return fold_view(self.workspace, events)

    async def follow(self, job_id: str | None = None, since_seq: int = 0) -> AsyncGenerator[TailItem, None]:
        """The events of one job (None: of the workspace) after ``since_seq``, then each new one as it is stored.

        Goes on until the caller stops; leave it with ``contextlib.aclosing``. Raises: UsageError, BusError.
        """
        source = tail(self.bus, self.blobs, live_filter(self.workspace, job_id), since=since_seq)
        async with contextlib.aclosing(cast("AsyncGenerator[TailItem, None]", source)) as items:
            async for item in items:
                yield item

    # ---- signals

    async def signal(self, job_id: str, name: str, data: Any = None, *, by: str = "", wait_s: float = 0.0) -> int:
        """Write a signal into the job's log and wake it; the sequence at which it stands there.

        Raises: UsageError ``unknown_job`` (not taken up within ``wait_s`` seconds) or ``job_ended``, BusError.
        """
        signal = make_signal(job_id, name, data, by)
        return await send_signal(self.bus, self.blobs, self.workspace, signal, wait_s=wait_s)

    async def cancel(self, job_id: str, reason: str = "", *, by: str = "", wait_s: float = 0.0) -> int:
        """Ask the job to end as cancelled. Raises: like :meth:`signal`."""
        return await self.signal(job_id, CANCEL, {"reason": reason}, by=by, wait_s=wait_s)

    async def terminate(self, job_id: str, reason: str = "", *, by: str = "", wait_s: float = 0.0) -> int:
        """End the job now, as cancelled with reason "terminated": its function gets no time to clean up.

        Its children are terminated too. Raises: like :meth:`signal`.
        """
        return await self.signal(job_id, TERMINATE, {"reason": reason}, by=by, wait_s=wait_s)

    async def pause(self, job_id: str, *, children: bool = True, by: str = "", wait_s: float = 0.0) -> int:
        """Let the job begin nothing new; calls in flight finish, and its deadline goes on.

        Its children are paused too unless ``children`` is false. Raises: like :meth:`signal`.
        """
        return await self.signal(job_id, PAUSE, data_of(children), by=by, wait_s=wait_s)

    async def resume(self, job_id: str, *, children: bool = True, by: str = "", wait_s: float = 0.0) -> int:
        """Let a paused job go on, and its children unless ``children`` is false. Raises: like :meth:`signal`."""
        return await self.signal(job_id, RESUME, data_of(children), by=by, wait_s=wait_s)

    # ---- many at once

    async def find_jobs(
        self,
        *,
        workflow: str = "",
        states: Iterable[ListedState] = (),
        older_than_s: float | None = None,
        verb: Verb | None = None,
    ) -> list[ListedJob]:
        """Jobs that have not ended or have failed, the oldest first; with ``verb`` those to which it does anything.

        Reads the lifecycle events of all jobs of the workspace: for people and operations, not for each request.
        Raises: UsageError, BusError.
        """
        wanted = Wanted(workflow=workflow, states=tuple(states), older_than_s=older_than_s)
        found = await list_jobs(self.bus, self.workspace, wanted, datetime.now(UTC))
        return [job for job in found if verb is None or can_be(verb, job)]

    def tell(
        self, verb: Verb, jobs: Iterable[str], *, reason: str = "", children: bool = True, by: str = ""
    ) -> AsyncGenerator[Told]:
        """Pause, resume, cancel, terminate or retry each of ``jobs``; yields what came of it, job by job, in no order.

        A job that refuses stops no other. Raises: UsageError for an unknown verb, BusError.
        """
        return tell_all(self, verb, jobs, reason=reason, children=children, by=by)


# ---- input


def _input_of(target: Component[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], given: Any) -> bytes:
    """The checked JSON input for a component. Raises: UsageError, InvalidInput."""
    if target.kind == "tool":
        hint = "submit a job that calls it: await job.call(...)"
        raise UsageError(f"{target.name} is a tool, not a job", code="bad_target", hint=hint)
    if given is None:
        return target.bind_input(args, kwargs)
    _check_only_input(args, kwargs)
    if not isinstance(given, bytes):
        return target.bind_input((), given)
    target.decode_input(given)
    return given


def _plain_input(target: str, args: tuple[Any, ...], kwargs: dict[str, Any], given: Any) -> bytes:
    """The JSON input for a workflow of which only the name is known. Raises: UsageError."""
    if args:
        raise UsageError(f"the order of the inputs of {target!r} is not known here", code="bad_input",
                         hint="give them by name, or submit the component itself")  # fmt: skip
    if given is not None:
        _check_only_input(args, kwargs)
        if isinstance(given, bytes):
            return given or b"{}"
    try:
        return msgspec.json.encode(kwargs if given is None else given)
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise UsageError(f"the input of {target!r} is no JSON: {error}", code="invalid_input", path="$") from error


def _check_only_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if args or kwargs:
        raise UsageError("arguments and input=", code="bad_input", path="input", hint="give one of them")


async def _while_full(publish: Callable[[], Awaitable[object]]) -> None:
    """A full queue is backpressure: wait for room, up to ``FULL_WAIT_S`` seconds. Raises: StreamFull."""
    deadline = asyncio.get_running_loop().time() + FULL_WAIT_S
    while True:
        try:
            await publish()
            return
        except StreamFull:
            if asyncio.get_running_loop().time() >= deadline:
                raise
            await asyncio.sleep(0.2 + random.random() * 0.8)
