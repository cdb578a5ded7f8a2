"""What a report says it rests on: marks such as ``[t1.2]``, and files that it shows. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from actors.teams.result import Statement

# [t1.2] and [t1.2, t3.1]; not the text of a link, which goes on with ( or [.
_MARKS = re.compile(r"\[((?:[A-Za-z][\w-]*\.\d+)(?:\s*[,;]\s*[A-Za-z][\w-]*\.\d+)*)\](?![(\[])", re.ASCII)
_SHOWN = re.compile(r"!\[[^\]]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
_CODE = re.compile(r"^```.*?^```[ \t]*$", re.DOTALL | re.MULTILINE)


def marks_in(text: str) -> tuple[str, ...]:
    """The marks, each once, in their order."""
    found = (mark.strip() for group in _MARKS.findall(text) for mark in re.split(r"[,;]", group))
    return tuple(dict.fromkeys(found))


def statements_in(report: str) -> tuple[Statement, ...]:
    """The lines that name a source, without code."""
    lines = (line.strip() for line in _CODE.sub("", report).splitlines())
    return tuple(Statement(line, marks) for line in lines if (marks := marks_in(line)))


def report_faults(report: str, marks: Collection[str], files: Collection[str]) -> list[str]:
    """What is wrong with the sources of a report; ``marks`` and ``files`` are those that there are."""
    return list(_faults(report, marks, files))


def _faults(report: str, marks: Collection[str], files: Collection[str]) -> Iterator[str]:
    named = marks_in(_CODE.sub("", report))
    for mark in named:
        if mark not in marks:
            yield f"there is no source [{mark}]"
    if marks and not named:
        yield "no statement names a source; put marks such as [" + next(iter(marks)) + "] behind what they show"
    for file in dict.fromkeys(_SHOWN.findall(report)):
        if "://" not in file and file not in files:
            yield f"there is no file {file!r} to show ({', '.join(files) or 'there are none'})"
