"""The steps of a document as a tree of lists: where each stands, and which steps are through before it.

``needs``, a join and ``goto`` order the steps of one list. A step within another one comes after all that the outer one
comes after. So for each list one pass in order is enough; what is before a step is kept as the bits of a number, which
makes 1,000 steps in a row cost a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from actors.workflow.document import (
    Document,
    Goto,
    GotoStep,
    LoopStep,
    MapStep,
    ParallelStep,
    Step,
    SwitchStep,
)
from actors.workflow.finding import Path


@dataclass(eq=False, slots=True)
class Scope:
    """One list of steps. ``is_open``: who comes after the owner may refer to them, since each has run once at most."""

    path: Path
    owner: Entry | None
    is_open: bool
    variables: frozenset[str] = frozenset()
    entries: list[Entry] = field(default_factory=list)
    by_id: dict[str, Entry] = field(default_factory=dict)

    @property
    def all_variables(self) -> frozenset[str]:
        """Those of this list and of all around it."""
        return self.variables if self.owner is None else self.variables | self.owner.scope.all_variables


@dataclass(eq=False, slots=True)
class Entry:
    """A step and its place. ``before``: bits of those in the same list that are through when it starts."""

    step: Step
    path: Path
    scope: Scope
    number: int
    inner: list[Scope] = field(default_factory=list)
    comes_after: list[Entry] = field(default_factory=list)
    before: int = 0
    # Not so if it is in a cycle or waits for one: then nothing can be said about what is before it.
    is_ordered: bool = True
    # Some step goes on at this one, which is not before it.
    is_gone_to: bool = False

    def is_after(self, other: Entry) -> bool:
        """Whether ``other``, of the same list, is through when this one starts."""
        return bool(self.before >> other.number & 1)


@dataclass(eq=False)
class Outline:
    """All steps of a document. ``cycles`` and ``stuck`` are found while they are ordered."""

    top: Scope
    entries: list[Entry] = field(default_factory=list)
    by_id: dict[str, Entry] = field(default_factory=dict)
    doubles: list[Entry] = field(default_factory=list)
    cycles: list[list[Entry]] = field(default_factory=list)
    # Those that wait for a cycle.
    stuck: list[Entry] = field(default_factory=list)


def outline(document: Document) -> Outline:
    """Lay a document out."""
    found = Outline(Scope(("steps",), None, is_open=True))
    for scope in _fill(found, found.top, document.steps):
        _link(scope)
        _order(found, scope)
    return found


def _fill(found: Outline, scope: Scope, steps: tuple[Step, ...]) -> Iterator[Scope]:
    for number, step in enumerate(steps):
        entry = Entry(step, (*scope.path, number), scope, number)
        scope.entries.append(entry)
        scope.by_id.setdefault(step.id, entry)
        found.entries.append(entry)
        if found.by_id.setdefault(step.id, entry) is not entry:
            found.doubles.append(entry)
        for inner, inner_steps in _inner(entry):
            entry.inner.append(inner)
            yield from _fill(found, inner, inner_steps)
    yield scope


def _inner(entry: Entry) -> Iterator[tuple[Scope, tuple[Step, ...]]]:
    path, step = entry.path, entry.step
    match step:
        case MapStep():
            yield Scope((*path, "steps"), entry, False, frozenset((step.as_, "index"))), step.steps
        case LoopStep():
            yield Scope((*path, "steps"), entry, False, frozenset(("round", "last"))), step.steps
        case SwitchStep():
            for number, case in enumerate(step.cases):
                yield Scope((*path, "cases", number, "steps"), entry, True), case.steps
            if step.else_:
                yield Scope((*path, "else"), entry, True), step.else_
        case ParallelStep():
            for name, steps in step.branches.items():
                yield Scope((*path, "branches", name), entry, True), steps
        case _:
            return


def _link(scope: Scope) -> None:
    """Who comes after whom. Names that are not in the list are another rule's."""
    for entry in scope.entries:
        step = entry.step
        names = [*step.needs]
        if step.join is not None and not counts_inside(step):
            names += step.join.of
        entry.comes_after += [scope.by_id[name] for name in names if name in scope.by_id]
    for entry in scope.entries:
        for name in goes_to(entry.step):
            target = scope.by_id.get(name)
            if target is not None and not _is_before(target, entry):
                target.comes_after.append(entry)
                target.is_gone_to = True


def counts_inside(step: Step) -> bool:
    """Whether its join counts what runs inside of it, and not steps of its list."""
    return isinstance(step, ParallelStep | MapStep)


def goes_to(step: Step) -> Iterator[str]:
    """Where a step may go on, beside what needs it."""
    if isinstance(step.on_error, Goto):
        yield step.on_error.goto
    if isinstance(step, GotoStep):
        yield step.to


def _is_before(target: Entry, entry: Entry) -> bool:
    """Whether ``entry`` waits for ``target``, or is it: to go there is to go back."""
    seen, walk = set[int](), [entry]
    while walk:
        here = walk.pop()
        if here is target:
            return True
        if here.number not in seen:
            seen.add(here.number)
            walk += here.comes_after
    return False


def _order(found: Outline, scope: Scope) -> None:
    waits = {entry.number: len(entry.comes_after) for entry in scope.entries}
    followers: dict[int, list[Entry]] = {}
    for entry in scope.entries:
        for other in entry.comes_after:
            followers.setdefault(other.number, []).append(entry)
    ready = [entry for entry in scope.entries if not entry.comes_after]
    while ready:
        entry = ready.pop()
        del waits[entry.number]
        for follower in followers.get(entry.number, ()):
            follower.before |= entry.before | 1 << entry.number
            waits[follower.number] -= 1
            if not waits[follower.number]:
                ready.append(follower)
    if waits:
        _blame(found, [entry for entry in scope.entries if entry.number in waits])


def _blame(found: Outline, left: list[Entry]) -> None:
    """Each cycle once; whoever else is left waits for one."""
    for entry in left:
        entry.is_ordered = False
    waiting, seen, in_cycles = {entry.number for entry in left}, set[int](), set[int]()
    for start in left:
        walk: list[Entry] = []
        entry = start
        while entry.number not in seen:
            seen.add(entry.number)
            walk.append(entry)
            entry = next(other for other in entry.comes_after if other.number in waiting)
        if entry in walk:
            cycle = walk[walk.index(entry) :]
            found.cycles.append(cycle)
            in_cycles |= {each.number for each in cycle}
    found.stuck += [entry for entry in left if entry.number not in in_cycles]
