"""The gateway: NATS micro services under ``api.<workspace>.>`` for those who have no SDK, and the sweep of the queue.

    nats req api.default.jobs.submit '{"workflow": "order", "input": {"sku": "A1"}}'

Any number of gateways share the requests. An error is an answer with headers ``Nats-Service-Error`` and a JSON body
that says what is wrong and where (``bus.service``).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TypeVar

import msgspec

from actors.clients.planned_view import view_of
from actors.clients.terms import terms_of
from actors.components.component import ComponentInfo
from actors.components.input_check import check_input
from actors.components.registry import Registry
from actors.gateway.approval_service import ApprovalService, Approve, ListApprovals, Reject
from actors.gateway.bulk_service import BulkService, FindJobs, TellJobs
from actors.gateway.change_service import Amend, ChangeService, Fork
from actors.gateway.dead_service import DeadService, DropLetters, ListLetters, RedriveLetters, RetryJob, ShowLetter
from actors.gateway.schedule_service import AddSchedule, ListSchedules, NamedSchedule, RunSchedule, ScheduleService
from actors.gateway.sweep import Sweep
from actors.gateway.workflow_choice import WorkflowChoice
from actors.gateway.workflow_service import (
    DeprecateWorkflow,
    GetWorkflow,
    ListWorkflows,
    PublishWorkflow,
    WorkflowService,
)
from actors.jobs.hold import data_of
from actors.jobs.planned import plan_request
from actors.jobs.requests import (
    MAX_INPUT_BYTES,
    JobRequest,
    check_request,
    find_earlier,
    job_id_for,
    publish_request,
)
from actors.jobs.signals import CANCEL, PAUSE, RESUME, TERMINATE, make_signal, send_signal
from actors.workflow_versions.definitions import Definitions
from bus import subjects
from bus.amendment import CHANGE_TYPES
from bus.connection import Bus
from bus.errors import TooLarge, UsageError
from bus.event import NULL
from bus.objects import BlobMissing, Blobs
from bus.service import Service, ServiceRequest
from bus.subjects import CallKind, Priority, check_name
from store.view import JobView

SERVICE = "callboard-api"
LIST_LIMIT = 500
_EMPTY = msgspec.Raw(b"{}")
_AT = re.compile(r"(?P<message>.*?) - at `(?:key` in `)?(?P<path>\$[^`]*)`", re.DOTALL)
_SHA256 = re.compile(r"[0-9a-f]{64}")

T = TypeVar("T", bound=msgspec.Struct)


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a request may say; an unknown field is refused, since it is most likely a misspelt one."""


class Submit(_Body, frozen=True):
    """``jobs.submit``. ``input_blob`` is the sha256 of an input that was put into the object store.

    ``delay_s`` or ``at`` plans the job; ``deadline_s`` counts from its planned start, or from now.
    """

    workflow: str
    input: msgspec.Raw = msgspec.field(default_factory=lambda: _EMPTY)
    input_blob: str = ""
    job_id: str | None = None
    priority: Priority = "normal"
    version: str | int | None = None
    idempotency_key: str | None = None
    traceparent: str = ""
    delay_s: float | None = None
    at: datetime | None = None
    deadline_s: float | None = None
    deadline_at: datetime | None = None


class Get(_Body, frozen=True):
    """``jobs.get``."""

    job: str


class Cancel(_Body, frozen=True):
    """``jobs.cancel`` and ``jobs.terminate``."""

    job: str
    reason: str = ""
    by: str = ""


class SendSignal(_Body, frozen=True):
    """``jobs.signal``; ``data`` is any JSON."""

    job: str
    name: str
    data: msgspec.Raw = msgspec.field(default_factory=lambda: NULL)
    by: str = ""


class Hold(_Body, frozen=True):
    """``jobs.pause`` and ``jobs.resume``; ``children``: its children too."""

    job: str
    by: str = ""
    children: bool = True


class ListComponents(_Body, frozen=True):
    """``components.list``; ``schemas`` adds the input and output schema of each."""

    kind: CallKind | None = None
    name: str = ""
    app: str = ""
    schemas: bool = False
    offset: int = 0
    limit: int = LIST_LIMIT


class Submitted(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer to a submit; ``existing``: this very job was submitted before.

    ``warning`` is for people: the version is deprecated.
    """

    job: str
    workspace: str
    workflow: str
    version: str = ""
    existing: bool = False
    warning: str = ""


class Gateway:
    """Serves ``api.*`` and sweeps the queue."""

    def __init__(self, bus: Bus, registry: Registry, *, sweep: Sweep | None = None) -> None:
        self._bus = bus
        self._registry = registry
        self._blobs = Blobs(bus)
        self._service = Service()
        self._dead = DeadService(bus, self._blobs)
        self._approvals = ApprovalService(bus, self._blobs)
        self._bulk = BulkService(bus)
        self._changes = ChangeService(bus, self._blobs, registry)
        self._workflows = WorkflowService(bus)
        self._definitions = Definitions(bus)
        self._choice = WorkflowChoice(registry, self._definitions)
        self._schedules = ScheduleService(bus, self._blobs, self._choice)
        self.sweep = sweep or Sweep(bus, self._blobs, registry)

    async def start(self) -> None:
        """Begin to serve. The registry has to be started. Raises: BusError."""
        await self._definitions.start()
        await self._service.start(self._bus, SERVICE, _own_version(), "Callboard: jobs and components")
        await self._serve("jobs", "submit", Submit, self._submit)
        await self._serve("jobs", "get", Get, self._get)
        await self._serve("jobs", "cancel", Cancel, self._cancel)
        await self._serve("jobs", "terminate", Cancel, self._terminate)
        await self._serve("jobs", "signal", SendSignal, self._signal)
        await self._serve("jobs", "pause", Hold, self._pause)
        await self._serve("jobs", "resume", Hold, self._resume)
        await self._serve("jobs", "retry", RetryJob, self._dead.retry)
        await self._serve("jobs", "find", FindJobs, self._bulk.find)
        await self._serve("jobs", "tell", TellJobs, self._bulk.tell)
        await self._serve("jobs", "approve", Approve, self._approvals.approve)
        await self._serve("jobs", "reject", Reject, self._approvals.reject)
        await self._serve("approvals", "list", ListApprovals, self._approvals.list)
        await self._serve("jobs", "fork", Fork, self._changes.fork)
        await self._serve("jobs", "amend", Amend, self._changes.amend)
        await self._serve("dead", "list", ListLetters, self._dead.list)
        await self._serve("dead", "show", ShowLetter, self._dead.show)
        await self._serve("dead", "redrive", RedriveLetters, self._dead.redrive)
        await self._serve("dead", "drop", DropLetters, self._dead.drop)
        await self._serve("workflows", "list", ListWorkflows, self._workflows.list)
        await self._serve("workflows", "get", GetWorkflow, self._workflows.get)
        await self._serve("workflows", "publish", PublishWorkflow, self._workflows.publish)
        await self._serve("workflows", "deprecate", DeprecateWorkflow, self._workflows.deprecate)
        await self._serve("components", "list", ListComponents, self._list)
        await self._serve("schedules", "add", AddSchedule, self._schedules.add)
        await self._serve("schedules", "list", ListSchedules, self._schedules.list)
        await self._serve("schedules", "run", RunSchedule, self._schedules.run)
        for verb in ("get", "pause", "resume", "remove"):
            await self._serve("schedules", verb, NamedSchedule, getattr(self._schedules, verb))
        self.sweep.start()

    async def stop(self) -> None:
        """Answer what was asked, then serve no more."""
        await self.sweep.stop()
        await self._service.stop()
        await self._workflows.stop()
        await self._definitions.stop()

    async def _serve(self, noun: str, verb: str, body: type[T], handler: Callable[[str, T], Awaitable[Any]]) -> None:
        decoder = msgspec.json.Decoder(body)

        async def handle(request: ServiceRequest) -> bytes:
            workspace = check_name(request.subject.split(".")[1], "workspace")
            return msgspec.json.encode(await handler(workspace, _decode(decoder, request.body)))

        metadata = {"request_schema": msgspec.json.encode(msgspec.json.schema(body)).decode()}
        await self._service.add_endpoint(f"{noun}-{verb}", subjects.api("*", noun, verb), handle, metadata=metadata)

    # ---- jobs

    async def _submit(self, workspace: str, body: Submit) -> Submitted:
        info, version, warning = await self._choice.choose(body.workflow, body.version)
        raw = await self._input(body)
        check_input(info, msgspec.json.decode(raw))
        job = job_id_for(workspace, body.job_id, body.idempotency_key)
        terms = terms_of(body.priority, body.delay_s, body.at, body.deadline_s, body.deadline_at)
        request = check_request(
            JobRequest(
                workflow=info.name, job=job, input=raw, workspace=workspace, priority=body.priority,
                traceparent=body.traceparent, start=terms.start, deadline=terms.deadline, version=version,
            )
        )  # fmt: skip
        has_own_id = body.job_id is not None or body.idempotency_key is not None
        exists = has_own_id and (await find_earlier(self._bus, self._blobs, request)).exists
        if not exists and request.start is not None:
            exists = not await plan_request(self._bus, self._blobs, request)
        elif not exists:
            await publish_request(self._bus, self._blobs, request)
        return Submitted(job, workspace, info.name, info.version, exists, warning)

    async def _input(self, body: Submit) -> bytes:
        if not body.input_blob:
            return bytes(body.input)
        if not _SHA256.fullmatch(body.input_blob):
            raise UsageError("input_blob is no sha256 in hex", code="bad_request", path="$.input_blob")
        try:
            raw = await self._blobs.get(body.input_blob)
        except BlobMissing as error:
            raise UsageError(str(error), code="bad_request", path="$.input_blob") from error
        if len(raw) > MAX_INPUT_BYTES:
            raise TooLarge("the input", size_bytes=len(raw), limit_bytes=MAX_INPUT_BYTES)
        try:
            msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"the input is not JSON: {error}", code="invalid_json", path="$") from error
        return raw

    async def _get(self, workspace: str, body: Get) -> JobView:
        view = await view_of(self._bus, self._blobs, workspace, body.job)
        return view if len(msgspec.json.encode(view)) <= self._bus.max_body_bytes else _without_bulk(view)

    async def _cancel(self, workspace: str, body: Cancel) -> dict[str, Any]:
        return await self._send(workspace, body.job, CANCEL, {"reason": body.reason}, body.by)

    async def _terminate(self, workspace: str, body: Cancel) -> dict[str, Any]:
        return await self._send(workspace, body.job, TERMINATE, {"reason": body.reason}, body.by)

    async def _signal(self, workspace: str, body: SendSignal) -> dict[str, Any]:
        return await self._send(workspace, body.job, body.name, body.data, body.by)

    async def _pause(self, workspace: str, body: Hold) -> dict[str, Any]:
        return await self._send(workspace, body.job, PAUSE, data_of(body.children), body.by)

    async def _resume(self, workspace: str, body: Hold) -> dict[str, Any]:
        return await self._send(workspace, body.job, RESUME, data_of(body.children), body.by)

    async def _send(self, workspace: str, job: str, name: str, data: Any, by: str) -> dict[str, Any]:
        signal = make_signal(job, name, data, by)
        return {"job": job, "sequence": await send_signal(self._bus, self._blobs, workspace, signal)}

    # ---- components

    async def _list(self, _: str, body: ListComponents) -> dict[str, Any]:
        """A page of the registry, cut so that it fits one message; ``next_offset`` if there is more."""
        found = [info for info in self._registry.all() if _is_wanted(info, body)]
        offset, page, size = max(0, body.offset), list[dict[str, Any]](), 0
        for info in found[offset : offset + max(1, body.limit)]:
            shown = _shown(info, schemas=body.schemas)
            size += len(msgspec.json.encode(shown)) + 1
            if page and size > self._bus.max_body_bytes - 1024:
                break
            page.append(shown)
        answer: dict[str, Any] = {"components": page, "total": len(found)}
        return answer | ({"next_offset": offset + len(page)} if offset + len(page) < len(found) else {})


# ---- pure


def _decode(decoder: msgspec.json.Decoder[T], raw: bytes) -> T:
    """A request's body; an empty one is ``{}``. Raises: UsageError ``bad_request`` or ``invalid_json``."""
    try:
        return decoder.decode(raw if raw.strip() else b"{}")
    except msgspec.ValidationError as error:
        found = _AT.fullmatch(str(error))
        message, path = (found["message"], found["path"]) if found else (str(error), "$")
        is_change = path == "$.change.type"
        words = CHANGE_TYPES if is_change else decoder.type.__struct_fields__
        hint = f"{'one of' if is_change else 'fields:'} {', '.join(words)}"
        raise UsageError(f"the request: {message}", code="bad_request", path=path, hint=hint) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the request is not JSON: {error}", code="invalid_json", path="$") from error


def _without_bulk(view: JobView) -> JobView:
    """A job that is too big for one message, without inputs and outputs."""
    calls = tuple(msgspec.structs.replace(call, input=NULL, output=NULL) for call in view.calls)
    return msgspec.structs.replace(view, input=NULL, output=NULL, calls=calls)


def _is_wanted(info: ComponentInfo, body: ListComponents) -> bool:
    return body.kind in (None, info.kind) and body.name in ("", info.name) and body.app in ("", info.app)


def _shown(info: ComponentInfo, *, schemas: bool) -> dict[str, Any]:
    fields: dict[str, Any] = msgspec.to_builtins(info)
    return fields if schemas else {k: v for k, v in fields.items() if k not in ("input_schema", "output_schema")}


def _own_version() -> str:
    try:
        return version("callboard")
    except PackageNotFoundError:  # run from a checkout
        return "0.0.0"
