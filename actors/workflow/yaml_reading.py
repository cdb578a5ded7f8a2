"""YAML 1.2's core schema from PyYAML's events, with the place of each value."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from actors.workflow.finding import Fault, Path

# libyaml's reader if this PyYAML has it, else the one in Python, which is ten times slower.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEPTH_LIMIT = 100
_WORDS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
_NUMBER_BEGINS = frozenset("0123456789+-.")
_INT = re.compile(r"[-+]?[0-9]+|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")


@dataclass
class YamlReading:
    """``error`` is set if it is no YAML. ``faults`` are what can be read and is not to be."""

    value: Any = None
    error: str | None = None
    error_place: tuple[int, int] = (1, 1)
    faults: list[Fault] = field(default_factory=list)
    # By id of a list or dict in ``value``: where its items stand. A key and its value are one place, the key's.
    _marks: dict[int, Any] = field(default_factory=dict, repr=False)
    _top: Any = field(default=None, repr=False)

    def place(self, path: Path) -> tuple[int, int]:
        """Line and column, from 1, of the value at ``path``, or of the last one on the way there."""
        value, mark = self.value, self._top
        for step in path:
            marks = self._marks.get(id(value))
            try:
                mark, value = marks[step], value[step]  # type: ignore[index]
            except (KeyError, IndexError, TypeError):
                break
        return (1, 1) if mark is None else (mark.line + 1, mark.column + 1)


class _Refused(Exception):
    pass


def read_yaml(text: str) -> YamlReading:
    """Read one document. Nothing is raised, whatever the text."""
    reading = YamlReading()
    try:
        loader = _Loader(text)
        try:
            _Builder(loader, reading).document()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        reading.error = f"this is no YAML: {error.problem or error.context}"
        reading.error_place = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    except (yaml.YAMLError, UnicodeError, _Refused) as error:
        reading.error = f"this is no YAML: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    return reading


class _Builder:
    """Values from events."""

    def __init__(self, loader: Any, reading: YamlReading) -> None:
        self._next = loader.get_event
        self._reading = reading
        # The lists and mappings that are being read, the outermost first.
        self._open: list[Any] = []

    def document(self) -> None:
        self._next()
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            return
        event = self._next()
        self._reading._top = event.start_mark
        self._reading.value = self._node(event)
        self._next()
        if not isinstance(event := self._next(), yaml.StreamEndEvent):
            self._reading.error_place = (event.start_mark.line + 1, event.start_mark.column + 1)
            raise _Refused("a file holds one document, and here begins a second one")

    def _node(self, event: Any) -> Any:
        kind = type(event)
        if kind is yaml.ScalarEvent and event.tag is None and event.anchor is None:
            return read_scalar(event.value) if event.implicit[0] else event.value
        if kind is yaml.AliasEvent:
            self._fault("alias", f"*{event.anchor}: a document has no aliases", "write it out, or make it a parameter")
            return None
        if event.anchor is not None:
            self._fault("alias", f"&{event.anchor}: a document has no anchors", "leave it out")
        if event.tag is not None:
            self._fault("tag", f"the tag {event.tag!r} says a type, and a document has none", "leave it out")
        if kind is yaml.ScalarEvent:
            return event.value
        if len(self._open) >= DEPTH_LIMIT:
            self._reading.error_place = (event.start_mark.line + 1, event.start_mark.column + 1)
            raise _Refused(f"nested more than {DEPTH_LIMIT} deep")
        return self._mapping() if kind is yaml.MappingStartEvent else self._sequence()

    def _mapping(self) -> dict[str, Any]:
        values: dict[str, Any] = {}
        marks: dict[str, Any] = {}
        self._reading._marks[id(values)] = marks
        self._open.append(marks)
        next_event, scalar = self._next, yaml.ScalarEvent
        while type(event := next_event()) is not yaml.MappingEndEvent:
            key = event.value if type(event) is scalar else self._bad_key(event)
            is_double = marks.pop(key, None) is not None  # what is read now is the last one of ``marks``
            marks[key] = event.start_mark
            if is_double:
                self._fault("duplicate_key", f"the key {key!r} comes twice", "remove one of them")
            event = next_event()
            if type(event) is scalar and event.tag is None and event.anchor is None:  # most are: no call for them
                values[key] = read_scalar(event.value) if event.implicit[0] else event.value
            else:
                values[key] = self._node(event)
        self._open.pop()
        return values

    def _bad_key(self, event: Any) -> str:
        self._fault("bad_key", "a key has to be a plain text", "write the value after a key")
        self._node(event)
        return ""

    def _sequence(self) -> list[Any]:
        values: list[Any] = []
        marks: list[Any] = []
        self._reading._marks[id(values)] = marks
        self._open.append(marks)
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            marks.append(event.start_mark)
            values.append(self._node(event))
        self._open.pop()
        return values

    def _fault(self, code: str, message: str, hint: str) -> None:
        path = [next(reversed(marks), "") if isinstance(marks, dict) else len(marks) - 1 for marks in self._open]
        self._reading.faults.append(Fault(code, tuple(path), message, hint))


def read_scalar(text: str) -> Any:
    """The value of a text without quotes: itself, if it is no word or number of YAML 1.2's."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in _NUMBER_BEGINS:
        return text
    if _INT.fullmatch(text) and len(text) < 19:
        return int(text, 0) if text[:2] in ("0x", "0o") else int(text)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    return text
