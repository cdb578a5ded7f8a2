"""Which asset fills which parameter, and in which order assets are loaded. Pure.

A parameter means the asset of its name; if there is none, the only one that provides its type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from actors.assets.definition import AssetDefinition, Need
from actors.components.signature import type_text
from bus.errors import UsageError

# Asset to {parameter: asset that fills it}.
Wires = Mapping[str, Mapping[str, str]]


def wire(assets: Mapping[str, AssetDefinition]) -> dict[str, dict[str, str]]:
    """What fills the parameters of every asset. Raises: UsageError for what nothing fills, or a cycle."""
    wires = {name: fill(assets, asset.needs, asset.label) for name, asset in assets.items()}
    check_cycles(wires)
    return wires


def wire_known(assets: Mapping[str, AssetDefinition]) -> dict[str, dict[str, str]]:
    """The same, as far as it can be told while an app is still being declared. Raises: UsageError for a cycle."""
    wires = {
        name: {n.parameter: found for n in asset.needs if (found := find(assets, n)) is not None}
        for name, asset in assets.items()
    }
    check_cycles(wires)
    return wires


def fill(assets: Mapping[str, AssetDefinition], needs: Iterable[Need], label: str) -> dict[str, str]:
    """Each parameter with the asset that fills it. Raises: UsageError."""
    filled: dict[str, str] = {}
    for need in needs:
        name = find(assets, need)
        if name is None:
            raise _nothing_fills(assets, need, label)
        if not _may_be(assets[name].provides, need.type):
            raise UsageError(
                f"{label}, parameter {need.parameter!r}: asset {name} is a {type_text(assets[name].provides)}, "
                f"not a {type_text(need.type)}", code="wrong_asset", path=need.parameter,
                hint="annotate it with what the asset is, or name another asset",
            )  # fmt: skip
        filled[need.parameter] = name
    return filled


def find(assets: Mapping[str, AssetDefinition], need: Need) -> str | None:
    """The asset that a parameter means, None if there is none."""
    if need.parameter in assets:
        return need.parameter
    fitting = _fitting(assets, need)
    return fitting[0] if len(fitting) == 1 else None


def check_cycles(wires: Wires) -> None:
    """Raises: UsageError that shows the first cycle."""
    if cycle := find_cycle(wires):
        raise UsageError(
            f"assets need each other: {' -> '.join(cycle)}", code="asset_cycle", path=cycle[0],
            hint="one of them has to do without the next",
        )  # fmt: skip


def find_cycle(wires: Wires) -> list[str]:
    """The first cycle, with its beginning at both ends; empty if there is none."""
    done: set[str] = set()
    for start in wires:
        path: list[str] = []
        rests = [iter([start])]
        while rests:
            name = next(rests[-1], None)
            if name is None:
                rests.pop()
                if path:
                    done.add(path.pop())
            elif name in path:
                return [*path[path.index(name) :], name]
            elif name not in done:
                path.append(name)
                rests.append(iter(wires.get(name, {}).values()))
    return []


def load_order(wires: Wires, names: Iterable[str]) -> list[str]:
    """These and all that they need, what is needed first. ``wires`` have no cycle."""
    order: dict[str, None] = {}

    def visit(name: str) -> None:
        if name not in order:
            for needed in wires[name].values():
                visit(needed)
            order[name] = None

    for name in names:
        visit(name)
    return list(order)


def dependents(wires: Wires, name: str, order: Iterable[str]) -> list[str]:
    """Of ``order``, a load order, this asset and all that stand on it."""
    found: dict[str, None] = {}
    for other in order:
        if other == name or any(needed in found for needed in wires[other].values()):
            found[other] = None
    return list(found)


def _fitting(assets: Mapping[str, AssetDefinition], need: Need) -> list[str]:
    if need.type is Any:
        return []
    return [name for name, asset in assets.items() if asset.provides is not Any and _is(asset.provides, need.type)]


def _is(provided: Any, wanted: Any) -> bool:
    if isinstance(provided, type) and isinstance(wanted, type):
        try:
            return issubclass(provided, wanted)
        except TypeError:  # a Protocol that is not for runtime
            return False
    return bool(provided == wanted)


def _may_be(provided: Any, wanted: Any) -> bool:
    """Only of two plain classes it can be told that one is not the other."""
    try:
        return not (isinstance(provided, type) and isinstance(wanted, type)) or issubclass(provided, wanted)
    except TypeError:
        return True


def _nothing_fills(assets: Mapping[str, AssetDefinition], need: Need, label: str) -> UsageError:
    several = _fitting(assets, need)
    if several:
        reason = f"several assets are a {type_text(need.type)}: {', '.join(several)}"
        hint = "call the parameter as the one that is meant"
    else:
        close = difflib.get_close_matches(need.parameter, list(assets), n=1)
        reason = "no asset of the app has this name" + ("" if need.type is Any else ", or alone this type")
        hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(assets) or 'none'}"
    return UsageError(f"{label}, parameter {need.parameter!r}: {reason}", code="unknown_asset", path=need.parameter,
                      hint=hint)  # fmt: skip
