"""A role becomes an agent of an app: its tools are found there, its output's name becomes a type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from actors.agents.agent import Agent
from actors.agents.declaring import AgentComponent, declare_agent
from actors.agents.settings import make_settings
from actors.components.component import Component, Options
from actors.roles.evidence import work_of
from actors.roles.front_matter import OUTPUTS
from actors.roles.overrides import RoleOverrides
from actors.roles.plan import Plan
from actors.roles.role import Role, refusal
from actors.roles.role_rules import OPTIONAL, bare, is_elsewhere, unknown_tool
from actors.roles.verdict import Verdict
from actors.roles.work import Work
from actors.toolbox.kit import Kit
from bus.errors import UsageError

if TYPE_CHECKING:
    from actors.components.app import App

_TYPES: dict[str, Any] = {"text": str, "work": Work, "plan": Plan, "verdict": Verdict}
_SETTINGS = ("approve", "read_only", "budget", "turns", "mendings", "max_tokens", "temperature", "thinking_tokens")
_OPTIONS = ("timeout_s", "replicas", "group")

Tool = Component[..., Any] | Kit | str


def declare_role(app: App, role: Role, overrides: RoleOverrides) -> AgentComponent:
    """The agent ``role`` of an app; the app has not taken it in yet.

    Its input is ``task`` and, if there is something to know beside it, ``context``. Raises: UsageError.
    """
    said: dict[str, Any] = {name: getattr(role, name) for name in Role.__struct_fields__} | dict(overrides)
    if not said["model"]:
        raise UsageError(f"role {said['name']} names no model", code="no_model", path="model",
                         hint="write one into its file, or say model=...")  # fmt: skip
    fn, output = _function(_output_type(said["output"]))
    settings = make_settings(
        model=said["model"], instructions=said["instructions"], output=output,
        tools=_tools(app, role, overrides), retry=said.get("retry"), context=said.get("context"),
        **{name: said[name] for name in _SETTINGS},
    )  # fmt: skip
    options = Options(name=said["name"], version=said["version"], description=said["description"],
                      **{name: said[name] for name in _OPTIONS if name in said})  # fmt: skip
    return declare_agent(fn, settings, app=app.name, app_version=app.version, options=options)


def _output_type(output: Any) -> Any:
    if not isinstance(output, str):
        return output
    if output not in _TYPES:
        raise UsageError(f"there is no output {output!r}", code="bad_option", path="output",
                         hint=f"one of {', '.join(OUTPUTS)}, or a type")  # fmt: skip
    return _TYPES[output]


def _function(gives: Any) -> tuple[Callable[..., Any], Any]:
    """The agent's function, and what a run of it has to give."""
    if gives is Work:
        return _work, str

    async def answer(agent: Agent, task: str, context: str = "") -> Any:
        return await agent.run(_prompt(task, context))

    answer.__annotations__["return"] = gives
    return answer, gives


async def _work(agent: Agent, task: str, context: str = "") -> Work:
    text = await agent.run(_prompt(task, context))
    return work_of(text, agent.calls)


def _prompt(task: str, context: str) -> str:
    return f"{task}\n\n{context}" if context else task


# ---- tools


def _tools(app: App, role: Role, overrides: RoleOverrides) -> Sequence[Tool]:
    if "tools" in overrides:
        return overrides["tools"]
    return list(_found(role, known_tools(app)))


def _found(role: Role, known: dict[str, Tool]) -> Iterator[Tool]:
    for place, name in enumerate(role.tools):
        if bare(name) in known:
            yield known[bare(name)]
        elif is_elsewhere(name):
            yield name
        elif not name.endswith(OPTIONAL):
            fault = unknown_tool(("tools", place), name, known)
            raise UsageError(f"role {role.name}: {fault.message}", code=fault.code, path=f"tools[{place}]",
                             hint=fault.hint)  # fmt: skip


def known_tools(app: App) -> dict[str, Tool]:
    """What an app has by the names that a file may use: its components, and the kits that it took in."""
    known: dict[str, Tool] = {component.name: component for component in app.components}
    kits: dict[str, Tool] = {name: kit for kit in app.kits if (name := getattr(kit, "name", "")) and kit.tools}
    return known | kits


def role_of(app: App, path: Any) -> Role:
    """A file of the user's, checked with the app's tools. Raises: UsageError with all findings."""
    from actors.roles.role_file import read_role

    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", code="no_file", path=str(path)) from None
    reading = read_role(str(path), raw, known_tools(app))
    if reading.role is None:
        raise refusal(reading.findings)
    return reading.role
