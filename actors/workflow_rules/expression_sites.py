"""Where expressions stand in a document, and what each may refer to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from actors.workflow.document import (
    AddStep,
    AgentStep,
    ApprovalStep,
    CallStep,
    Document,
    EmitStep,
    EndStep,
    JobStep,
    LoopStep,
    MapStep,
    SetStep,
    SleepStep,
    StepBase,
    SwitchStep,
    ToolStep,
)
from actors.workflow.expression import embedded
from actors.workflow.finding import Path
from actors.workflow.outline import Entry, Outline

_HOLDERS = (dict, list, tuple)


class Site(NamedTuple):
    """One expression. ``text`` is None for a text that is half an expression, which ``path`` leads to.

    It is evaluated before ``entry`` (None: after all steps), or once its inner steps are through (``sees_inner``), or
    once it is through itself (``sees_itself``).
    """

    path: Path
    text: str | None
    entry: Entry | None
    sees_inner: bool = False
    sees_itself: bool = False
    variables: frozenset[str] = frozenset()


def sites(document: Document, outline: Outline) -> Iterator[Site]:
    """All expressions of a document."""
    for entry in outline.entries:
        yield from _of_any(entry)
        yield from _of_kind(entry)
    for path, text in _embedded(document.result, ("result",)):
        yield Site(path, text, None)


def _of_any(entry: Entry) -> Iterator[Site]:
    step, path = entry.step, entry.path
    if step.when is not None:
        yield Site((*path, "when"), step.when, entry)
    if step.lock is not None:
        yield from _plain(entry, "lock", step.lock)
    if step.join is not None:
        for where, text in _embedded(step.join.n, (*path, "join", "n")):
            yield Site(where, text, entry)
    if step.compensate is not None:
        for where, text in _embedded(step.compensate.with_, (*path, "compensate", "with")):
            yield Site(where, text, entry, sees_inner=True, sees_itself=True)
    if isinstance(step, CallStep) and step.cache is not None and step.cache.key is not None:
        yield Site((*path, "cache", "key"), step.cache.key, entry)


# Fields that are values with expressions inside of them, by kind; in the document with_ is written with.
_VALUES: dict[type[StepBase], tuple[str, ...]] = {
    ToolStep: ("with_",),
    AgentStep: ("with_",),
    JobStep: ("with_",),
    ApprovalStep: ("title", "details", "edit"),
    SleepStep: ("for_s",),
    EmitStep: ("data",),
    SetStep: ("values",),
    EndStep: ("message", "result"),
}


def _of_kind(entry: Entry) -> Iterator[Site]:
    step, path = entry.step, entry.path
    for name in _VALUES.get(type(step), ()):
        if value := getattr(step, name):
            yield from _plain(entry, name.rstrip("_"), value)
    match step:
        case AddStep():
            yield Site((*path, "items"), step.items, entry)
        case MapStep():
            yield Site((*path, "over"), step.over, entry)
            if step.until is not None:
                yield Site((*path, "until"), step.until, entry, variables=frozenset(("outputs", "total")))
        case SwitchStep():
            for number, case in enumerate(step.cases):
                yield Site((*path, "cases", number, "when"), case.when, entry)
        case LoopStep():
            yield Site((*path, "until"), step.until, entry, sees_inner=True, variables=entry.inner[0].variables)
        case _:
            pass
    if (output := getattr(step, "output", None)) is not None:
        yield from _output(entry, output)


def _plain(entry: Entry, name: str, value: Any) -> Iterator[Site]:
    for path, text in _embedded(value, (*entry.path, name)):
        yield Site(path, text, entry)


def _output(entry: Entry, value: Any) -> Iterator[Site]:
    variables = entry.inner[0].variables if entry.inner else frozenset[str]()
    for path, text in _embedded(value, (*entry.path, "output")):
        yield Site(path, text, entry, sees_inner=True, variables=variables)


def _embedded(value: Any, path: Path) -> Iterator[tuple[Path, str | None]]:
    if isinstance(value, str):
        if "${" in value:
            yield path, embedded(value)
        return
    parts: Iterable[tuple[str | int, Any]] = ()
    if isinstance(value, dict):
        parts = value.items()
    elif isinstance(value, list | tuple):
        parts = enumerate(value)
    for key, inner in parts:
        if isinstance(inner, str):  # most of them: a generator for each would take twice as long
            if "${" in inner:
                yield (*path, key), embedded(inner)
        elif isinstance(inner, _HOLDERS):
            yield from _embedded(inner, (*path, key))


def has_expression(value: Any) -> bool:
    """Whether an expression is somewhere in it."""
    return any(True for _ in _embedded(value, ()))
