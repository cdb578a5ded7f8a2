"""The kits that need nothing but settings, and which of them has a tool of some name."""

from __future__ import annotations

import difflib
import logging
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any, NamedTuple

import actors.toolbox
from actors.components.app import App
from actors.components.component import Component
from actors.toolbox.kit import Kit
from actors.toolbox.settings import build, from_environment, kit_word, settings_of, variable_of
from bus.errors import UsageError

log = logging.getLogger("callboard.toolbox")

# Nobody gets these without a word in the environment: they run what a model wrote.
_ON_REQUEST = {"Python", "Shell"}
# What a model wrote must not read the files of the node, unless somebody says so.
_DEFAULTS: dict[str, dict[str, str]] = {"Python": {"require": "landlock"}} if sys.platform == "linux" else {}
# They are not tools by themselves: a base, and one that is told which server to speak to.
_NOT_ON_THE_SHELF = {"Kit", "Mcp"}


class Found(NamedTuple):
    """A tool of a kit that was built for it, and what of the given values is left for its input."""

    tool: Component[..., Any]
    body: dict[str, Any]


def kit_names() -> list[str]:
    """The names of the kits' classes, in the order in which they are exported."""
    return [name for name in actors.toolbox._HOMES if name not in _NOT_ON_THE_SHELF]


def kits(names: list[str]) -> Iterator[type[Kit]]:
    """Their classes; what is exported beside them (a setting's type, say) is none."""
    for name in names:
        found = getattr(import_module(actors.toolbox._HOMES[name]), name)
        if isinstance(found, type) and issubclass(found, Kit):
            yield found


def standard_app(environ: Mapping[str, str]) -> App:
    """An app of all kits whose settings are in the environment; others are left out with a word in the log."""
    app = App("toolbox", version="1.0.0", description="Tools that are ready to use.")
    for kit in kits(kit_names()):
        settings = from_environment(kit, environ)
        if kit.__name__ in _ON_REQUEST and not settings:
            log.info("without %s: none of its settings is in the environment, such as %s", kit.__name__,
                     variable_of(kit, "timeout_s"))  # fmt: skip
            continue
        try:
            app.use(build(kit, _DEFAULTS.get(kit.__name__, {}) | settings))
        except UsageError as error:
            log.info("without %s: %s", kit.__name__, error)
    return app


# ---- one tool


def find_tool(name: str, values: Mapping[str, Any], environ: Mapping[str, str]) -> Found:
    """The tool of that name, of a kit with those of ``values`` that are its settings; the others are its input.

    What is both is input. Raises: UsageError for an unknown tool, or settings that cannot be.
    """
    near, others = _split(name)
    refusals: dict[str, UsageError] = {}
    seen: list[str] = []
    for kit in kits(near + others):
        try:
            if found := _in_kit(kit, name, values, environ, seen):
                return found
        except UsageError as error:
            seen.append(kit_word(kit))
            refusals[kit.__name__] = error
    for kit_name in near:
        if kit_name in refusals:
            raise refusals[kit_name]
    raise _unknown(name, seen, refusals)


def _unknown(name: str, seen: list[str], refusals: Mapping[str, UsageError]) -> UsageError:
    """With what is near; a kit that was not built may be the one that has it."""
    close = difflib.get_close_matches(name, seen, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there is {', '.join(sorted(seen)) or 'none'}"
    not_built = "; ".join(str(error.args[0]) for error in refusals.values())
    more = f"; {not_built}" if not_built else ""
    return UsageError(f"the standard toolbox has no tool {name!r}", code="unknown_component", hint=hint + more)


def _split(name: str) -> tuple[list[str], list[str]]:
    """The kits that are called like the tool, and the others."""
    words = {each: kit_word(type(each, (Kit,), {})) for each in kit_names()}
    near = [each for each, word in words.items() if name.replace("-", "_").startswith(word)]
    return near, [each for each in words if each not in near]


def _in_kit(
    kit: type[Kit], name: str, values: Mapping[str, Any], environ: Mapping[str, str], seen: list[str]
) -> Found | None:
    """Built with all that could be settings first: only the tool itself tells what is its input."""
    known, said = settings_of(kit), from_environment(kit, environ)
    given = {key: value for key, value in values.items() if key in known}
    tools = _tools(kit, said | given)
    seen.extend(tools)
    if name not in tools:
        return None
    takes = tools[name].input_schema.get("properties", {})
    settings = {key: value for key, value in given.items() if key not in takes}
    if settings != given:
        tools = _tools(kit, said | settings)
    return Found(tools[name], {key: value for key, value in values.items() if key not in settings})


def _tools(kit: type[Kit], settings: Mapping[str, Any]) -> dict[str, Component[..., Any]]:
    app = App("toolbox", version="1.0.0")
    app.use(build(kit, settings))
    return {component.name: component for component in app.components if component.kind == "tool"}
