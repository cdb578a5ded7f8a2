"""What a file says once all that it extends is taken together: one value, with the place of each part."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import msgspec

from actors.workflow.extension import NO_BASES, PUBLISHED_NAME, Bases
from actors.workflow.finding import Fault, Path
from actors.workflow.layer import Layer, Spotted, give, ids_of
from actors.workflow.origins import Origins, Spot
from actors.workflow.shape import extension_faults
from actors.workflow.source import Source, is_too_deep, read_source
from actors.workflow.yaml_reading import DEPTH_LIMIT

# More than that in a row is a mistake, and each one is a file that is read.
CHAIN_LIMIT = 16
_PUBLISHED = re.compile(PUBLISHED_NAME)


@dataclass
class Merged:
    """``is_whole``: ``value`` is there, with all that is extended. ``removed``: ids of steps, and who removed them."""

    value: Any
    origins: Origins
    is_whole: bool = True
    faults: list[Spotted] = field(default_factory=list)
    removed: dict[str, Spot] = field(default_factory=dict)

    def spot(self, fault: Fault) -> Spot:
        """Where a fault of the value stands: a field that is missing, where it was taken away."""
        if fault.code == "missing_field":
            for name, spot in self.origins.taken_from(self.value, fault.path).items():
                if repr(name) in fault.message:
                    return spot
        return self.origins.spot(self.value, fault.path)


def merge(source: Source, bases: Bases = NO_BASES, params: Mapping[str, Any] | None = None) -> Merged:
    """Read what the source extends, and lay one over the other. ``params`` are values for the parameters of the result.

    Nothing is raised, whatever the files hold.
    """
    merged = _Chain(bases).merge(source)
    if merged.is_whole and params and isinstance(merged.value, dict):
        merged.value = merged.origins.copy(merged.value)
        known, top = merged.value.get("params"), Spot(source, ("params",))
        declared = known if isinstance(known, dict) else {}
        spots = {name: merged.origins.spot(merged.value, ("params", name)) for name in declared}
        merged.faults += give(merged.value, dict(params), merged.origins, {**dict.fromkeys(params, top), **spots})
    if merged.is_whole and merged.value is not source.value and is_too_deep(merged.value):
        fault = Fault("syntax", (), f"nested more than {DEPTH_LIMIT} deep")
        return _broken(source, fault)
    return merged


def is_extension(value: Any) -> bool:
    """Whether a file's value is no document by itself."""
    return isinstance(value, dict) and "extends" in value


class _Chain:
    def __init__(self, bases: Bases) -> None:
        self._bases = bases
        # Names of the documents from the one that is asked for to the one that is being read.
        self._names: list[str] = []

    def merge(self, source: Source) -> Merged:
        top = Spot(source, ())
        if source.fault is not None:
            return _broken(source, source.fault)
        doubtful = [Spotted(top.within(*fault.path), fault) for fault in source.doubtful]
        if not is_extension(source.value):
            return Merged(source.value, Origins(top), faults=doubtful)
        faults = [
            Spotted(top.within(*fault.path), fault)
            for fault in extension_faults(source.value)
            if fault.path[:1] != ("extends",) or fault.code == "unknown_field"
        ]
        merged = self._extended(source)
        merged.faults += doubtful + faults
        return merged

    def _extended(self, source: Source) -> Merged:
        self._names.append(os.path.normpath(source.file))
        base = self._base(source, source.value["extends"])
        if isinstance(base, Fault):
            return _broken(source, base)
        merged = self.merge(base)
        if not merged.is_whole:
            return merged
        if not isinstance(merged.value, dict):
            fault = Fault(
                "not_a_workflow", (), "this is extended, and is no mapping", "begin with name, version and steps"
            )
            return _broken(base, fault)
        layer = Layer(source.value, Spot(source, ()), merged.origins)
        merged.value = layer.over(merged.value, merged.origins.spot(None, ()))
        left = {name for name, _ in ids_of(merged.value)}
        merged.removed = {name: spot for name, spot in {**merged.removed, **layer.removed}.items() if name not in left}
        merged.faults += layer.faults
        return merged

    def _base(self, source: Source, extends: Any) -> Source | Fault:
        path: Path = ("extends",)
        if isinstance(extends, dict) and isinstance(said := extends.get("file"), str):
            name, path = os.path.normpath(str(PurePath(source.file).parent / said)), ("extends", "file")
        elif isinstance(extends, str) and _PUBLISHED.fullmatch(extends):
            name = extends
        else:
            hint = "write name@version of a published one, or {file: base.yaml}"
            return Fault("bad_value", path, "this names no document", hint)
        if name in self._names:
            way = " -> ".join([*self._names[self._names.index(name) :], name])
            return Fault("extends_cycle", path, f"documents extend each other: {way}", "let one stand by itself")
        if len(self._names) > CHAIN_LIMIT:
            return Fault("extends_cycle", path, f"more than {CHAIN_LIMIT} documents extend each other in a row")
        return self._file(name, extends["file"]) if isinstance(extends, dict) else self._published(name)

    def _file(self, name: str, said: str) -> Source | Fault:
        path = ("extends", "file")
        if PurePath(said).is_absolute():
            return Fault("unknown_base", path, f"{said} begins at the root", "name it from this file's folder")
        if self._bases.read is None:
            return Fault("unknown_base", path, "other files cannot be read here", "extend a published definition")
        try:
            return read_source(name, self._bases.read(name))
        except (OSError, ValueError) as error:
            reason = (getattr(error, "strerror", None) or str(error)).lower()
            return Fault("unknown_base", path, f"{name} cannot be read: {reason}", "name it from this file's folder")

    def _published(self, ref: str) -> Source | Fault:
        if self._bases.published is None:
            hint = "extend a file, or ask where published ones are known (not --offline)"
            return Fault("unknown_base", ("extends",), f"no published definitions are known here, nor is {ref!r}", hint)
        name, _, version = ref.partition("@")
        found = self._bases.published(name, version)
        if isinstance(found, Fault):
            return Fault(found.code, ("extends",), found.message, found.hint)
        raw = msgspec.json.format(msgspec.json.encode(found))
        return read_source(ref, raw, "json")


def _broken(source: Source, fault: Fault) -> Merged:
    top = Spot(source, ())
    return Merged(None, Origins(top), is_whole=False, faults=[Spotted(top.within(*fault.path), fault)])
