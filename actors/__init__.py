"""What users write with: ``from actors import App, Job, Retry``.

The names are loaded when they are first used, so that a process pays only for what it imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.app import App as App
    from actors.client import Client as Client
    from actors.component import Component as Component
    from actors.component import InvalidInput as InvalidInput
    from actors.component import InvalidOutput as InvalidOutput
    from actors.dependency import CircuitOpen as CircuitOpen
    from actors.job import ChildJob as ChildJob
    from actors.job import Job as Job
    from actors.tool_context import ToolContext as ToolContext
    from bus.errors import CallboardError as CallboardError
    from bus.errors import UsageError as UsageError
    from bus.failure import CallFailed as CallFailed
    from bus.failure import Failure as Failure
    from bus.failure import RetryableError as RetryableError
    from bus.failure import TerminalError as TerminalError
    from supervisor.breaker import Breaker as Breaker
    from supervisor.limits import Limits as Limits
    from supervisor.restart import Group as Group
    from supervisor.retry import Retry as Retry

_HOMES = {
    "Limits": "supervisor.limits",
    "Group": "supervisor.restart",
    "Breaker": "supervisor.breaker",
    "App": "actors.app",
    "CallFailed": "bus.failure",
    "CallboardError": "bus.errors",
    "CircuitOpen": "actors.dependency",
    "ChildJob": "actors.job",
    "Client": "actors.client",
    "Component": "actors.component",
    "Failure": "bus.failure",
    "InvalidInput": "actors.component",
    "InvalidOutput": "actors.component",
    "Job": "actors.job",
    "Retry": "supervisor.retry",
    "RetryableError": "bus.failure",
    "TerminalError": "bus.failure",
    "ToolContext": "actors.tool_context",
    "UsageError": "bus.errors",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list of literals, kept in one place


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'actors' has no attribute {name!r}")
