"""Which processes a node starts for an app: pure, from the components' descriptions to child specs.

The supervisor never imports the user's module; it gets the descriptions from a process of their own (``describe``).
"""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from actors.component import DEFAULT_STALL_S, ComponentInfo
from bus.errors import UsageError
from supervisor.child import ChildSpec
from supervisor.heartbeat import STALL_VARIABLE
from supervisor.limits import NO_LIMITS, Limits, widest

GATEWAY = "gateway"
TOOL_GRACE_S = 10.0
HOST_GRACE_S = 8.0


class Choice(msgspec.Struct, frozen=True):
    """What of an app runs on this node: ``only`` these (empty: all), ``without`` those, ``replicas`` by name.

    ``stall_s`` is for hosts and the gateway: how long they may say nothing, where no job says otherwise.
    """

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    replicas: Mapping[str, int] = {}
    gateway: bool = True
    stall_s: float = DEFAULT_STALL_S


def default_stall_s(environ: Mapping[str, str]) -> float:
    """How long hosts and the gateway may say nothing: ``CALLBOARD_STALL_S``, else 15 s. Raises: UsageError."""
    text = environ.get(STALL_VARIABLE, "")
    with contextlib.suppress(ValueError):
        stall_s = float(text or DEFAULT_STALL_S)
        if 0 < stall_s < float("inf"):
            return stall_s
    raise UsageError(f"{STALL_VARIABLE} is {text!r}", code="bad_stall", path=STALL_VARIABLE, hint="seconds above 0")


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
        specs.append(_spec(GATEWAY, ("gateway", target), "gateway", grace_s=5.0, stall_s=choice.stall_s))
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
        _spec(
            f"{base}-{i}",
            argv,
            f"{info.name} {info.version}",
            grace_s=TOOL_GRACE_S,
            group=base,
            stall_s=info.stall_s,
            limits=info.limits,
        )
        for i in range(1, choice.replicas.get(info.name, info.replicas) + 1)
    ]


def _hosts(target: str, jobs: list[ComponentInfo], choice: Choice) -> list[ChildSpec]:
    """Shared hosts run all workflows of the app; an isolated one has processes of its own, one job each."""
    specs: list[ChildSpec] = []
    together = [c for c in jobs if not c.isolated]
    shared = sorted({c.name for c in together})
    if shared:
        count = max(choice.replicas.get(c.name, c.replicas) for c in together)
        stall_s, limits = _stall_s(together, choice), widest(c.limits for c in together)
        argv = ("host", target, *shared)
        specs += [
            _spec(
                f"host-{i}", argv, ", ".join(shared), grace_s=HOST_GRACE_S, group="host", stall_s=stall_s, limits=limits
            )
            for i in range(1, count + 1)
        ]
    for name in dict.fromkeys(c.name for c in jobs if c.isolated):
        alone = [c for c in jobs if c.isolated and c.name == name]
        argv, count = ("host", "--capacity", "1", target, name), choice.replicas.get(name, alone[-1].replicas)
        stall_s, limits = _stall_s(alone, choice), widest(c.limits for c in alone)
        specs += [
            _spec(f"{name}-{i}", argv, name, grace_s=HOST_GRACE_S, group=name, stall_s=stall_s, limits=limits)
            for i in range(1, count + 1)
        ]
    return specs


def _stall_s(jobs: Iterable[ComponentInfo], choice: Choice) -> float:
    """A host may be silent for as long as the most patient of its jobs says; those that say nothing go by the node."""
    return max(choice.stall_s if c.stall_s == DEFAULT_STALL_S else c.stall_s for c in jobs)


def _spec(
    name: str, arguments: tuple[str, ...], component: str, *, grace_s: float, stall_s: float, group: str = "",
    limits: Limits = NO_LIMITS,
) -> ChildSpec:  # fmt: skip
    argv = (sys.executable, "-m", "actors.process", "--name", name, *arguments)
    return ChildSpec(
        name=name, argv=argv, component=component, grace_s=grace_s, group=group or name, stall_s=stall_s, limits=limits
    )
