"""The text of a document: its values, and where in the file each of them stands.

YAML is read as YAML 1.2 reads it (``on`` and ``no`` are texts), from PyYAML's events, since its own loaders follow 1.1,
pass over a key that comes twice, and take three times as long. JSON is read by the standard library, and only if there
is something to tell the YAML reader is asked for places. TOML's reader keeps no places: there they are found by a
search for the key, and may be those of the table.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from actors.workflow.finding import Fault, Path
from actors.workflow.yaml_reading import DEPTH_LIMIT, YamlReading, read_yaml

Format = Literal["yaml", "json", "toml"]
Place = tuple[int, int]

_SUFFIXES: dict[str, Format] = {"json": "json", "toml": "toml"}
_TOML_AT = re.compile(r"(?P<what>.*?) \(at line (?P<line>\d+), column (?P<column>\d+)\)", re.DOTALL)


class _SyntaxFault(Exception):
    def __init__(self, message: str, place: Place, hint: str = "") -> None:
        super().__init__(message)
        self.place = place
        self.hint = hint


@dataclass(eq=False)
class Source:
    """What was read of one file. ``fault`` is set if it could not be, with its place; ``value`` is then None."""

    file: str
    format: Format
    text: str = field(repr=False)
    value: Any = None
    fault: Fault | None = None
    fault_place: Place = (1, 1)
    doubtful: list[Fault] = field(default_factory=list)
    _yaml: YamlReading | None = field(default=None, repr=False)

    def place(self, path: Path) -> Place:
        """Line and column, both from 1, of the nearest thing on the way to ``path`` that has a place."""
        if self.format == "toml":
            return _toml_place(self.text, path)
        if self._yaml is None:
            self._yaml = read_yaml(self.text)
        return self._yaml.place(path)


def format_of(file: str) -> Format:
    """By the name's end; YAML if that says nothing."""
    return _SUFFIXES.get(file.rpartition(".")[2].lower(), "yaml")


def read_source(file: str, raw: bytes, format_: Format | None = None) -> Source:
    """Read a file's content. Whatever it holds, nothing is raised: what is wrong is in the answer."""
    source = Source(file, format_ or format_of(file), "")
    try:
        source.text = raw.decode("utf-8-sig")
        _read(source)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        source.fault, source.fault_place = _syntax(f"byte 0x{raw[error.start]:02x} is not UTF-8"), (line, column)
    except _SyntaxFault as error:
        source.fault, source.fault_place = _syntax(str(error), error.hint), error.place
    except RecursionError:
        source.fault = _syntax(f"nested more than {DEPTH_LIMIT} deep")
        source.value = None
    return source


def _syntax(message: str, hint: str = "") -> Fault:
    return Fault("syntax", (), message, hint)


def _read(source: Source) -> None:
    match source.format:
        case "yaml":
            reading = source._yaml = read_yaml(source.text)
            if reading.error is not None:
                raise _SyntaxFault(reading.error, reading.error_place)
            source.value, source.doubtful = reading.value, reading.faults
        case "json":
            source.value = _read_json(source)
            if source.doubtful:  # the standard library does not say where a key comes twice
                source._yaml = read_yaml(source.text)
                source.doubtful = source._yaml.faults or source.doubtful
        case "toml":
            source.value = _read_toml(source.text)
    if source.format != "yaml" and is_too_deep(source.value):
        raise RecursionError


def is_too_deep(value: Any) -> bool:
    """Whether who goes down into it by calling itself may run out of stack."""
    level = [value]
    for _ in range(DEPTH_LIMIT + 1):
        level = [each for one in level for each in _parts(one)]
        if not level:
            return False
    return True


def _parts(value: Any) -> Iterable[Any]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _read_json(source: Source) -> Any:
    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        if len(found) < len(items):
            twice = next(key for number, (key, _) in enumerate(items) if key in dict(items[:number]))
            source.doubtful.append(Fault("duplicate_key", (), f"the key {twice!r} comes twice in one object"))
        return found

    def constant(word: str) -> Any:
        raise _SyntaxFault(f"{word} is no JSON", (1, 1), "use null")

    try:
        return json.loads(source.text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise _SyntaxFault(f"this is no JSON: {error.msg}", (error.lineno, error.colno)) from error
    except ValueError as error:  # a number with more digits than Python reads
        raise _SyntaxFault(f"this is no JSON: {error}", (1, 1)) from error


def _read_toml(text: str) -> Any:
    try:
        return tomllib.loads(text)
    except ValueError as error:
        found = _TOML_AT.match(str(error))
        place = (int(found["line"]), int(found["column"])) if found else (1, 1)
        raise _SyntaxFault(f"this is no TOML: {found['what'] if found else error}", place) from error


def _toml_place(text: str, path: Path) -> Place:
    """The key's line within its ``[[steps]]``, or within the whole file; the top if it is nowhere."""
    first, last, lines = 0, 0, text.splitlines()
    last = len(lines)
    if path[:1] == ("steps",) and len(path) > 1:
        heads = [number for number, line in enumerate(lines) if re.match(r"\s*\[\[\s*steps\s*\]\]", line)]
        if isinstance(path[1], int) and path[1] < len(heads):
            first = heads[path[1]]
            last = heads[path[1] + 1] if path[1] + 1 < len(heads) else last
            path = path[2:]
    for key in reversed([step for step in path if isinstance(step, str)]):
        for number in range(first, last):
            if found := re.match(rf"[\s\[.\w]*?(?<![\w-])[\"']?{re.escape(key)}[\"']?\s*[=\].]", lines[number]):
                return number + 1, found.end() - len(found[0].lstrip()) + 1
    return first + 1, 1
