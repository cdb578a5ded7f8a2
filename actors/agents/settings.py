"""What an author says of an agent beside its function: the model, its tools, what it may do and must ask for."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from actors.agents.approval_rule import RequireApproval, as_rules
from actors.budgets.budget import Budget
from actors.components.agent_card import AgentCard
from actors.components.component import Component
from actors.components.registry import parse_ref
from actors.context.policy import Context
from actors.model.model import Model
from actors.toolbox.kit import Kit
from bus.errors import UsageError
from supervisor.number import is_count, is_number
from supervisor.retry import Retry

# A provider that is overloaded for minutes is no reason to fail what has run, and been paid for, until then.
MODEL_RETRY = Retry(attempts=8, backoff_s=1.0, factor=2.0, max_wait_s=120.0)
DEFAULT_TURNS = 20
DEFAULT_MENDINGS = 3
DEFAULT_MAX_TOKENS = 4096
DEFAULT_CONTEXT = Context()


@dataclass(frozen=True, kw_only=True)
class AgentSettings:
    """All that ``@app.agent`` takes. ``output`` is what a run gives; ``str`` means the model's own words.

    ``turns`` bounds how often the model is asked in one run, ``mendings`` how many answers in a row it may get wrong
    (a tool that there is not, arguments that do not fit, an output that does not fit) before the run fails.
    """

    model: str | Model
    instructions: str = ""
    tools: tuple[Component[..., Any] | str, ...] = ()
    output: Any = str
    approve: tuple[RequireApproval, ...] = ()
    read_only: bool = False
    budget: Budget | None = None
    turns: int = DEFAULT_TURNS
    mendings: int = DEFAULT_MENDINGS
    max_tokens: int = DEFAULT_MAX_TOKENS
    temperature: float | None = None
    thinking_tokens: int = 0
    retry: Retry = MODEL_RETRY
    context: Context = DEFAULT_CONTEXT

    @property
    def model_ref(self) -> str:
        """The model for people: ``anthropic:claude-sonnet-5``."""
        return self.model if isinstance(self.model, str) else f"{self.model.provider}:{self.model.name}"

    @property
    def card(self) -> AgentCard:
        """What others are told."""
        return AgentCard(self.model_ref, tuple(ref_of(tool) for tool in self.tools), self.read_only)

    def check(self, label: str) -> None:
        """Raises: UsageError that names the setting that cannot be."""
        if isinstance(self.model, str) and not self.model.strip():
            raise _bad(label, "model", self.model, 'a reference, such as "anthropic:claude-sonnet-5", or a Model')
        for name, value in (("turns", self.turns), ("max_tokens", self.max_tokens)):
            if not is_count(value):
                raise _bad(label, name, value, "a whole number from 1")
        for name, value in (("mendings", self.mendings), ("thinking_tokens", self.thinking_tokens)):
            if not (value == 0 or is_count(value)):
                raise _bad(label, name, value, "a whole number from 0")
        if self.thinking_tokens >= self.max_tokens:
            right = f"fewer than max_tokens, which are {self.max_tokens} and hold the thoughts too"
            raise _bad(label, "thinking_tokens", self.thinking_tokens, right)
        if self.temperature is not None and not (is_number(self.temperature) and 0 <= self.temperature <= 2):
            raise _bad(label, "temperature", self.temperature, "a number from 0 to 2, or None")
        if not isinstance(self.budget, Budget | None):
            raise _bad(label, "budget", self.budget, "a Budget, such as Budget(usd=0.5), or None for no limit")
        if not isinstance(self.retry, Retry):
            raise _bad(label, "retry", self.retry, "a Retry, for calls of the model")
        if not isinstance(self.context, Context):
            raise _bad(label, "context", self.context, "a Context, such as Context(limit_tokens=50_000)")
        self._check_tools(label)

    def _check_tools(self, label: str) -> None:
        names = [parse_ref(ref_of(tool))[1] for tool in self.tools]
        for name in names:
            if names.count(name) > 1:
                raise _bad(label, "tools", name, "tools of different names, since the model knows them by these")
        for rule in self.approve:
            if rule.tool not in ("*", *names):
                near = difflib.get_close_matches(rule.tool, names, 1)
                has = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(names) or 'no tools'}"
                raise UsageError(
                    f"{label}: approve names the tool {rule.tool!r}", code="unknown_tool", path="approve", hint=has
                )


def make_settings(
    *, model: str | Model, tools: Sequence[Component[..., Any] | Kit | str], approve: Sequence[RequireApproval | str],
    retry: Retry | None, context: Context | None, **others: Any,
) -> AgentSettings:  # fmt: skip
    """The settings as ``@app.agent`` has them; what belongs to the function comes with it. Raises: UsageError."""
    return AgentSettings(
        model=model,
        tools=listed_tools(tools),
        approve=as_rules(approve),
        retry=retry or MODEL_RETRY,
        context=DEFAULT_CONTEXT if context is None else context,
        **others,
    )


def listed_tools(tools: Sequence[Component[..., Any] | Kit | str]) -> tuple[Component[..., Any] | str, ...]:
    """The tools that an author named, those of kits one by one. Raises: UsageError for what is no tool."""
    found: list[Component[..., Any] | str] = []
    for tool in tools:
        if isinstance(tool, Kit):
            if not tool.tools:
                hint = "take it into the app first: kit = app.use(kit)"
                raise UsageError(f"{tool!r} has no tools yet", code="bad_tool", path="tools", hint=hint)
            found += tool.tools
        else:
            found.append(_checked_tool(tool))
    return tuple(found)


def _checked_tool(tool: Any) -> Component[..., Any] | str:
    if isinstance(tool, str | Component):
        return tool
    hint = "a component, a kit that was taken into the app, or a reference such as 'send@2'"
    raise UsageError(f"{tool!r} is no tool", code="bad_tool", path="tools", hint=hint)


def ref_of(tool: Component[..., Any] | str) -> str:
    """How a tool is asked for by name, within its major version."""
    return tool if isinstance(tool, str) else f"{tool.app}.{tool.name}@{tool.major}"


def _bad(label: str, name: str, value: object, right: str) -> UsageError:
    return UsageError(f"{label}: {name} cannot be {value!r}", code="bad_option", path=name, hint=right)
