"""What keeps agents and the toolbox from working, for ``callboard doctor``."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from actors.breakers.breaker_states import BreakerState, breaker_states
from actors.doctor.finding import Finding
from bus.connection import Bus
from bus.errors import PermissionRefused
from bus.failure import TerminalError
from supervisor.status import NodeStatus, node_statuses

_MODEL = "dep.model-"
_SANDBOX = "python sandbox"


async def node_findings(bus: Bus) -> list[Finding]:
    """What the processes of the nodes that answer say of themselves. Raises: BusError."""
    try:
        return warnings_of(await node_statuses(bus))
    except PermissionRefused as error:
        return [_not_seen("actors", error)]


def warnings_of(nodes: Iterable[NodeStatus]) -> list[Finding]:
    """One finding for each warning of an actor, one if there is none. Pure."""
    found = [
        Finding("warn", f"actor {node.node}/{actor.name}", warning,
                f"mend it where the node is started, then 'callboard supervise restart {actor.name}' or the node")
        for node in nodes for actor in node.actors for warning in actor.warnings
    ]  # fmt: skip
    return found or [Finding("ok", "actors", "none warns of anything")]


async def circuit_findings(bus: Bus) -> list[Finding]:
    """The circuits that are open now. Raises: BusError."""
    try:
        return open_circuits(await breaker_states(bus))
    except PermissionRefused as error:
        return [_not_seen("circuits", error)]


def open_circuits(states: Iterable[BreakerState]) -> list[Finding]:
    """One finding for each circuit that is open, one if none is. Pure."""
    found = [_open(state) for state in states if state.state == "open"]
    return found or [Finding("ok", "circuits", "none is open")]


def _open(state: BreakerState) -> Finding:
    held = "agents that ask this model wait" if state.key.startswith(_MODEL) else "calls are held back"
    reason = state.reason or (f"by {state.by}" if state.by else "no reason is given")
    return Finding("warn", f"circuit {state.key}", f"open: {reason}; {held}", "see 'callboard breakers'")


def _not_seen(what: str, error: PermissionRefused) -> Finding:
    """Not each user may see all: that is no fault of the deployment."""
    return Finding("ok", what, f"not looked at: {error}")


async def sandbox_findings() -> list[Finding]:
    """How well the kit ``Python`` can shut a program in on this machine: found out by running one."""
    from actors.toolbox.python.kit import Python  # nothing else here needs it

    try:
        isolation = await Python().isolation()
    except TerminalError as error:
        return [Finding("warn", _SANDBOX, f"none works on this machine: {error}", "do not run the kit Python here")]
    return [sandbox_finding(isolation.level, isolation.text)]


def sandbox_finding(level: str, text: str) -> Finding:
    """The finding on the strongest isolation of this machine. Pure."""
    if level != "rlimits":
        return Finding("ok", _SANDBOX, f"this machine offers {text}")
    how = "install bubblewrap, or allow user namespaces" if sys.platform == "linux" else "run the kit Python on Linux"
    detail = f"this machine offers {text} only: a program can read the node's files"
    return Finding("warn", _SANDBOX, detail, f"{how}; see docs/security-toolbox.md")
