"""A file that describes an agent, read: Markdown with YAML between two lines of ``---`` at its top. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from actors.roles.front_matter import FrontMatter, front_matter_schema
from actors.roles.misfits import misfits
from actors.roles.role import Role
from actors.roles.role_rules import KnownTools, faults_of
from actors.workflow.finding import Fault, Finding, Path, path_text
from actors.workflow.source import Source, read_source

_FENCE = re.compile(r"---[ \t]*\n(?P<front>.*?)^---[ \t]*(?:\n|\Z)(?P<text>.*)", re.DOTALL | re.MULTILINE)
_HINT = "begin with ---, the settings as YAML, and another ---; what follows are the instructions"


@dataclass(frozen=True)
class Reading:
    """``role`` is None if there are findings."""

    role: Role | None
    findings: tuple[Finding, ...] = ()


def read_role(file: str, raw: bytes, known: KnownTools | None = None) -> Reading:
    """Read a file's content; nothing is raised, whatever it holds. ``known`` are the tools that there are, if known."""
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        fault = Fault("syntax", (), f"byte 0x{raw[error.start]:02x} is not UTF-8")
        return Reading(None, (_finding(file, fault, (line, 1)),))
    parts = _FENCE.fullmatch(text)
    if parts is None:
        fault = Fault("no_front_matter", (), "the settings of an agent are missing", _HINT)
        return Reading(None, (_finding(file, fault, (1, 1)),))
    # An empty line for the fence: so lines are counted as in the file.
    source = read_source(file, ("\n" + parts["front"]).encode(), "yaml")
    last_line = text.count("\n", 0, parts.start("text")) + 1
    return _read(source, parts["text"].strip(), last_line, known)


def _read(source: Source, instructions: str, text_line: int, known: KnownTools | None) -> Reading:
    if source.fault is not None:
        return Reading(None, (_finding(source.file, source.fault, source.fault_place),))
    if not isinstance(source.value, dict):
        fault = Fault("no_front_matter", (), "the settings of an agent are a mapping", _HINT)
        return Reading(None, (_finding(source.file, fault, (2, 1)),))
    shape = list(misfits(front_matter_schema(), source.value))
    sound = _without(source.value, {fault.path for fault in shape if fault.path}, ())
    faults = [*source.doubtful, *shape, *faults_of(sound, known)]
    found = [_finding(source.file, fault, source.place(fault.path)) for fault in faults]
    if not instructions:
        fault = Fault("no_instructions", (), "there are no instructions below the settings")
        found.append(_finding(source.file, fault, (text_line, 1)))
    return Reading(None if found else _role(source, instructions), tuple(_in_order(found)))


def _without(value: Any, wrong: set[Path], path: Path) -> Any:
    """The value without what is wrong in it; in lists None stands for that, so that places stay what they are."""
    match value:
        case dict():
            kept = {name: each for name, each in value.items() if (*path, name) not in wrong}
            return {name: _without(each, wrong, (*path, name)) for name, each in kept.items()}
        case list():
            places = [(*path, number) for number in range(len(value))]
            return [None if at in wrong else _without(each, wrong, at) for each, at in zip(value, places, strict=True)]
        case _:
            return value


def _role(source: Source, instructions: str) -> Role:
    front = msgspec.convert(source.value, FrontMatter)
    fields = {name: getattr(front, name) for name in FrontMatter.__struct_fields__}
    return Role(**fields, instructions=instructions)


def _finding(file: str, fault: Fault, place: tuple[int, int]) -> Finding:
    line, column = place
    return Finding(file=file, line=line, column=column, path=path_text(fault.path), code=fault.code,
                   message=fault.message, hint=fault.hint)  # fmt: skip


def _in_order(found: Iterable[Finding]) -> list[Finding]:
    return sorted(dict.fromkeys(found), key=lambda finding: (finding.line, finding.column))
