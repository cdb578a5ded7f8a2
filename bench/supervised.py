"""The processes of an app under a supervisor of the benchmark's own, on a server that runs."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator

import msgspec

from actors.components.app import App
from actors.node.process import CONNECT_VARIABLE, NODE_VARIABLE
from actors.node.roster import Choice, roster
from bus.options import ConnectOptions
from bus.paths import DATA_DIR_VARIABLE
from supervisor.tree import Supervisor


@contextlib.asynccontextmanager
async def supervised(url: str, target: str, app: App) -> AsyncIterator[Supervisor]:
    """Start what a node would start for ``app``, which is to be found at ``target``; all are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="callboard-bench-") as scratch:
        env = {
            CONNECT_VARIABLE: msgspec.json.encode(ConnectOptions(servers=[url])).decode(), NODE_VARIABLE: "bench",
            DATA_DIR_VARIABLE: scratch, "CALLBOARD_LOG": "WARNING",
        }  # fmt: skip
        specs = roster(target, [c.info() for c in app.components], Choice(gateway=False))
        supervisor = Supervisor([msgspec.structs.replace(spec, env={**spec.env, **env}) for spec in specs])
        await supervisor.start()
        try:
            yield supervisor
        finally:
            await supervisor.stop(limit_s=5)
