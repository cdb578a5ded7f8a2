"""What a schema cannot say about the settings of an agent: names, models, tools, budgets, rules of approval. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from actors.agents.approval_rule import RequireApproval
from actors.budgets.budget import Budget
from actors.components.registry import parse_ref
from actors.components.version import parse_version
from actors.model.model_ref import parse_model_ref
from actors.workflow.finding import Fault, Path, did_you_mean
from bus.errors import UsageError
from bus.subjects import check_name

# The names that an app has for tools, agents and kits.
KnownTools = Collection[str]
OPTIONAL = "?"


def faults_of(front: dict[str, Any], known: KnownTools | None) -> Iterator[Fault]:
    """What is wrong with what has the right shape; None stands for items that have not.

    ``known`` None: whether a tool exists is not asked.
    """
    if "name" in front:
        yield from _refused(("name",), check_name, front["name"], "name of the agent")
    if front.get("version"):
        yield from _refused(("version",), parse_version, front["version"], "version")
    if front.get("model"):
        yield from _refused(("model",), parse_model_ref, front["model"])
    yield from _tool_faults(front.get("tools", []), known)
    yield from _approval_faults(front.get("approve", []))
    for limit, value in (front.get("budget") or {}).items():
        yield from _refused(("budget", limit), lambda each: Budget(**each), {limit: value})


def _refused(path: Path, check: Any, *args: Any) -> Iterator[Fault]:
    try:
        check(*args)
    except UsageError as error:
        yield Fault(error.code, path, str(error.args[0]), error.hint)


def bare(tool: str) -> str:
    """A tool's name as a file says it, without the mark that it may be missing."""
    return tool.removesuffix(OPTIONAL)


def is_elsewhere(tool: str) -> bool:
    """Whether it is a reference, which is looked up when the agent runs: another app may have it."""
    return "." in tool or "@" in tool


def _tool_faults(tools: list[str | None], known: KnownTools | None) -> Iterator[Fault]:
    seen: set[str] = set()
    for place, tool in enumerate(tools):
        if tool is None:
            continue
        path, name = ("tools", place), bare(tool)
        yield from _refused(path, parse_ref, name)
        if name in seen:
            yield Fault("duplicate_tool", path, f"{name} is there twice")
        seen.add(name)
        if known is not None and name == tool and not is_elsewhere(name) and name not in known:
            yield unknown_tool(path, name, known)


def unknown_tool(path: Path, name: str, known: KnownTools) -> Fault:
    """The fault of a tool that the app has not."""
    return Fault("unknown_tool", path, f"the app has no tool {name!r}", did_you_mean(name, known, "it has no tools"))


def _approval_faults(rules: list[Any]) -> Iterator[Fault]:
    for place, rule in enumerate(rules):
        name = rule.get("tool", "*") if isinstance(rule, dict) else rule or "*"
        if is_elsewhere(name):
            yield Fault("unknown_tool", ("approve", place), f"rules name a tool as its model knows it, not as {name!r}",
                        f"say {name.partition('@')[0].rpartition('.')[2]!r}")  # fmt: skip
        if isinstance(rule, dict):
            try:
                msgspec.convert(rule, RequireApproval)
            except UsageError as error:
                yield Fault("bad_expression", ("approve", place, "when"), str(error.args[0]), error.hint)
