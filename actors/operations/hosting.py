"""What a job host lends to each job that it runs: the bus, its app, the registry, and the rules that it was given."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from actors.agents.models import ModelDesk
from actors.assets.supply import Supply
from actors.breakers.breakers import Breakers, tool_key
from actors.components.app import App
from actors.components.component import Component, ComponentInfo
from actors.components.registry import Registry, exact_version, kinds_for, parse_ref
from actors.components.version import parse_version
from actors.jobs.switchboard import Switchboard
from actors.locks.rate_desk import RateDesk
from bus.connection import Bus
from bus.errors import UsageError
from bus.failure import Failure
from bus.objects import Blobs
from bus.subjects import CallKind, Priority
from supervisor.breaker import Breaker
from supervisor.retry import Retry

if TYPE_CHECKING:
    from actors.interpreter.repertoire import Repertoire  # which imports what hosts are made of

PARK_AFTER_S = 3.0
UNKNOWN_GRACE_S = 5.0
UNKNOWN_PAUSE_S = 0.25
_NO_SUPPLY = Supply()


@dataclass
class Hosting:
    """One host's surroundings, made on its loop. ``park_after_s``: how long a job that only waits stays in memory."""

    bus: Bus
    blobs: Blobs
    app: App
    registry: Registry
    host: str
    node: str = ""
    board: Switchboard = field(init=False)
    models: ModelDesk = field(init=False)
    park_after_s: float = field(default_factory=lambda: float(os.environ.get("CALLBOARD_PARK_AFTER_S", PARK_AFTER_S)))

    repertoire: Repertoire | None = None
    """Published workflows, if this host runs any; a name that is there is looked for nowhere else first."""

    supplies: Mapping[Component[..., Any], Supply] = field(default_factory=dict)
    """What the functions of agents are lent."""

    _workflows: dict[tuple[str, int | None], Component[..., Any]] = field(default_factory=dict)
    _own: dict[tuple[str, tuple[CallKind, ...]], Target] = field(default_factory=dict)
    _breakers: Breakers = field(init=False)
    _rates: RateDesk | None = None

    def __post_init__(self) -> None:
        self.board = Switchboard(self.bus)
        self._breakers = Breakers(self.bus, self.blobs, self.host)
        self.models = ModelDesk(self.bus, self._breakers)

    def lend(self, component: Component[..., Any]) -> AbstractContextManager[dict[str, object]]:
        """The assets that the function names, as they are now; they stay loaded for as long as the ``with`` lasts."""
        return self.supplies.get(component, _NO_SUPPLY).lend()

    @property
    def rates(self) -> RateDesk:
        """Where turns of a rate are reserved."""
        self._rates = self._rates or RateDesk(self.bus)
        return self._rates

    def newest(self, name: str, wanted: str = "") -> Component[..., Any]:
        """What a new job runs on; ``wanted`` is a major or a whole version, or empty. Raises: UsageError."""
        if self.repertoire is not None and name in self.repertoire:
            return self.repertoire.newest(name, wanted)
        found = self._of_app(name, _major_in(wanted))
        if found is None or (wanted.count(".") and found.version != wanted):
            if self._of_app(name, None) is None:
                raise UsageError(f"workflow {name!r} is not in app {self.app.name!r}")
            raise UsageError(f"app {self.app.name} has no {name} {wanted}", code="unknown_version", path="version")
        return found

    async def take(self, name: str, wanted: str = "") -> Component[..., Any]:
        """As :meth:`newest`, but looks again for a version that may have been published a moment ago."""
        try:
            return self.newest(name, wanted)
        except UsageError as error:
            if error.code != "unknown_version" or self.repertoire is None:
                raise
        await self.repertoire.definitions.refresh()
        return self.newest(name, wanted)

    def workflow(self, name: str, version: str) -> Component[..., Any] | None:
        """What a job goes on with that began at ``version``: of the app's functions the newest of the same major."""
        if self.repertoire is not None and (published := self.repertoire.exact(name, version)) is not None:
            return published
        found = self._of_app(name, _major_in(version))
        if found is None or not found.keeps_version:
            return found
        return next((c for c in self.app.components if (c.kind, c.name, c.version) == ("job", name, version)), None)

    def _of_app(self, name: str, major: int | None) -> Component[..., Any] | None:
        """The newest of the app, within a major if it is given. Remembered: it is asked for often."""
        found = self._workflows.get((name, major))
        if found is None:
            found = self.app.find("job", name, major) or self.app.find("agent", name, major)
            if found is not None:
                self._workflows[name, major] = found
        return found

    def resolve(self, target: Any, kinds: tuple[CallKind, ...]) -> Target:
        """The component that ``target`` (a component or a reference) means. Raises: UsageError with near misses."""
        if isinstance(target, Component):
            return Target(target.kind, target.name, target.major, target, target.breaker, retry=target.retry)
        if (known := self._own.get((target, kinds))) is not None:
            return known
        (app, name, major), exact = parse_ref(target), exact_version(target)
        if app in ("", self.app.name):
            for kind in kinds_for(target, kinds):
                if (component := self.app.find(kind, name, major)) is not None and exact in ("", component.version):
                    found = Target(
                        kind, name, component.major, component, component.breaker, version=exact or _text(major),
                        retry=component.retry,
                    )  # fmt: skip
                    return self._own.setdefault((target, kinds), found)
        info: ComponentInfo = self.registry.resolve(target, kinds)
        return Target(
            info.kind, info.name, info.major, breaker=info.breaker, version=exact or _text(major), retry=info.retry
        )

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
        await self._breakers.start()
        return self._breakers.refusal(tool_key(target.name, target.major))

    async def close(self) -> None:
        """Let go of what was begun here."""
        await self.models.close()
        await self._breakers.stop()


def _major_in(version: str) -> int | None:
    """The major of a version, or of a major; None of an empty text. Raises: UsageError."""
    if not version or (version.isascii() and version.isdigit()):
        return int(version) if version else None
    return parse_version(version, "version").major


@dataclass(frozen=True)
class Target:
    """What a call goes to; ``component`` is there if this app has it, and then input and output are typed.

    ``breaker`` and ``retry`` are a tool's own, as far as they are known; ``priority`` and ``version``
    (the major that was asked for, if one was) are those of a job's request.
    """

    kind: CallKind
    name: str
    major: int
    component: Component[..., Any] | None = None
    breaker: Breaker | None = None
    priority: Priority = "normal"
    retry: Retry | None = None
    version: str = ""


def _text(major: int | None) -> str:
    return "" if major is None else str(major)
