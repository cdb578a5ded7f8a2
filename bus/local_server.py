"""The server of this machine, as ``callboard up`` wants one: the one that runs, else a new one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Self

from bus.embedded import LOCALHOST, EmbeddedServer, PortTaken, StoreLocked, read_state
from bus.errors import ServerUnsuitable, UsageError
from bus.info import ServerInfo, read_info
from bus.paths import data_dir as user_data_dir


class Adopted:
    """A server that was already there: used by us, not ours to stop."""

    def __init__(self, url: str, port: int, pid: int | None) -> None:
        self.url = url
        self.port = port
        self.pid = pid  # None: not started by callboard

    async def stop(self) -> None:
        """Leave it running."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


async def local_server(data_dir: Path | None = None, port: int = 4222) -> EmbeddedServer | Adopted:
    """The server of this machine at ``127.0.0.1:port``: the one that runs, else a new one on the user's own store.

    ``data_dir`` None is the user's data directory (``CALLBOARD_DATA_DIR``, XDG, macOS rules).
    Raises: UsageError (the port belongs to another program, no nats-server installed), StoreLocked (the store's
    server has another port), ServerUnsuitable (runs without JetStream), ServerFailed.
    """
    store_dir = (data_dir or user_data_dir(os.environ)) / "nats"
    if found := await _adopt(store_dir, port):
        return found
    try:
        return await EmbeddedServer.start(store_dir=store_dir, port=port)
    except (StoreLocked, PortTaken):
        # Somebody else's `callboard up` may have been faster by a moment.
        if found := await _adopt_soon(store_dir, port):
            return found
        raise


async def _adopt_soon(store_dir: Path, port: int, limit_s: float = 10.0) -> Adopted | None:
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline and not await _serves_elsewhere(store_dir, port):
        if found := await _adopt(store_dir, port):
            return found
        await asyncio.sleep(0.1)
    return None


async def _serves_elsewhere(store_dir: Path, port: int) -> bool:
    state = read_state(store_dir)
    other = int(state.url.rsplit(":", 1)[1]) if state else port
    with contextlib.suppress(OSError):
        return other != port and await read_info(LOCALHOST, other) is not None
    return False


async def _adopt(store_dir: Path, port: int) -> Adopted | None:
    try:
        info = await read_info(LOCALHOST, port)
    except OSError:
        return None
    if info is None:
        raise UsageError(
            f"port {port} of {LOCALHOST} belongs to a program that is no NATS server",
            code="port_taken",
            hint=f"choose another port, as in --port {port + 1}, or name a server with --nats",
        )
    return _adopted(store_dir, port, info)


def _adopted(store_dir: Path, port: int, info: ServerInfo) -> Adopted:
    url = f"nats://{LOCALHOST}:{port}"
    if not info.jetstream:
        raise ServerUnsuitable(f"the NATS server at {url} runs without JetStream", hint="start it with -js")
    state = read_state(store_dir)
    return Adopted(url, port, state.pid if state and state.server_id == info.server_id else None)
