"""Serving a node's metrics over HTTP to Prometheus: ``callboard node --metrics PORT``.

prometheus-client serves from threads of its own. A scrape asks the event loop for one snapshot of the node, so that
what it shows belongs together, and a loop that does not answer shows as a scrape that fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Self
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from bus import subjects
from bus.connection import Bus, Message
from bus.errors import Unreadable, UsageError
from bus.messages import decode
from bus.system_events import BREAKERS_LOG, BreakerClosed, BreakerHalfOpened, BreakerOpened
from supervisor.metrics import families
from supervisor.tally import Snapshot, Tally

log = logging.getLogger("callboard.metrics")

ANSWER_S = 5.0
EVERYWHERE = "0.0.0.0"  # noqa: S104 - where Prometheus exporters listen
_HINT = "a port from 0 (any free one) to 65535, or HOST:PORT"


class MetricsServer:
    """Serves ``snapshot()``, which is called in the event loop; an async context manager.

    ``address`` is ``[HOST:]PORT``; without a host it listens on all addresses of the machine, as exporters do.
    Raises: UsageError for an address that is none, or that is taken.
    """

    def __init__(self, bus: Bus, address: str, tally: Tally, snapshot: Callable[[], Snapshot]) -> None:
        self._bus = bus
        self._host, self._port = parse_address(address)
        self._tally = tally
        self._registry = CollectorRegistry()
        self._registry.register(_Scrape(asyncio.get_running_loop(), snapshot))
        self._server: WSGIServer | None = None

    async def __aenter__(self) -> Self:
        breakers = subjects.live(subjects.SYSTEM_WORKSPACE, BREAKERS_LOG, "breaker.*")
        self._subscription = await self._bus.subscribe(breakers, self._on_breaker)
        try:
            self._server, _ = start_http_server(self._port, self._host, self._registry)
        except OSError as error:
            where = f"{self._host}:{self._port}"
            raise UsageError(f"metrics cannot be served at {where}: {error.strerror or error}", code="metrics_address",
                             path="--metrics", hint=_HINT) from error  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            await asyncio.to_thread(self._server.shutdown)
            self._server.server_close()
        with contextlib.suppress(Exception):  # the connection may be closed already
            await self._subscription.unsubscribe()

    @property
    def url(self) -> str:
        """Where to scrape, as seen from this machine."""
        port = self._server.server_port if self._server else self._port
        host = "127.0.0.1" if self._host == EVERYWHERE else self._host
        return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"

    def _on_breaker(self, msg: Message) -> None:
        try:
            event = decode(msg.data, subject=msg.subject, sequence=0)
        except Unreadable as error:
            log.warning("left out: %s", error)
            return
        if isinstance(event, BreakerOpened | BreakerHalfOpened | BreakerClosed):
            self._tally.note_breaker(event)


class _Scrape(Collector):
    """Called by a thread of the HTTP server, once for each scrape."""

    def __init__(self, loop: asyncio.AbstractEventLoop, snapshot: Callable[[], Snapshot]) -> None:
        self._loop = loop
        self._snapshot = snapshot

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering this does not ask for a snapshot."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The families of this moment. Raises: TimeoutError if the event loop does not turn."""

        async def take() -> Snapshot:
            return self._snapshot()

        yield from families(asyncio.run_coroutine_threadsafe(take(), self._loop).result(ANSWER_S))


def parse_address(address: str) -> tuple[str, int]:
    """Host and port of ``[HOST:]PORT``. Raises: UsageError."""
    host, _, port = address.rpartition(":")
    if not (port.isascii() and port.isdigit() and int(port) <= 65_535):
        raise UsageError(f"--metrics {address!r} is no address", code="metrics_address", path="--metrics", hint=_HINT)
    return host.strip("[]") or EVERYWHERE, int(port)
