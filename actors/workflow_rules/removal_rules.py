"""Rules of removal: nobody needs, or speaks of, a step that an extension has removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from actors.workflow.document import AddStep
from actors.workflow.expression import Expression, parse
from actors.workflow.finding import Fault
from actors.workflow.layer import Spotted
from actors.workflow.origins import Spot
from actors.workflow.outline import Outline
from actors.workflow_rules.expression_sites import Site
from actors.workflow_rules.order_rules import names_in


def removal_faults(outline: Outline, expressions: Iterable[Site], removed: Mapping[str, Spot]) -> Iterator[Spotted]:
    """A fault, where the step was removed, for each other one that is left without it."""
    if not removed:
        return
    told: set[tuple[str, str]] = set()
    for name, who, what in _mentions(outline, expressions):
        if name in removed and (name, who) not in told:
            told.add((name, who))
            spot = removed[name]
            message = f"{who} needs step {name!r}, which is removed with this"
            yield Spotted(spot, Fault("removed_step", spot.path, message, f"override {what} too, or keep the step"))


def _mentions(outline: Outline, expressions: Iterable[Site]) -> Iterator[tuple[str, str, str]]:
    """(name of a step, who names it, in which field)."""
    for entry in outline.entries:
        for path, name in names_in(entry.step):
            yield name, f"step {entry.step.id!r}", f"its {path[0]!r}"
        if isinstance(entry.step, AddStep):
            yield entry.step.to, f"step {entry.step.id!r}", "its 'to'"
    for site in expressions:
        found = parse(site.text) if site.text is not None else None
        if isinstance(found, Expression):
            who = "the result" if site.entry is None else f"step {site.entry.step.id!r}"
            what = "it" if site.entry is None else f"its {site.path[len(site.entry.path)]!r}"
            yield from ((member.name, who, what) for member in found.members if member.root == "steps")
