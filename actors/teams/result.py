"""What a team gives: a report, and all that it rests on. Pure data."""

from __future__ import annotations

import msgspec

from actors.roles.plan import Plan
from actors.roles.verdict import Verdict
from store.artifact import Artifact


class Source(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of a tool that a statement may rest on. ``mark`` is how the report names it: ``t1.2``.

    ``job`` and ``call`` say where it stands on record; ``asked``, ``origins`` and ``excerpt`` are as of ``Evidence``.
    """

    mark: str
    task: str
    role: str
    job: str
    call: str
    tool: str
    asked: str = ""
    origins: tuple[str, ...] = ()
    excerpt: str = ""


class Statement(msgspec.Struct, frozen=True):
    """A line of the report, and the marks of the sources that it names."""

    text: str
    sources: tuple[str, ...]


class TaskResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one task; ``rounds`` is how often it was done."""

    id: str
    role: str
    task: str
    job: str
    text: str
    rounds: int = 1


class TeamResult(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``accepted``: the reviewer had nothing to send back in the end. ``doubts`` are what is wrong with the report.

    ``artifacts`` are the files that tools made, each under a name of its own.
    """

    report: str
    plan: Plan
    tasks: tuple[TaskResult, ...]
    statements: tuple[Statement, ...] = ()
    sources: tuple[Source, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    reviews: tuple[Verdict, ...] = ()
    accepted: bool = True
    doubts: tuple[str, ...] = ()
