"""An agent as a component: a job of kind agent, whose function is given an Agent in place of a Job."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any

from actors.agents.agent import Agent
from actors.agents.answer import Answer
from actors.agents.settings import AgentSettings
from actors.components.agent_card import AgentCard
from actors.components.component import Component, Options, declare
from actors.operations.job import Job


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class AgentComponent(Component[..., Any]):
    """A component of kind agent."""

    settings: AgentSettings = field(repr=False)

    @property
    def agent(self) -> AgentCard:
        """What others are told of it."""
        return self.settings.card

    def context(self, job: Job) -> Job:
        """Its function is given an Agent."""
        return Agent(job.operations, self.settings, self.name)


def declare_agent(
    fn: Callable[..., Any], settings: AgentSettings, *, app: str, app_version: str, options: Options
) -> AgentComponent:
    """Make a component of an agent's function.

    Without instructions the whole docstring of the function is what the model is told; without an output the type
    that the function returns is what a run gives. Raises: UsageError.
    """
    plain = declare("agent", fn, app=app, app_version=app_version, options=options)
    if not settings.instructions:
        settings = replace(settings, instructions=inspect.getdoc(fn) or "")
    if settings.output is None:
        returns = plain.signature.returns
        settings = replace(settings, output=str if returns is Any or _is_nothing(returns) else returns)
    label = f"agent {plain.name}"
    settings.check(label)
    Answer(settings.output, label)  # a type that no schema can be made of is refused now
    fields = {name: getattr(plain, name) for name in Component.__dataclass_fields__}
    return AgentComponent(**fields | {"fn": _with_budget(fn, str(plain.context_param))}, settings=settings)


def _with_budget(fn: Callable[..., Any], context_param: str) -> Callable[..., Any]:
    """The function, with the agent's budget opened before it begins."""

    @wraps(fn)
    async def opened(*args: Any, **kwargs: Any) -> Any:
        if isinstance(agent := kwargs.get(context_param), Agent):
            await agent.open_budget()
        return await fn(*args, **kwargs)

    return opened


def _is_nothing(type_: Any) -> bool:
    return type_ is None or type_ is type(None) or typing.get_origin(type_) is typing.NoReturn
