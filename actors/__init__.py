"""What users write with: ``from actors import App, Job, Retry``.

The names are loaded when they are first used, so that a process pays only for what it imports.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.agents.agent import Agent as Agent
    from actors.agents.approval_rule import RequireApproval as RequireApproval
    from actors.assets.injected import INJECTED as INJECTED
    from actors.breakers.dependency import CircuitOpen as CircuitOpen
    from actors.budgets.budget import Budget as Budget
    from actors.builder.expression import Expr as Expr
    from actors.builder.expression import expr as expr
    from actors.builder.workflow import Workflow as Workflow
    from actors.clients.client import Client as Client
    from actors.components.app import App as App
    from actors.components.component import Component as Component
    from actors.components.component import InvalidInput as InvalidInput
    from actors.components.component import InvalidOutput as InvalidOutput
    from actors.context.policy import Context as Context
    from actors.operations.job import ChildJob as ChildJob
    from actors.operations.job import Job as Job
    from actors.roles.role import Role as Role
    from actors.teams.result import TeamResult as TeamResult
    from actors.teams.team import Team as Team
    from actors.tools.tool_context import ToolContext as ToolContext
    from actors.workflow.document import Cache as Cache
    from actors.workflow.document import Compensation as Compensation
    from actors.workflow.document import Escalate as Escalate
    from actors.workflow.document import Goto as Goto
    from actors.workflow.document import Join as Join
    from actors.workflow.document import Param as Param
    from bus.approval_events import Escalation as Escalation
    from bus.errors import CallboardError as CallboardError
    from bus.errors import UsageError as UsageError
    from bus.failure import CallFailed as CallFailed
    from bus.failure import Failure as Failure
    from bus.failure import RetryableError as RetryableError
    from bus.failure import TerminalError as TerminalError
    from store.approval import Decision as Decision
    from store.artifact import Artifact as Artifact
    from supervisor.at_once import AtOnce as AtOnce
    from supervisor.breaker import Breaker as Breaker
    from supervisor.limits import Limits as Limits
    from supervisor.rate import Rate as Rate
    from supervisor.restart import Group as Group
    from supervisor.retry import Retry as Retry

_HOMES = {
    "Agent": "actors.agents.agent",
    "Role": "actors.roles.role",
    "Team": "actors.teams.team",
    "TeamResult": "actors.teams.result",
    "RequireApproval": "actors.agents.approval_rule",
    "INJECTED": "actors.assets.injected",
    "Artifact": "store.artifact",
    "AtOnce": "supervisor.at_once",
    "Rate": "supervisor.rate",
    "Limits": "supervisor.limits",
    "Group": "supervisor.restart",
    "Breaker": "supervisor.breaker",
    "Budget": "actors.budgets.budget",
    "App": "actors.components.app",
    "CallFailed": "bus.failure",
    "CallboardError": "bus.errors",
    "CircuitOpen": "actors.breakers.dependency",
    "ChildJob": "actors.operations.job",
    "Client": "actors.clients.client",
    "Component": "actors.components.component",
    "Context": "actors.context.policy",
    "Decision": "store.approval",
    "Escalation": "bus.approval_events",
    "Failure": "bus.failure",
    "InvalidInput": "actors.components.component",
    "InvalidOutput": "actors.components.component",
    "Job": "actors.operations.job",
    "Cache": "actors.workflow.document",
    "Compensation": "actors.workflow.document",
    "Escalate": "actors.workflow.document",
    "Expr": "actors.builder.expression",
    "Goto": "actors.workflow.document",
    "Join": "actors.workflow.document",
    "Param": "actors.workflow.document",
    "Workflow": "actors.builder.workflow",
    "expr": "actors.builder.expression",
    "Retry": "supervisor.retry",
    "RetryableError": "bus.failure",
    "TerminalError": "bus.failure",
    "ToolContext": "actors.tools.tool_context",
    "UsageError": "bus.errors",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list of literals, kept in one place


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'actors' has no attribute {name!r}")
