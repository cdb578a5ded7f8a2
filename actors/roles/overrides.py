"""What an app may say otherwise than a role's file does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

from actors.agents.approval_rule import RequireApproval
from actors.budgets.budget import Budget
from actors.components.component import Component
from actors.context.policy import Context
from actors.model.model import Model
from actors.toolbox.kit import Kit
from supervisor.retry import Retry


class RoleOverrides(TypedDict, total=False):
    """Keywords of ``app.role`` and ``app.agent_file``; what is not given is as the file says.

    ``tools`` are instead of the file's. ``output`` is a name as in a file, or a type of your own.
    """

    name: str
    version: str
    description: str
    instructions: str
    model: str | Model
    tools: Sequence[Component[..., Any] | Kit | str]
    output: Any
    read_only: bool
    approve: Sequence[RequireApproval | str]
    budget: Budget | None
    turns: int
    mendings: int
    max_tokens: int
    temperature: float | None
    thinking_tokens: int
    context: Context | None
    retry: Retry | None
    timeout_s: float | None
    replicas: int
    group: str
