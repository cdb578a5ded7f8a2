"""NATS micro services (ADR-32): found with ``nats micro ls|info|stats``, called with a plain request.

A thin layer over ``nats.micro``, which runs the handlers of an endpoint one after the other, so that its own counters
see neither the time nor the failure of a handler that works in a task, and which tells callers the ``repr`` of any
exception. Here each request has a task of its own, statistics are those of the tasks, and an error crosses the wire as
one JSON body: ``{"code", "message", "path", "hint", "retryable"}``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import warnings
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.micro.request import ERROR_CODE_HEADER, ERROR_HEADER, Request
from nats.micro.service import EndpointStats, ServiceConfig, ServiceStats
from nats.micro.service import Service as MicroService

from bus import headers as h
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, Bug, BusError, PeerError, PermissionRefused, StreamFull, TooLarge, UsageError

log = logging.getLogger("callboard.service")

STOP_GRACE_S = 5.0
_DESCRIPTION_LIMIT_CHARS = 200


class ServiceFailed(BusError):
    """A service answered that it could not do what it was asked; ``code`` is its own."""

    def __init__(self, subject: str, code: str, message: str, *, retryable: bool = False, hint: str = "") -> None:
        super().__init__(f"{subject}: {message}")
        self.subject = subject
        self.code = code
        self.message = message
        self.retryable = retryable
        self.hint = hint


@dataclass(frozen=True, slots=True)
class ServiceRequest:
    """What a handler gets: ``subject`` is the literal one that the request came on."""

    subject: str
    body: bytes
    headers: Mapping[str, str]


Handler = Callable[[ServiceRequest], Awaitable[bytes]]


class ErrorBody(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it crosses the wire."""

    code: str
    message: str
    path: str = ""
    hint: str = ""
    retryable: bool = False


def describe_error(error: Exception) -> tuple[int, ErrorBody]:
    """The status (400: the caller's fault, 503: it may pass, 500: ours) and the body for what a handler raised."""
    match error:
        case UsageError():
            return 400, ErrorBody(error.code, str(error.args[0]), error.path, error.hint)
        case StreamFull():
            return 503, ErrorBody("queue_full", str(error), hint="try again later", retryable=True)
        case PermissionRefused():
            return 403, ErrorBody("permission_refused", str(error))
        case BusError():
            return 503, ErrorBody("bus_unavailable", str(error), hint="try again later", retryable=True)
        case PeerError():
            failure = error.failure
            return 500, ErrorBody(failure.code, failure.message, failure.path, failure.hint, bool(failure.retryable))
        case _:  # its text may hold anything, so it stays in our log
            return 500, ErrorBody("internal", "the service failed; its log says why")


# ---- serving


class _Counters:
    """What one endpoint has done."""

    __slots__ = ("errors", "last_error", "requests", "spent_ns")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.spent_ns = 0
        self.last_error = ""

    def fill(self, stats: EndpointStats) -> EndpointStats:
        return replace(
            stats,
            num_requests=self.requests,
            num_errors=self.errors,
            last_error=self.last_error,
            processing_time=self.spent_ns,
            average_processing_time=self.spent_ns // max(1, self.requests),
        )


class _Micro(MicroService):
    """The library's service with our statistics."""

    def __init__(self, client: Client, config: ServiceConfig) -> None:
        super().__init__(client, config)
        self.counters: dict[tuple[str, str], _Counters] = {}

    def stats(self) -> ServiceStats:
        stats = super().stats()
        return replace(stats, endpoints=[self.counters[e.name, e.subject].fill(e) for e in stats.endpoints])


class Service:
    """A micro service: ``start`` announces it, ``add_endpoint`` serves, ``stop`` finishes what was begun."""

    def __init__(self) -> None:
        self._running: tuple[Bus, _Micro] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(
        self, bus: Bus, name: str, version: str, description: str = "", metadata: Mapping[str, str] | None = None
    ) -> None:
        """Announce the service; it serves nothing until it has an endpoint. ``version`` is a semantic one."""
        config = ServiceConfig(name=name, version=version, description=description, metadata=dict(metadata or {}))
        with warnings.catch_warnings():  # nats.micro calls datetime.utcnow, deprecated from Python 3.12
            warnings.simplefilter("ignore", DeprecationWarning)
            micro = _Micro(bus.client, config)
            await micro.start()
        self._running = bus, micro

    def _parts(self) -> tuple[Bus, _Micro]:
        if self._running is None:
            raise Bug("the service was not started")
        return self._running

    @property
    def id(self) -> str:
        """The id of this instance among the services of its name."""
        return str(self._parts()[1].id)

    async def add_endpoint(
        self, name: str, subject: str, handler: Handler, *, metadata: Mapping[str, str] | None = None, queue: str = "q"
    ) -> None:
        """Answer requests to ``subject`` (wildcards allowed) with what ``handler`` returns or raises.

        Instances with the same ``queue`` share the requests. What a handler raises goes to the caller, see
        :func:`describe_error`.
        """
        bus, micro = self._parts()
        counters = micro.counters.setdefault((name, subject), _Counters())

        async def take(request: Request) -> None:
            task = asyncio.create_task(_serve(request, handler, counters, bus.max_body_bytes))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        await micro.add_endpoint(
            name=name, subject=subject, handler=take, metadata=dict(metadata or {}), queue_group=queue
        )

    async def stop(self, *, grace_s: float = STOP_GRACE_S) -> None:
        """Take no more requests, then wait up to ``grace_s`` seconds for those that are being served."""
        if self._running is not None:
            with contextlib.suppress(Exception):  # the connection may be gone already
                await self._running[1].stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=grace_s)
            for task in late:
                task.cancel()


async def _serve(request: Request, handler: Handler, counters: _Counters, limit_bytes: int) -> None:
    began_ns = time.perf_counter_ns()
    counters.requests += 1
    try:
        answer = await handler(ServiceRequest(request.subject, request.data, request.headers or {}))
        _check_size(answer, limit_bytes)
        await _respond(request, answer, {})
    except Exception as error:  # noqa: BLE001 - whatever it is, the caller waits for an answer
        await _refuse(request, error, counters)
    finally:
        counters.spent_ns += time.perf_counter_ns() - began_ns


def _check_size(answer: bytes, limit_bytes: int) -> None:
    if len(answer) > limit_bytes:
        raise TooLarge("the answer", size_bytes=len(answer), limit_bytes=limit_bytes)


async def _refuse(request: Request, error: Exception, counters: _Counters) -> None:
    status, body = describe_error(error)
    if isinstance(error, PeerError) and error.failure.retryable is not None:  # its author said so on purpose
        log.info("%s failed: %s", request.subject, error)
    elif status == 500:
        log.error("%s failed", request.subject, exc_info=error)
    counters.errors += 1
    counters.last_error = f"{status}:{body.message}"
    description = " ".join(f"{body.code}: {body.message}".split())[:_DESCRIPTION_LIMIT_CHARS]
    headers = {ERROR_HEADER: description, ERROR_CODE_HEADER: str(status)}
    await _respond(request, msgspec.json.encode(body), headers)


async def _respond(request: Request, body: bytes, headers: dict[str, str]) -> None:
    """Answer, unless nobody asked for one or the connection is gone."""
    try:
        await request.respond(body, headers=headers or None)
    except ValueError:  # published without a reply subject
        log.debug("nobody waits for the answer to %s", request.subject)
    except Exception as error:  # noqa: BLE001 - nats-py raises many kinds; the caller's time-out tells it
        log.warning("answering %s failed: %s", request.subject, error)


# ---- calling


async def ask(
    bus: Bus, subject: str, body: bytes = b"", *, timeout_s: float = 5.0, headers: Mapping[str, str] | None = None
) -> bytes:
    """Call a service.

    Raises: UsageError (as the service raised it), StreamFull, ServiceFailed, NoResponder (nobody serves this subject),
    Ambiguous (no answer in time).
    """
    msg = await bus.request(subject, body, headers=headers, timeout_s=timeout_s)
    if not msg.headers or ERROR_CODE_HEADER not in msg.headers:
        return msg.data
    raise _error_of(subject, msg.headers[ERROR_CODE_HEADER], msg.headers.get(ERROR_HEADER, ""), msg.data)


def _error_of(subject: str, status: str, description: str, raw: bytes) -> Exception:
    try:
        body = msgspec.json.decode(raw, type=ErrorBody)
    except msgspec.DecodeError:  # a service that is none of ours
        return ServiceFailed(subject, status, description or "failed")
    if status == "400":
        return UsageError(body.message, code=body.code, path=body.path, hint=body.hint)
    if body.code == "queue_full":
        return StreamFull(subject, body.message)
    return ServiceFailed(subject, body.code, body.message, retryable=body.retryable, hint=body.hint)


class EndpointInfo(msgspec.Struct, frozen=True):
    """An endpoint as its service announces it."""

    name: str
    subject: str
    queue_group: str = ""
    metadata: dict[str, str] | None = None


class ServiceInfo(msgspec.Struct, frozen=True):
    """A running service instance as it announces itself."""

    name: str
    id: str
    version: str
    description: str | None = None
    metadata: dict[str, str] | None = None
    endpoints: list[EndpointInfo] = []

    def meta(self, key: str) -> str:
        """One entry of the metadata; empty if it is not there."""
        return (self.metadata or {}).get(key, "")


async def discover(bus: Bus, name: str | None = None, *, wait_s: float = 0.3) -> list[ServiceInfo]:
    """The service instances (of that name) that answer within ``wait_s`` seconds, sorted by name and id."""
    subject = f"$SRV.INFO.{name}" if name else "$SRV.INFO"
    with contextlib.suppress(NoResponder, Ambiguous):
        answers = await bus.gather(subject, done=_is_no_responder, timeout_s=wait_s, strict=False)
        infos = [info for msg in answers if (info := _info_of(msg))]
        return sorted(infos, key=lambda info: (info.name, info.id))
    return []


def _is_no_responder(msg: Msg) -> bool:
    return bool(msg.headers) and msg.headers.get(h.STATUS) == "503"  # type: ignore[union-attr]


def _info_of(msg: Msg) -> ServiceInfo | None:
    try:
        return msgspec.json.decode(msg.data, type=ServiceInfo)
    except msgspec.DecodeError as error:
        log.warning("a service announces itself in a way that cannot be read: %s", error)
        return None
