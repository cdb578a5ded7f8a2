"""What a job host lends to each job that it runs: the bus, its app, the registry, and the rules that it was given."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Any

from actors.breakers.breakers import Breakers, tool_key
from actors.components.app import App
from actors.components.component import Component, ComponentInfo
from actors.components.registry import Registry, parse_ref
from actors.components.version import parse_version
from actors.jobs.switchboard import Switchboard
from actors.locks.rate_desk import RateDesk
from bus.connection import Bus
from bus.errors import UsageError
from bus.failure import Failure
from bus.objects import Blobs
from bus.subjects import CallKind, Priority
from supervisor.breaker import Breaker

PARK_AFTER_S = 3.0
UNKNOWN_GRACE_S = 5.0
UNKNOWN_PAUSE_S = 0.25


@dataclass
class Hosting:
    """One host's surroundings. ``park_after_s``: how long a job may only wait before it is parked."""

    bus: Bus
    blobs: Blobs
    app: App
    registry: Registry
    host: str
    node: str = ""
    board: Switchboard = field(init=False)
    park_after_s: float = field(default_factory=lambda: float(os.environ.get("CALLBOARD_PARK_AFTER_S", PARK_AFTER_S)))

    _workflows: dict[tuple[str, str], Component[..., Any]] = field(default_factory=dict)
    _own: dict[tuple[str, tuple[CallKind, ...]], Target] = field(default_factory=dict)
    _breakers: Breakers | None = None
    _rates: RateDesk | None = None

    def __post_init__(self) -> None:
        self.board = Switchboard(self.bus)

    @property
    def rates(self) -> RateDesk:
        """Where turns of a rate are reserved."""
        self._rates = self._rates or RateDesk(self.bus)
        return self._rates

    def workflow(self, name: str, version: str = "") -> Component[..., Any] | None:
        """This app's workflow: the newest, or the newest of the major of ``version``. Remembered: it is asked often."""
        found = self._workflows.get((name, version))
        if found is None:
            major = parse_version(version, "version").major if version else None
            if (found := self.app.find("job", name, major)) is not None:
                self._workflows[name, version] = found
        return found

    def newest(self, name: str) -> Component[..., Any]:
        """What a new job of the workflow runs on. Raises: UsageError."""
        component = self.workflow(name)
        if component is None:
            raise UsageError(f"workflow {name!r} is not in app {self.app.name!r}")
        return component

    def resolve(self, target: Any, kinds: tuple[CallKind, ...]) -> Target:
        """The component that ``target`` (a component or a reference) means. Raises: UsageError with near misses."""
        if isinstance(target, Component):
            return Target(target.kind, target.name, target.major, target, target.breaker)
        if (known := self._own.get((target, kinds))) is not None:
            return known
        app, name, major = parse_ref(target)
        if app in ("", self.app.name):
            for kind in kinds:
                if (component := self.app.find(kind, name, major)) is not None:
                    found = Target(kind, name, component.major, component, component.breaker)
                    return self._own.setdefault((target, kinds), found)
        info: ComponentInfo = self.registry.resolve(target, kinds)
        return Target(info.kind, info.name, info.major, breaker=info.breaker)

    async def find(self, target: Any, kinds: tuple[CallKind, ...]) -> Target:
        """As :meth:`resolve`, but gives a node that is just starting ``UNKNOWN_GRACE_S`` to register what it has."""
        deadline_s = asyncio.get_running_loop().time() + UNKNOWN_GRACE_S
        while True:
            try:
                return self.resolve(target, kinds)
            except UsageError as error:
                if error.code != "unknown_component" or asyncio.get_running_loop().time() > deadline_s:
                    raise
            await asyncio.sleep(UNKNOWN_PAUSE_S)
            await self.registry.refresh()

    async def refusal(self, target: Target) -> Failure | None:
        """Why a call that will not wait is not even asked for: its circuit is open. Never raises BusError.

        The states of circuits are loaded when they are first asked about: who always waits pays nothing for them.
        """
        if self._breakers is None:
            self._breakers = Breakers(self.bus, self.blobs, self.host)
        await self._breakers.start()
        return self._breakers.refusal(tool_key(target.name, target.major))

    async def close(self) -> None:
        """Let go of what was begun here."""
        if self._breakers is not None:
            await self._breakers.stop()


@dataclass(frozen=True)
class Target:
    """What a call goes to; ``component`` is there if this app has it, and then input and output are typed.

    ``breaker`` is a tool's own policy, as far as it is known; ``priority`` is that of a job's request.
    """

    kind: CallKind
    name: str
    major: int
    component: Component[..., Any] | None = None
    breaker: Breaker | None = None
    priority: Priority = "normal"
