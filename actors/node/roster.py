"""Which processes a node starts for an app: pure, from the components' descriptions to child specs.

The supervisor never imports the user's module; it gets the descriptions from a process of their own (``describe``).
"""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from actors.components.component import DEFAULT_STALL_S, ComponentInfo
from bus.errors import UsageError
from supervisor.child import ChildSpec
from supervisor.heartbeat import STALL_LEAST_S, STALL_VARIABLE
from supervisor.limits import NO_LIMITS, Limits, strictest
from supervisor.restart import Group, RestartKind

GATEWAY = "gateway"
HOST = "host"
WORKFLOWS = "workflows"
TOOL_GRACE_S = 10.0
HOST_GRACE_S = 8.0
GATEWAY_GRACE_S = 5.0
REPLICAS_LIMIT = 1000


class Choice(msgspec.Struct, frozen=True):
    """What of an app runs on this node: ``only`` these (empty: all), ``without`` those, ``replicas`` by name.

    ``workflows``: published ones too, in a process of their own.

    ``stall_s`` is for the gateway, and for hosts none of whose jobs says how long they may say nothing.
    """

    only: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    replicas: Mapping[str, int] = {}
    gateway: bool = True
    stall_s: float = DEFAULT_STALL_S
    workflows: bool = False


def default_stall_s(environ: Mapping[str, str]) -> float:
    """How long hosts and the gateway may say nothing: ``CALLBOARD_STALL_S``, else 15 s. Raises: UsageError."""
    text = environ.get(STALL_VARIABLE, "")
    with contextlib.suppress(ValueError):
        stall_s = float(text or DEFAULT_STALL_S)
        if STALL_LEAST_S <= stall_s < float("inf"):
            return stall_s
    hint = f"seconds from {STALL_LEAST_S:g}"
    raise UsageError(f"{STALL_VARIABLE} is {text!r}", code="bad_stall", path=STALL_VARIABLE, hint=hint)


def roster(target: str, components: Iterable[ComponentInfo], choice: Choice) -> list[ChildSpec]:
    """The child specs for the chosen components of the app at ``target``: tools, then hosts, then the gateway.

    Children of one of the app's groups stand in the order of declaration, which is what ``rest_for_one`` goes by.
    Raises: UsageError for a name that the app does not have, or a group that has the name of something else.
    """
    components = list(components)
    _check_names(choice, {c.name for c in components})
    chosen = _chosen(components, choice)
    majors = Counter(c.name for c in chosen if c.kind == "tool")
    found: list[tuple[tuple[bool, int], list[ChildSpec]]] = []
    for position, info in enumerate(chosen):
        if info.kind == "tool":
            found.append(((False, position), _tool(target, info, choice, majors[info.name] > 1)))
    for position, jobs in _houses(chosen):
        found.append(((not jobs[0].group, position), _host(target, jobs, choice)))
    specs = [spec for _, some in sorted(found, key=lambda entry: entry[0]) for spec in some]
    if choice.workflows:
        specs.append(
            _spec(WORKFLOWS, (WORKFLOWS,), WORKFLOWS, serves=(WORKFLOWS,), grace_s=HOST_GRACE_S, group=WORKFLOWS,
                  stall_s=choice.stall_s)
        )  # fmt: skip
    if choice.gateway:
        specs.append(
            _spec(GATEWAY, (GATEWAY, target), GATEWAY, serves=(GATEWAY,), grace_s=GATEWAY_GRACE_S, group=GATEWAY,
                  stall_s=choice.stall_s)
        )  # fmt: skip
    _check_groups({c.group for c in chosen if c.group}, {_own_group(c, majors) for c in chosen} | {GATEWAY, WORKFLOWS})
    return specs


def policies(groups: Mapping[str, Group], specs: Iterable[ChildSpec]) -> dict[str, Group]:
    """Those of an app's groups that have children among ``specs``."""
    used = {spec.group for spec in specs}
    return {name: group for name, group in groups.items() if name in used}


def rescaled(choice: Choice, components: Iterable[ComponentInfo], name: str, count: int) -> Choice:
    """The choice with ``count`` processes for one component; jobs that share a host share the number of its processes.

    Raises: UsageError for a component that does not run here, or a number that cannot be.
    """
    chosen = _chosen(components, choice)
    if not 0 <= count <= REPLICAS_LIMIT:
        hint = f"a number from 0 to {REPLICAS_LIMIT}"
        raise UsageError(f"{count} processes for {name} cannot be", code="bad_replicas", path="replicas", hint=hint)
    scalable = {c.name: {c.name} for c in chosen}
    for _, jobs in _houses(chosen):
        together = {c.name for c in jobs}
        scalable |= dict.fromkeys((*together, _house_name(jobs)), together)
    if name not in scalable:
        raise _unknown(name, sorted(scalable), "component", "this node has no component {!r} to scale")
    return msgspec.structs.replace(choice, replicas={**choice.replicas, **dict.fromkeys(scalable[name], count)})


# ---- what is chosen


def _check_names(choice: Choice, known: set[str]) -> None:
    asked = (("--only", choice.only), ("--except", choice.without), ("--replicas", tuple(choice.replicas)))
    for option, names in asked:
        for name in names:
            if name not in known:
                raise _unknown(name, sorted(known), option, "the app has no component {!r}")


def _unknown(name: str, known: Sequence[str], path: str, message: str) -> UsageError:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'no components'}"
    return UsageError(message.format(name), code="unknown_component", path=path, hint=hint)


def _chosen(components: Iterable[ComponentInfo], choice: Choice) -> list[ComponentInfo]:
    """In the order of declaration; an app may declare several versions, of one major the last declared serves."""
    chosen = [c for c in components if c.name not in choice.without and (not choice.only or c.name in choice.only)]
    newest = {(c.kind, c.name, c.major): c for c in chosen if c.kind == "tool"}
    return [c for c in chosen if c.kind != "tool" or newest[c.kind, c.name, c.major] is c]


def _check_groups(named: set[str], own: set[str]) -> None:
    """A group of the app must not swallow a component that is not in it. Raises: UsageError."""
    for name in sorted(named & own):
        raise UsageError(
            f"group {name!r} of the app has the name of something that is not in it", code="bad_group", path="groups",
            hint="give the group another name, or put what is called so into it with group=",
        )  # fmt: skip


def _own_group(info: ComponentInfo, majors: Counter[str]) -> str:
    """The group of a component that names none; empty if it does."""
    if info.group:
        return ""
    if info.kind == "tool":
        return _base(info, majors[info.name] > 1)
    return info.name if _lives_alone(info) else HOST


# ---- child specs


def _base(info: ComponentInfo, show_major: bool) -> str:
    return f"{info.name}-v{info.major}" if show_major else info.name


def _tool(target: str, info: ComponentInfo, choice: Choice, show_major: bool) -> list[ChildSpec]:
    base = _base(info, show_major)
    argv = ("tool", target, info.name, str(info.major))
    return [
        _spec(
            f"{base}-{i}", argv, f"{info.name} {info.version}", serves=(info.name,), grace_s=TOOL_GRACE_S,
            group=info.group or base, kind=info.restart, stall_s=info.stall_s, limits=info.limits,
        )
        for i in range(1, choice.replicas.get(info.name, info.replicas) + 1)
    ]  # fmt: skip


def _houses(chosen: Sequence[ComponentInfo]) -> list[tuple[int, list[ComponentInfo]]]:
    """The jobs that live together, with the position of the first: an isolated one and an agent alone, others with
    their group.
    """
    houses: dict[tuple[str, str], tuple[int, list[ComponentInfo]]] = {}
    for position, info in enumerate(chosen):
        if info.kind != "tool":
            key = (info.group, info.name if _lives_alone(info) else "")
            houses.setdefault(key, (position, []))[1].append(info)
    return list(houses.values())


def _lives_alone(info: ComponentInfo) -> bool:
    """An agent has processes of its own, which run many of its jobs each; an isolated job one process for each run."""
    return info.isolated or info.kind == "agent"


def _house_name(jobs: Sequence[ComponentInfo]) -> str:
    first = jobs[0]
    if _lives_alone(first):
        return first.name
    return f"{first.group}-{HOST}" if first.group else HOST


def _host(target: str, jobs: Sequence[ComponentInfo], choice: Choice) -> list[ChildSpec]:
    """Shared hosts run all workflows of their group; an isolated one has processes of its own, one job each."""
    base, names = _house_name(jobs), tuple(sorted({c.name for c in jobs}))
    asked = [choice.replicas[c.name] for c in jobs if c.name in choice.replicas]
    count = max(asked or [c.replicas for c in jobs])
    argv = (HOST, *(("--capacity", "1") if jobs[0].isolated else ()), target, *names)
    return [
        _spec(
            f"{base}-{i}", argv, ", ".join(names), serves=names, grace_s=HOST_GRACE_S, group=jobs[0].group or base,
            kind=_strictest_kind(jobs), stall_s=_strictest_stall_s(jobs, choice),
            limits=strictest(c.limits for c in jobs),
        )
        for i in range(1, count + 1)
    ]  # fmt: skip


def _strictest_kind(jobs: Sequence[ComponentInfo]) -> RestartKind:
    order: tuple[RestartKind, ...] = ("permanent", "transient", "temporary")
    return min((c.restart for c in jobs), key=order.index)


def _strictest_stall_s(jobs: Sequence[ComponentInfo], choice: Choice) -> float:
    """Of those that say something; the others go by the node."""
    return min((c.stall_s for c in jobs if c.stall_s != DEFAULT_STALL_S), default=choice.stall_s)


def _spec(
    name: str, arguments: tuple[str, ...], component: str, *, serves: tuple[str, ...], grace_s: float, group: str,
    kind: RestartKind = "permanent", stall_s: float, limits: Limits = NO_LIMITS,
) -> ChildSpec:  # fmt: skip
    argv = (sys.executable, "-m", "actors.node.process", "--name", name, *arguments)
    return ChildSpec(
        name=name, argv=argv, component=component, serves=serves, grace_s=grace_s, group=group, kind=kind,
        stall_s=stall_s, limits=limits,
    )  # fmt: skip
