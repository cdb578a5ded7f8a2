"""Which processes a node starts for an app: pure, from the components' descriptions to child specs.

The supervisor never imports the user's module; it gets the descriptions from a process of their own (``describe``).
"""

from __future__ import annotations

import difflib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

import msgspec

from actors.component import ComponentInfo
from bus.errors import UsageError
from supervisor.child import ChildSpec

GATEWAY = "gateway"
TOOL_GRACE_S = 10.0
HOST_GRACE_S = 8.0


class Choice(msgspec.Struct, frozen=True):
    """What of an app runs on this node: ``only`` these (empty: all), ``without`` those, ``replicas`` by name."""

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    replicas: Mapping[str, int] = {}
    gateway: bool = True


def roster(target: str, components: Iterable[ComponentInfo], choice: Choice) -> list[ChildSpec]:
    """The child specs for the chosen components of the app at ``target``.

    Raises: UsageError for a name that the app does not have.
    """
    components = list(components)
    _check_names(choice, {c.name for c in components})
    chosen = [c for c in components if _is_chosen(c, choice)]
    tools = _newest_of_each_major([c for c in chosen if c.kind == "tool"])
    majors = Counter(c.name for c in tools)
    specs = [spec for tool in tools for spec in _tool(target, tool, choice, majors[tool.name] > 1)]
    specs += _hosts(target, [c for c in chosen if c.kind == "job"], choice)
    if choice.gateway:
        specs.append(_spec(GATEWAY, ("gateway", target), "gateway", grace_s=5.0))
    return specs


def _check_names(choice: Choice, known: set[str]) -> None:
    asked = (("--only", choice.only), ("--except", choice.without), ("--replicas", tuple(choice.replicas)))
    for option, names in asked:
        for name in names:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(sorted(known)) or 'no components'}"
                raise UsageError(f"the app has no component {name!r}", code="unknown_component", path=option, hint=hint)


def _is_chosen(component: ComponentInfo, choice: Choice) -> bool:
    return component.name not in choice.without and (not choice.only or component.name in choice.only)


def _newest_of_each_major(components: list[ComponentInfo]) -> list[ComponentInfo]:
    """An app may declare several versions; of one major the last declared serves."""
    return list({(c.kind, c.name, c.major): c for c in components}.values())


def _tool(target: str, info: ComponentInfo, choice: Choice, show_major: bool) -> list[ChildSpec]:
    base = f"{info.name}-v{info.major}" if show_major else info.name
    argv = ("tool", target, info.name, str(info.major))
    return [
        _spec(f"{base}-{i}", argv, f"{info.name} {info.version}", grace_s=TOOL_GRACE_S, group=base)
        for i in range(1, choice.replicas.get(info.name, info.replicas) + 1)
    ]


def _hosts(target: str, jobs: list[ComponentInfo], choice: Choice) -> list[ChildSpec]:
    """Shared hosts run all workflows of the app; an isolated one has processes of its own, one job each."""
    specs: list[ChildSpec] = []
    shared = sorted({c.name for c in jobs if not c.isolated})
    if shared:
        count = max(choice.replicas.get(c.name, c.replicas) for c in jobs if not c.isolated)
        argv = ("host", target, *shared)
        specs += [
            _spec(f"host-{i}", argv, ", ".join(shared), grace_s=HOST_GRACE_S, group="host") for i in range(1, count + 1)
        ]
    isolated: dict[str, int] = defaultdict(int)
    for info in jobs:
        if info.isolated:
            isolated[info.name] = choice.replicas.get(info.name, info.replicas)
    for name, count in isolated.items():
        argv = ("host", "--capacity", "1", target, name)
        specs += [_spec(f"{name}-{i}", argv, name, grace_s=HOST_GRACE_S, group=name) for i in range(1, count + 1)]
    return specs


def _spec(name: str, arguments: tuple[str, ...], component: str, *, grace_s: float, group: str = "") -> ChildSpec:
    argv = (sys.executable, "-m", "actors.process", "--name", name, *arguments)
    return ChildSpec(name=name, argv=argv, component=component, grace_s=grace_s, group=group or name)
