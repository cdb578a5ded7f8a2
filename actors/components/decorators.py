"""The types of ``@app.tool``, ``@app.job`` and ``@app.agent`` with options: what they take, what they make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar, overload

from actors.components.component import Component

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from actors.agents.agent import Agent
    from actors.operations.job import Job
    from actors.tools.tool_context import ToolContext

P = ParamSpec("P")
R = TypeVar("R")


class ToolDecorator(Protocol):
    """What ``@app.tool(...)`` with options gives: the context is stripped from P, the awaitable from R."""

    @overload
    def __call__(self, fn: Callable[Concatenate[ToolContext, P], Awaitable[R]], /) -> Component[P, R]: ...
    @overload
    def __call__(self, fn: Callable[Concatenate[ToolContext, P], R], /) -> Component[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, Awaitable[R]], /) -> Component[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Component[P, R]: ...


class JobDecorator(Protocol):
    """What ``@app.job(...)`` with options gives."""

    def __call__(self, fn: Callable[Concatenate[Job, P], Awaitable[R]], /) -> Component[P, R]: ...


class AgentDecorator(Protocol):
    """What ``@app.agent(...)`` gives."""

    def __call__(self, fn: Callable[Concatenate[Agent, P], Awaitable[R]], /) -> Component[P, R]: ...
