"""A kit: tools that belong together, with their settings, made to be taken into an app.

    app = App("desk")
    sql = app.use(Sql("sqlite:///figures.db"))

    @app.agent(model="anthropic:claude-sonnet-5", tools=[sql])
    ...

A kit holds settings and nothing else until its tools run: credentials are read from the environment by the process
that serves the tool, never from the module that declares it, so they reach no other process, no argv and no event.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.components.app import App
    from actors.components.component import Component


_IS_ASKING_ANEW: ContextVar[bool] = ContextVar("asking_anew", default=False)


@contextlib.contextmanager
def asking_anew() -> Iterator[None]:
    """While an app is described for a node: kits that learn their tools from a server ask it, whatever is kept."""
    token = _IS_ASKING_ANEW.set(True)
    try:
        yield
    finally:
        _IS_ASKING_ANEW.reset(token)


def asks_anew() -> bool:
    """Whether what is kept of an earlier answer is not to be used."""
    return _IS_ASKING_ANEW.get()


class Kit(ABC):
    """Base of what ``App.use`` takes. ``tools`` are the components that it declared, in their order."""

    def __init__(self) -> None:
        self.tools: tuple[Component[..., Any], ...] = ()

    async def check_machine(self) -> None:  # noqa: B027 - most kits need nothing of the machine
        """Asked when the process of one of its tools starts, before that serves.

        Raises: UsageError if the tools can never work here; the process is then not started again.
        """

    @abstractmethod
    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """Declare the kit's tools with ``app.tool(...)`` and return them. Raises: UsageError for wrong settings."""
