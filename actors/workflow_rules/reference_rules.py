"""Rules of reference: each expression is one, names what there is, and only what is through when it is evaluated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from actors.workflow.document import Document, MapStep
from actors.workflow.expression import FUNCTIONS, BadExpression, Expression, Member, parse
from actors.workflow.finding import Fault, did_you_mean
from actors.workflow.outline import Entry, Outline, Scope
from actors.workflow_rules.expression_sites import Site

# What every expression may name: the input, the parameters, the outcomes of steps, the time, and who runs.
VARIABLES = frozenset(("input", "params", "steps", "now", "job"))
OUTCOME = ("output", "status", "error")
# What a map has beside its item.
COUNTED = frozenset(("index", "outputs", "total"))


def reference_faults(
    document: Document, outline: Outline, expressions: Iterable[Site], lost: Iterable[str] = ()
) -> Iterator[Fault]:
    """All faults of a document's expressions; ``lost`` are ids of steps that are broken in themselves."""
    for entry in outline.entries:
        if isinstance(entry.step, MapStep) and entry.step.as_ in VARIABLES | COUNTED:
            message = f"an item cannot be named {entry.step.as_!r}: that is something else already"
            yield Fault("bad_value", (*entry.path, "as"), message, "'item' is free")
    rules = _Rules(document, outline, frozenset(lost))
    for site in expressions:
        yield from rules.check(site)


class _Rules:
    def __init__(self, document: Document, outline: Outline, lost: frozenset[str]) -> None:
        self._outline = outline
        self._lost = lost
        self._members = {"input": _properties(document.input), "params": frozenset(document.params)}
        self._scope_variables: dict[int, frozenset[str]] = {}

    def check(self, site: Site) -> Iterator[Fault]:
        if site.text is None:
            hint = "make the whole value one expression: ${ 'text ' + string(input.x) }"
            yield Fault("bad_expression", site.path, "this is half a text and half an expression", hint)
            return
        found = parse(site.text)
        if isinstance(found, BadExpression):
            yield Fault("bad_expression", site.path, f"this is no CEL expression: {found.message}", found.hint)
            return
        yield from self._names(site, found)
        for member in dict.fromkeys(found.members):
            if member.root in found.variables:
                yield from self._member(site, member)

    def _names(self, site: Site, found: Expression) -> Iterator[Fault]:
        for name in sorted(found.functions - FUNCTIONS) if found.functions else ():
            hint = did_you_mean(name, FUNCTIONS, "CEL has size, has, string, int, double, contains, matches and others")
            yield Fault("unknown_function", site.path, f"there is no function {name!r}", hint)
        unknown = found.variables - VARIABLES
        if not unknown:
            return
        known = VARIABLES | site.variables | self._variables(site)
        for name in sorted(unknown - known):
            hint = f"write steps.{name}.output" if name in self._outline.by_id else did_you_mean(name, known)
            yield Fault("unknown_name", site.path, f"there is nothing named {name!r} here", hint)

    def _variables(self, site: Site) -> frozenset[str]:
        return frozenset() if site.entry is None else site.entry.scope.all_variables

    def _member(self, site: Site, member: Member) -> Iterator[Fault]:
        if member.root == "steps":
            yield from self._step(site, member)
        elif (known := self._members.get(member.root)) is not None and member.name not in known:
            what = "the input" if member.root == "input" else "params"
            hint = did_you_mean(member.name, known, f"declare it in {member.root!r}")
            yield Fault("unknown_name", site.path, f"{what} has no {member.name!r}", hint)

    def _step(self, site: Site, member: Member) -> Iterator[Fault]:
        target = self._outline.by_id.get(member.name)
        if member.name in self._lost:
            return
        if target is None:
            known = self._outline.by_id.keys() - ({site.entry.step.id} if site.entry else set())
            yield Fault(
                "unknown_step", site.path, f"there is no step {member.name!r}", did_you_mean(member.name, known)
            )
            return
        if member.attribute and member.attribute not in OUTCOME:
            hint = did_you_mean(member.attribute, OUTCOME)
            if not hint.startswith("did"):
                hint = f"write steps.{member.name}.output.{member.attribute}"
            yield Fault("unknown_name", site.path, f"a step has no {member.attribute!r}", hint)
        if not _is_visible(site, target, self._outline.top):
            yield _not_before(site, target)


def _properties(schema: dict[str, Any]) -> frozenset[str] | None:
    """The fields of an input, if its schema lists them and leaves no room for others."""
    properties = schema.get("properties")
    others = {"patternProperties", "additionalProperties", "unevaluatedProperties", "allOf", "anyOf", "oneOf", "$ref"}
    is_open = any(schema.get(key) not in (None, False) for key in others)
    return frozenset(properties) if isinstance(properties, dict) and not is_open else None


def _is_visible(site: Site, target: Entry, top: Scope) -> bool:
    """Whether ``target``, or the step that holds it for all to see, is through when the expression is evaluated."""
    places = {id(holder.scope): holder for holder in _seen_as(target)}
    here = site.entry
    if here is None:
        return id(top) in places
    if site.sees_itself and here is target:
        return True
    if site.sees_inner and any(id(inner) in places for inner in here.inner):
        return True
    while here is not None:
        holder = places.get(id(here.scope))
        if holder is not None:
            return here.is_after(holder) or (holder is not here and not here.is_ordered)
        here = here.scope.owner
    return False


def _seen_as(target: Entry) -> Iterator[Entry]:
    """The step, and the steps around it through which it can be seen."""
    entry: Entry | None = target
    while entry is not None:
        yield entry
        entry = entry.scope.owner if entry.scope.is_open else None


def _not_before(site: Site, target: Entry) -> Fault:
    name, here = target.step.id, site.entry
    if here is target:
        return Fault("not_before", site.path, f"step {name!r} refers to itself", "it has no outcome yet")
    closed = next((e for e in _holders(target) if not e.inner[0].is_open and not _is_inside(here, e)), None)
    if closed is not None:
        message = f"step {name!r} runs many times inside of {closed.step.id!r}"
        return Fault("not_before", site.path, message, f"write steps.{closed.step.id}.output")
    hint = f"let what refers to it need {name!r}, at once or by other steps"
    for entry in [] if here is None else [here, *_holders(here)]:
        for holder in [target, *_holders(target)]:
            if holder.scope is entry.scope and holder is not entry:
                is_turned = holder.is_after(entry)
                hint = f"add {holder.step.id!r} to the needs of {entry.step.id!r}"
                hint = (
                    f"{holder.step.id!r} comes after {entry.step.id!r}: turn their needs round" if is_turned else hint
                )
    who = f"step {here.step.id!r}" if here else "the result"
    return Fault("not_before", site.path, f"step {name!r} need not have run before {who}", hint)


def _holders(entry: Entry) -> Iterator[Entry]:
    owner = entry.scope.owner
    while owner is not None:
        yield owner
        owner = owner.scope.owner


def _is_inside(here: Entry | None, holder: Entry) -> bool:
    return here is not None and holder in (here, *_holders(here))
