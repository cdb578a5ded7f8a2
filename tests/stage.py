"""A stage for tests: an app's real processes under a real supervisor, on a real server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from actors.components.loading import load_app
from actors.node.process import CONNECT_VARIABLE, NODE_VARIABLE
from actors.node.roster import Choice, roster
from bus import headers as h
from bus.connection import Bus
from bus.messages import Ended
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.paths import DATA_DIR_VARIABLE
from bus.streams import ensure_streams
from store.log import Recorded, read_job
from supervisor.child import ChildSpec
from supervisor.restart import Group
from supervisor.tree import Supervisor
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent


class Stage:
    """The bus of the test, and the supervised actors beside it."""

    def __init__(self, bus: Bus, supervisor: Supervisor, ledger: Path) -> None:
        self.bus = bus
        self.blobs = Blobs(bus)
        self.supervisor = supervisor
        self.ledger = ledger

    async def submit(self, workflow: str, job: str, body: dict[str, Any] | bytes, **headers: str) -> None:
        """Publish a request as any client would."""
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        await self.bus.append(f"jobs.default.{workflow}", raw, headers={h.JOB_ID: job, **headers})

    async def events(self, job: str) -> list[Recorded]:
        """The job's log."""
        return await read_job(self.bus, self.blobs, "default", job)

    async def end(self, job: str, *, deadline_s: float = 30) -> Any:
        """The event that ended the job."""
        found: list[Any] = []

        async def ended() -> bool:
            found[:] = [r.event for r in await self.events(job) if isinstance(r.event, Ended)]
            return bool(found)

        await wait_until(ended, deadline_s=deadline_s)
        return found[0]

    def effects(self) -> list[str]:
        """What the tools wrote to the ledger, in order."""
        return self.ledger.read_text().splitlines() if self.ledger.exists() else []

    def pid(self, name: str) -> int:
        """The pid of an actor that runs."""
        status = next(s for s in self.supervisor.statuses() if s.name == name)
        assert status.pid is not None, f"{name} is {status.state}"
        return status.pid


def specs_for(target: str, env: dict[str, str], **choice: Any) -> list[ChildSpec]:
    """The child specs of an app, with ``env`` added to each."""
    components = [c.info() for c in load_app(target).components]
    return [
        msgspec.structs.replace(spec, env={**spec.env, **env}, grace_s=3.0)
        for spec in roster(target, components, Choice(**{"gateway": False, **choice}))
    ]


@contextlib.asynccontextmanager
async def stage(
    url: str, tmp_path: Path, target: str = "tests.apps.five:app", *, env: dict[str, str] | None = None,
    node: str = "n1", **choice: Any,
) -> AsyncIterator[Stage]:  # fmt: skip
    """Start the app's processes on the server at ``url``; all are gone afterwards."""
    options = ConnectOptions(servers=[url])
    ledger = tmp_path / "ledger"
    surroundings = {
        CONNECT_VARIABLE: msgspec.json.encode(options).decode(),
        NODE_VARIABLE: node,
        DATA_DIR_VARIABLE: str(tmp_path / "data"),
        "CALLBOARD_TEST_LEDGER": str(ledger),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        **(env or {}),
    }
    async with await Bus.connect(options, name="test") as bus:
        await ensure_streams(bus)
        specs = specs_for(target, surroundings, **choice)
        supervisor = Supervisor(specs, default=Group(max_restarts=50, period_s=60))
        await supervisor.start()
        try:
            yield Stage(bus, supervisor, ledger)
        finally:
            await supervisor.stop(limit_s=5)
