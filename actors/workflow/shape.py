"""From plain values to a document, with every fault of shape at once.

msgspec says the first fault only. So what it takes needs no second look, and what it does not take is walked along the
types: each part that is wrong is told and left out, and the rest becomes a document, so that the other rules can speak
about it in the same run.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any

import msgspec

from actors.workflow.document import Document, Step, StepBase
from actors.workflow.extension import Extension
from actors.workflow.finding import Fault, Path, clip, did_you_mean
from bus.errors import UsageError

_AT = re.compile(r" - at `(?:key in )?[^`]*`$")
_KINDS: dict[str, type[StepBase]] = {str(cls.__struct_config__.tag): cls for cls in typing.get_args(Step)}
_PLACEHOLDERS = {"name": "unnamed", "version": "0.0.0"}
_WRONG: Any = object()
_WRITE = {
    "str": "write a text", "bool": "write true or false", "int": "write a whole number", "float": "write a number",
    "array": "write a list",
}  # fmt: skip


@dataclass
class Shaped:
    """``document`` is None if nothing can be made of it. ``lost`` are ids of steps that are not in it for a fault."""

    document: Document | None
    faults: list[Fault] = field(default_factory=list)
    lost: set[str] = field(default_factory=set)


def shape(value: Any) -> Shaped:
    """Make a document of plain values. Nothing is raised, whatever they are."""
    try:
        return Shaped(msgspec.convert(value, Document))
    except (msgspec.ValidationError, RecursionError):
        shaped = Shaped(None)
    try:
        mended = _Walk(shaped).document(value)
        shaped.document = None if mended is _WRONG else msgspec.convert(mended, Document)
    except RecursionError:
        shaped.faults.append(Fault("bad_value", (), "nested too deeply"))
    except msgspec.ValidationError as error:
        # The walk has missed what msgspec saw: say it in msgspec's words rather than not at all.
        if not shaped.faults:
            shaped.faults.append(Fault("bad_value", (), _words(error)))
    return shaped


def extension_faults(value: dict[str, Any]) -> list[Fault]:
    """What is wrong with the shape of what extends another document; of its steps, once they are put there."""
    shaped = Shaped(None)
    try:
        _Walk(shaped).extension(value)
    except RecursionError:
        shaped.faults.append(Fault("bad_value", (), "nested too deeply"))
    return shaped.faults


class _Walk:
    """Goes along types and values. Each method gives the value without what is wrong in it, or ``_WRONG``."""

    def __init__(self, shaped: Shaped) -> None:
        self._shaped = shaped

    def document(self, value: Any) -> Any:
        if not isinstance(value, dict):
            hint = "begin with name, version and steps"
            return self._wrong("not_a_workflow", (), f"a workflow is a mapping, this is {_a(value)}", hint)
        return self._struct(Document, value, ())

    def extension(self, value: dict[str, Any]) -> Any:
        return self._struct(Extension, value, ())

    def _wrong(self, code: str, path: Path, message: str, hint: str = "") -> Any:
        self._shaped.faults.append(Fault(code, path, clip(message), hint))
        return _WRONG

    def _any(self, kind: Any, value: Any, path: Path) -> Any:
        plain = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
        origin = typing.get_origin(plain)
        if origin in (types.UnionType, typing.Union):
            structs = [each for each in typing.get_args(plain) if _is_struct(each)]
            if len(structs) > 1:
                return self._step(value, path)
            if structs and isinstance(value, dict):
                return self._struct(structs[0], value, path)
        elif _is_struct(plain):
            if isinstance(value, dict):
                return self._struct(plain, value, path)
        elif origin is tuple and isinstance(value, list):
            return self._list(kind, typing.get_args(plain)[0], value, path)
        elif origin is dict and isinstance(value, dict) and typing.get_args(plain)[1] is not Any:
            return self._dict(kind, typing.get_args(plain), value, path)
        return self._leaf(kind, value, path)

    def _leaf(self, kind: Any, value: Any, path: Path) -> Any:
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError as error:
            is_unquoted = isinstance(value, int | float) and re.search(r"`str( \| null)?`, got", str(error))
            hint = "put it in quotes" if is_unquoted else _nearest(kind, str(error))
            if isinstance(value, str) and (words := _literals(kind)):
                return self._wrong("bad_value", path, f"{value!r} cannot be", did_you_mean(value, words))
            return self._wrong("bad_value", path, _words(error), hint)
        return value

    def _list(self, kind: Any, item: Any, values: list[Any], path: Path) -> Any:
        found = [self._any(item, value, (*path, number)) for number, value in enumerate(values)]
        kept = [value for value in found if value is not _WRONG]
        if not values:
            return self._leaf(kind, values, path)
        return kept or _WRONG

    def _dict(self, kind: Any, of: tuple[Any, ...], values: dict[str, Any], path: Path) -> Any:
        if not values:
            return self._leaf(kind, values, path)
        kept = {}
        for key, value in values.items():
            good = self._leaf(of[0], key, (*path, key)) is not _WRONG
            found = self._any(of[1], value, (*path, key))
            if good and found is not _WRONG:
                kept[key] = found
        return kept or _WRONG

    def _struct(self, cls: Any, values: dict[str, Any], path: Path) -> Any:
        kept, missing = self._fields(cls, values, path)
        if cls is Document:
            kept = {**{name: _PLACEHOLDERS[name] for name in missing if name in _PLACEHOLDERS}, **kept}
        if not missing <= kept.keys():
            return _WRONG
        return self._sound(cls, kept, path) if hasattr(cls, "__post_init__") else kept

    def _sound(self, cls: Any, kept: dict[str, Any], path: Path) -> Any:
        """What has fields of the right types may still be refused by its type as a whole."""
        try:
            msgspec.convert(kept, cls)
        except msgspec.ValidationError as error:
            reason = error.__cause__
            if isinstance(reason, UsageError):
                where = (*path, reason.path) if reason.path in kept else path
                return self._wrong("bad_value", where, str(reason.args[0]), reason.hint)
            return self._wrong("bad_value", path, _words(error))
        return kept

    def _fields(self, cls: Any, values: dict[str, Any], path: Path) -> tuple[dict[str, Any], frozenset[str]]:
        """The fields that are right, and the names of those that have to be and are not."""
        fields, kept = _fields(cls), dict[str, Any]()
        for key, value in values.items():
            if key not in fields:
                self._wrong("unknown_field", (*path, key), f"there is no field {key!r} here", did_you_mean(key, fields))
            elif (found := self._any(fields[key], value, (*path, key))) is not _WRONG:
                kept[key] = found
        for name in sorted(_required(cls) - values.keys()):
            self._wrong("missing_field", path, f"the field {name!r} is missing", _nearest_unknown(name, values, fields))
        return kept, _required(cls) - kept.keys()

    def _step(self, value: Any, path: Path) -> Any:
        if not isinstance(value, dict):
            return self._wrong("bad_value", path, f"a step is a mapping, this is {_a(value)}", "give it id and kind")
        values = dict(value)
        kind = values.pop("kind", None)
        if isinstance(kind, str) and kind in _KINDS:
            kept, missing = self._fields(_KINDS[kind], values, path)
            return self._stand_in(value, kept) if missing else {"kind": kind, **kept}
        if "kind" not in value:
            self._wrong("missing_field", path, "the field 'kind' is missing", f"one of {', '.join(_KINDS)}")
        else:
            hint = did_you_mean(kind, _KINDS, f"one of {', '.join(_KINDS)}")
            self._wrong("unknown_kind", (*path, "kind"), f"there is no kind of step {kind!r}", hint)
        common = _fields(StepBase)
        kept, _ = self._fields(StepBase, {key: inner for key, inner in values.items() if key in common}, path)
        return self._stand_in(value, kept)

    def _stand_in(self, value: dict[str, Any], kept: dict[str, Any]) -> Any:
        """A step that keeps the place of a broken one, so that nobody is told that what needs it is wrong."""
        self._shaped.lost |= set(_ids(value))
        common = {name: kept[name] for name in _fields(StepBase) if name in kept}
        return {**common, "kind": "set", "values": {}} if "id" in common else _WRONG


def _ids(value: Any) -> typing.Iterator[str]:
    if isinstance(value, dict):
        if isinstance(name := value.get("id"), str):
            yield name
        for inner in value.values():
            yield from _ids(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _ids(inner)


@lru_cache
def _fields(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    names = zip(cls.__struct_encode_fields__, cls.__struct_fields__, strict=True)
    return {wire: hints[name] for wire, name in names}


@lru_cache
def _required(cls: Any) -> frozenset[str]:
    return frozenset(each.encode_name for each in msgspec.structs.fields(cls) if each.required)


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _literals(kind: Any) -> list[str]:
    """The words that may stand here, if words it has to be."""
    parts = [kind, *typing.get_args(kind)]
    return [str(word) for part in parts if typing.get_origin(part) is typing.Literal for word in typing.get_args(part)]


def _nearest_unknown(name: str, values: dict[str, Any], fields: dict[str, Any]) -> str:
    near = difflib.get_close_matches(name, [key for key in values if key not in fields], n=1)
    return f"is it the one that is written {near[0]!r}?" if near else ""


def _nearest(kind: Any, message: str) -> str:
    """What would be right, where msgspec has said only what is not."""
    if found := re.search(r"of length >= (\d+)", message):
        return f"give it {found[1]} at least"
    if found := re.search(r"`(?:int|float)` (>=?) ([\d.]+)", message):
        least = found[2].removesuffix(".0")
        return f"write a number above {least}" if found[1] == ">" else f"write {least} or more"
    if "Expected `object`" in message:
        fields = _fields(kind) if _is_struct(kind) else {}
        return f"write a mapping{' of ' + ', '.join(fields) if fields else ''}"
    wanted = re.search(r"Expected `(\w+)", message)
    return _WRITE.get(wanted[1], "") if wanted else ""


def _words(error: msgspec.ValidationError) -> str:
    return _AT.sub("", str(error)).replace("`", "'")


def _a(value: Any) -> str:
    names = {"NoneType": "empty", "str": "a text", "list": "a list", "int": "a number", "float": "a number"}
    return names.get(type(value).__name__, f"a {type(value).__name__}")
