"""One extension laid over the value of its base: fields merged, steps removed, changed and added, by id at any depth.

Only plain values are handled here, and any may be wrong: what is no step stays where it is, for the rules of shape.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from actors.workflow.extension import MERGED_FIELDS
from actors.workflow.finding import Fault, did_you_mean
from actors.workflow.origins import Origins, Spot

_PLACES = ("after", "before")


class Spotted(NamedTuple):
    """A fault, and where it stands."""

    spot: Spot
    fault: Fault


class _Step(NamedTuple):
    """One on its way into a list; ``is_open``: those before it are there already."""

    value: Any
    spot: Spot
    is_new: bool
    is_open: bool = False

    @property
    def name(self) -> str:
        return _id(self.value)


class Layer:
    """An extension. ``faults`` and ``removed`` (ids, and where it was said) are filled by :meth:`over`."""

    def __init__(self, extension: dict[str, Any], spot: Spot, origins: Origins) -> None:
        self.faults: list[Spotted] = []
        self.removed: dict[str, Spot] = {}
        self._own = extension
        self._spot = spot
        self._origins = origins
        removals = extension.get("remove")
        named = enumerate(removals if isinstance(removals, list) else ())
        self._remove = {name: spot.within("remove", number) for number, name in named if isinstance(name, str)}
        self._override = {name: change for name, change in _mapping(extension, "override").items()
                          if isinstance(change, dict)}  # fmt: skip
        self._new: dict[str, dict[str, list[_Step]]] = {place: {} for place in _PLACES}
        self._appended: list[_Step] = []
        self._applied: set[str] = set()

    def over(self, base: dict[str, Any], spot: Spot) -> dict[str, Any]:
        """The base as the extension wants it; ``base`` was written at ``spot``."""
        fields = {name: self._own[name] for name in MERGED_FIELDS if name in self._own}
        value = self._origins.patch(base, fields, self._spot)
        self._params(value)
        known = {name for name, _ in ids_of(base)}
        self._sort_new(known)
        steps = base.get("steps", [] if self._appended else None)
        if isinstance(steps, list):
            place = self._origins.of(base, "steps", spot) if "steps" in base else self._spot.within("steps")
            self._origins.mark(value, "steps", place)
            self._fill(value, "steps", steps, place, self._appended)
        self._leftovers(known)
        return value

    def _fault(self, code: str, spot: Spot, message: str, hint: str = "") -> None:
        self.faults.append(Spotted(spot, Fault(code, spot.path, message, hint)))

    # ---- parameters

    def _params(self, value: dict[str, Any]) -> None:
        if declared := _mapping(self._own, "declare"):
            if not isinstance(value.get("params"), dict):
                self._origins.mark(value, "params", self._spot.within("declare"))
            value["params"] = self._origins.patch(value.get("params"), declared, self._spot.within("declare"))
        spot = self._spot.within("params")
        given = _mapping(self._own, "params")
        self.faults += give(value, given, self._origins, {name: spot.within(name) for name in given})

    # ---- steps

    def _sort_new(self, known: set[str]) -> None:
        """New steps by where they are to be put."""
        steps = self._own.get("steps")
        for number, value in enumerate(steps if isinstance(steps, list) else ()):
            spot = self._spot.within("steps", number)
            if not isinstance(value, dict):
                continue  # the rules of shape have told it
            if (name := _id(value)) in known and name not in self._remove:
                hint = f"to change it write override: {{{name}: ...}}, or remove it first"
                self._fault("duplicate_id", spot.within("id"), f"the base has a step {name!r} already", hint)
                continue
            step = _Step({key: inner for key, inner in value.items() if key not in _PLACES}, spot, is_new=True)
            self._sort(step, {place: value[place] for place in _PLACES if place in value})

    def _sort(self, step: _Step, places: dict[str, Any]) -> None:
        if len(places) > 1:
            self._fault("bad_value", step.spot.within("before"), "a step is put after or before one, not both")
        for place, anchor in places.items():
            if isinstance(anchor, str):
                self._new[place].setdefault(anchor, []).append(step)
                return
            self._fault("bad_value", step.spot.within(place), f"{place!r} is the id of a step")
        self._appended.append(step)

    def _fill(self, holder: Any, key: str | int, steps: list[Any], spot: Spot, more: list[_Step] | None = None,
              is_new: bool = False) -> None:  # fmt: skip
        """Put ``steps`` (written at ``spot``) as they are to be, and ``more`` after them, into ``holder``."""
        filled = self._origins.made([])
        for number, value in enumerate(steps):
            self._put(filled, _Step(value, self._origins.of(steps, number, spot), is_new))
        for step in more or ():
            self._put(filled, step)
        holder[key] = filled
        if steps and not filled:
            self._origins.mark(holder, key, list(self.removed.values())[-1])

    def _put(self, filled: list[Any], first: _Step) -> None:
        # A stack and not calls: a thousand steps may each be put after the one before.
        waiting = [first]
        while waiting:
            step = waiting.pop()
            if not step.is_new and step.name in self._remove:
                self._take_away(step)
            elif not step.is_open:
                waiting.append(step._replace(is_open=True))
                waiting += reversed(self._new["before"].pop(step.name, ()))
            else:
                self._origins.mark(filled, len(filled), step.spot)
                filled.append(self._changed(step))
                waiting += reversed(self._new["after"].pop(step.name, ()))

    def _take_away(self, step: _Step) -> None:
        for name in (step.name, *(name for name, _ in ids_of(step.value))):
            self.removed.setdefault(name, self._remove[step.name])

    def _changed(self, step: _Step) -> Any:
        if not isinstance(step.value, dict):
            return step.value
        value = self._inside(step)
        if step.is_new or step.name not in self._override:
            return value
        self._applied.add(step.name)
        change, spot = self._override[step.name], self._spot.within("override", step.name)
        if "id" in change and change["id"] != step.name:
            self._fault("bad_value", spot.within("id"), "an id cannot be changed", "remove the step, and add another")
            change = {key: inner for key, inner in change.items() if key != "id"}
        return self._origins.patch(value, change, spot)

    def _inside(self, step: _Step) -> Any:
        """The step with the lists inside of it as they are to be."""
        value, copy = step.value, self._origins.copy
        changed = None
        for path in paths_of_lists(value):
            changed = changed or copy(value)
            holder, before, spot = changed, value, step.spot
            for key in path[:-1]:
                spot = self._origins.of(before, key, spot)
                before = before[key]
                if holder[key] is before:
                    holder[key] = copy(before)
                holder = holder[key]
            self._fill(holder, path[-1], before[path[-1]], self._origins.of(before, path[-1], spot), None, step.is_new)
        return changed or value

    # ---- what was said of steps that are not there

    def _leftovers(self, known: set[str]) -> None:
        for name, spot in self._remove.items():
            if name not in self.removed:
                self._unknown(name, spot, known)
        for name in self._override.keys() - self._applied:
            self._unknown(name, self._spot.within("override", name), known)
        for place, by_anchor in self._new.items():
            for anchor, steps in by_anchor.items():
                for step in steps:
                    self._unknown(anchor, step.spot.within(place), known)

    def _unknown(self, name: str, spot: Spot, known: set[str]) -> None:
        own = {new for new, _ in ids_of(self._own)}
        if name in self.removed:
            self._fault("unknown_step", spot, f"step {name!r} is removed here", "do one of the two")
        elif name in own and spot.path[-1] in _PLACES:
            self._fault("unknown_step", spot, f"step {name!r} has no place itself", "put one of them beside another")
        elif name in own:
            self._fault("unknown_step", spot, f"step {name!r} is new here", "write it where the step is added")
        else:
            hint = did_you_mean(name, known - self.removed.keys(), "the base has no steps")
            self._fault("unknown_step", spot, f"the base has no step {name!r}", hint)


def give(value: dict[str, Any], given: dict[str, Any], origins: Origins, spots: dict[str, Spot]) -> Iterator[Spotted]:
    """Make values the defaults of a document's parameters; ``value`` is one that ``origins`` has made."""
    params = value.get("params")
    if given and isinstance(params, dict):
        value["params"] = params = origins.copy(params)
    for name, default in given.items():
        known = params if isinstance(params, dict) else {}
        if isinstance(known.get(name), dict):
            known[name] = origins.copy(known[name])
            known[name]["default"] = default
            origins.mark(known[name], "default", spots[name])
        elif name not in known:
            hint = did_you_mean(name, known, "it has none")
            yield Spotted(
                spots[name], Fault("unknown_param", spots[name].path, f"there is no parameter {name!r}", hint)
            )


def ids_of(value: Any) -> Iterator[tuple[str, Any]]:
    """All steps that have an id, in the lists of a document or of a step."""
    for path in paths_of_lists(value):
        steps = value
        for key in path:
            steps = steps[key]
        for step in steps:
            if name := _id(step):
                yield name, step
            yield from ids_of(step)


def paths_of_lists(value: Any) -> Iterator[tuple[str | int, ...]]:
    """Where lists of steps are in a document or a step."""
    if not isinstance(value, dict):
        return
    for key in ("steps", "else"):
        if isinstance(value.get(key), list):
            yield (key,)
    cases, branches = value.get("cases"), value.get("branches")
    for number, case in enumerate(cases if isinstance(cases, list) else ()):
        if isinstance(case, dict) and isinstance(case.get("steps"), list):
            yield ("cases", number, "steps")
    for name, steps in branches.items() if isinstance(branches, dict) else ():
        if isinstance(steps, list):
            yield ("branches", name)


def _id(value: Any) -> str:
    name = value.get("id") if isinstance(value, dict) else None
    return name if isinstance(name, str) else ""


def _mapping(value: dict[str, Any], key: str) -> dict[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}
