"""Rules of order: ids, needs, goto, joins, cycles, and steps that are never reached."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from actors.workflow.document import AddStep, Goto, GotoStep, MapStep, ParallelStep, Step, SwitchStep
from actors.workflow.expression import Expression, parse
from actors.workflow.finding import Fault, Path, did_you_mean, path_text
from actors.workflow.outline import Entry, Outline, counts_inside


def order_faults(outline: Outline, lost: Iterable[str] = ()) -> Iterator[Fault]:
    """All faults of order; ``lost`` are ids of steps that are broken in themselves."""
    lost = frozenset(lost)
    yield from _doubles(outline)
    for entry in outline.entries:
        yield from _names(outline, entry, lost)
        yield from _add(outline, entry, lost)
        yield from _completes(entry)
        yield from _join(entry, lost)
        yield from _conditions(entry)
    for cycle in outline.cycles:
        ids = [entry.step.id for entry in cycle]
        way = " -> ".join([*ids, ids[0]])
        hint = "use a loop step, or remove one of these needs"
        yield Fault("cycle", cycle[0].path, f"steps wait for each other: {way}", hint)
    for entry in outline.stuck:
        message = f"step {entry.step.id!r} is never reached: what it needs waits for a cycle"
        yield Fault("unreachable", entry.path, message, "break the cycle")


def _doubles(outline: Outline) -> Iterator[Fault]:
    for entry in outline.doubles:
        other = outline.by_id[entry.step.id]
        free = next(
            f"{entry.step.id[:60]}_{n}" for n in range(2, 10**6) if f"{entry.step.id[:60]}_{n}" not in outline.by_id
        )
        message = f"the id {entry.step.id!r} is taken by the step at {path_text(other.path)}"
        yield Fault("duplicate_id", (*entry.path, "id"), message, f"{free!r} is free")


def _names(outline: Outline, entry: Entry, lost: frozenset[str]) -> Iterator[Fault]:
    for where, name in names_in(entry.step):
        if name not in entry.scope.by_id and name not in lost:
            yield _unknown(outline, entry, (*entry.path, *where), name)


def names_in(step: Step) -> Iterator[tuple[Path, str]]:
    """Steps of the same list that a step names beside those in its expressions, each with its place."""
    yield from ((("needs", number), name) for number, name in enumerate(step.needs))
    yield from ((("cancels", number), name) for number, name in enumerate(step.cancels))
    yield from ((("completes", number), name) for number, name in enumerate(step.completes))
    if step.join is not None and not counts_inside(step):
        yield from ((("join", "of", number), name) for number, name in enumerate(step.join.of))
    if isinstance(step.on_error, Goto):
        yield ("on_error", "goto"), step.on_error.goto
    if isinstance(step, GotoStep):
        yield ("to",), step.to


def _add(outline: Outline, entry: Entry, lost: frozenset[str]) -> Iterator[Fault]:
    """Instances are added to a map that may run just then: one around the step, or one beside it."""
    step = entry.step
    if not isinstance(step, AddStep) or step.to in lost:
        return
    maps, here = dict[str, Entry](), entry
    while True:
        maps |= {other.step.id: other for other in here.scope.entries if isinstance(other.step, MapStep)}
        if here.scope.owner is None:
            break
        here = here.scope.owner
    if step.to not in maps:
        message = f"there is no map {step.to!r} that this step is inside of, or that stands beside it"
        known = [each.step.id for each in outline.entries if isinstance(each.step, MapStep)]
        yield Fault("unknown_step", (*entry.path, "to"), message, did_you_mean(step.to, maps or known))


def _completes(entry: Entry) -> Iterator[Fault]:
    for number, name in enumerate(entry.step.completes):
        other = entry.scope.by_id.get(name)
        if other is not None and not isinstance(other.step, MapStep):
            message = f"step {name!r} is no map, and only maps can be complete with a part of what they do"
            yield Fault("bad_value", (*entry.path, "completes", number), message, f"use 'cancels' to give {name!r} up")


def _unknown(outline: Outline, entry: Entry, path: Path, name: str) -> Fault:
    other = outline.by_id.get(name)
    if other is None:
        known = entry.scope.by_id.keys() - {entry.step.id}
        return Fault("unknown_step", path, f"there is no step {name!r}", did_you_mean(name, known))
    outer: Entry | None = other
    while outer is not None and outer.scope is not entry.scope:
        outer = outer.scope.owner
    hint = "steps of an outer list are through already where this list begins"
    if outer is entry:
        hint = "a step waits for what is inside of it by itself"
    elif outer is not None:
        hint = f"name {outer.step.id!r}, which holds it"
    return Fault("other_list", path, f"step {name!r} is in another list; these are names of the same list", hint)


def _join(entry: Entry, lost: frozenset[str]) -> Iterator[Fault]:
    join, step = entry.step.join, entry.step
    if join is None:
        return
    path: Path = (*entry.path, "join")
    if isinstance(step, ParallelStep):
        for number, name in enumerate(join.of):
            if name not in step.branches:
                hint = did_you_mean(name, step.branches)
                yield Fault("unknown_branch", (*path, "of", number), f"there is no branch {name!r}", hint)
        among, what = set(join.of or step.branches), "branches"
    elif isinstance(step, MapStep):
        if join.of:
            yield Fault("bad_value", (*path, "of"), "the join of a map counts its instances", "leave out 'of'")
        return  # how many items there will be is not known yet
    else:
        among, what = set(join.of), "steps"
        if not among:
            yield Fault("empty_join", path, "this join has nothing to wait for", "name steps in 'of'")
            return
    dead = {name for name in among if (other := entry.scope.by_id.get(name)) and _never_runs(other)} - lost
    yield from _too_many(path, join.n, len(among - dead), what, len(dead))


def _too_many(path: Path, wanted: int | str | None, there_are: int, what: str, dead: int) -> Iterator[Fault]:
    if isinstance(wanted, int) and wanted > there_are:
        never = f" that can run ({dead} never do)" if dead else ""
        message = f"this join can never be met: it waits for {wanted} of {there_are} {what}{never}"
        hint = f"{there_are} at most" if there_are else f"name {what} that can run"
        yield Fault("join_never_met", (*path, "n"), message, hint)


def _never_runs(entry: Entry) -> bool:
    return entry.step.when is not None and _constant(entry.step.when) is False


def _constant(text: str) -> bool | None:
    found = parse(text)
    return found.constant if isinstance(found, Expression) else None


def _conditions(entry: Entry) -> Iterator[Fault]:
    step = entry.step
    if _never_runs(entry):
        message = f"step {step.id!r} is never reached: its condition is false whatever comes"
        yield Fault("unreachable", (*entry.path, "when"), message, "remove the step, or let it depend on something")
    if isinstance(step, SwitchStep):
        yield from _cases(entry, step)


def _cases(entry: Entry, step: SwitchStep) -> Iterator[Fault]:
    is_closed = False
    for number, case in enumerate(step.cases):
        path: Path = (*entry.path, "cases", number)
        if is_closed:
            yield Fault("unreachable", path, "this case is never reached: one before it holds always", "put it first")
        elif _constant(case.when) is False:
            hint = "remove the case, or let it depend on something"
            yield Fault("unreachable", (*path, "when"), "this case is never reached: its condition is false", hint)
        is_closed = is_closed or _constant(case.when) is True
    if is_closed and step.else_:
        message = "'else' is never reached: one of the cases holds always"
        yield Fault("unreachable", (*entry.path, "else"), message, "remove it, or that case")
