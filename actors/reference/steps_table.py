"""The steps of a workflow as a table."""

from __future__ import annotations

from collections.abc import Iterator

from actors.pictures.document_drawing import lane_names, step_object
from actors.reference.entry import Library
from actors.reference.markdown import cell, code, seconds, table
from actors.workflow.document import ApprovalStep, CallStep, Document, Goto, MapStep
from actors.workflow.outline import Entry, counts_inside, outline
from bus.subjects import CallKind


def steps_lines(document: Document, library: Library) -> Iterator[str]:
    """A row for each step, in the order of the document."""
    head = ["step", "does", "after", "if", "policy", "description"]
    yield from table(head, [_row(entry, library) for entry in outline(document).entries])


def _row(entry: Entry, library: Library) -> list[str]:
    step = entry.step
    return [
        _place(entry), _does(entry, library), _after(entry), code(step.when or ""), "; ".join(_policy(entry, library)),
        cell(step.description),
    ]  # fmt: skip


def _place(entry: Entry) -> str:
    """The step's id after those of the steps around it, with the case or branch that it is in."""
    owner = entry.scope.owner
    if owner is None:
        return code(entry.step.id)
    names = lane_names(owner)
    lane = f" ({code(names[owner.inner.index(entry.scope)])})" if names else ""
    return f"{_place(owner)}{lane} / {code(entry.step.id)}"


def _does(entry: Entry, library: Library) -> str:
    step, kind = entry.step, str(entry.step.__struct_config__.tag)
    if isinstance(step, CallStep):
        return f"{kind} {library.link(_call_kind(kind), step.run)}"
    if isinstance(step, ApprovalStep):
        words = [f"of {', '.join(map(code, step.roles))}"] if step.roles else []
        words += [f"by {step.quorum}"] if step.quorum > 1 else []
        return " ".join([kind, *words])
    return f"{kind} {code(step_object(step))}".rstrip()


def _call_kind(kind: str) -> CallKind:
    return "agent" if kind == "agent" else "job" if kind == "job" else "tool"


def _after(entry: Entry) -> str:
    step, join = entry.step, entry.step.join
    words = [code(name) for name in step.needs]
    if join is not None:
        of = [code(name) for name in join.of] or ["all"]
        words.append(f"{code(str(join.n)) if join.n is not None else 'all'} of {', '.join(of)}")
    return ("ends with " if counts_inside(step) and join and not step.needs else "") + ", ".join(words)


def _policy(entry: Entry, library: Library) -> Iterator[str]:
    step = entry.step
    if step.timeout_s is not None:
        yield f"{seconds(step.timeout_s)} at most"
    if isinstance(step, CallStep):
        yield from _call_policy(step)
    if isinstance(step, MapStep) and step.max_parallel is not None:
        yield f"{step.max_parallel} at a time"
    if isinstance(step, MapStep) and step.until is not None:
        yield f"until {code(step.until)}"
    if isinstance(step.on_error, Goto):
        yield f"on error go on at {code(step.on_error.goto)}"
    elif step.on_error != "fail":
        yield f"on error {step.on_error}"
    if step.compensate is not None:
        yield f"undone by {library.link('tool', step.compensate.tool)}"
    if step.lock is not None:
        yield f"lock {code(step.lock)}"
    if step.cancels:
        yield f"cancels {', '.join(map(code, step.cancels))}"
    if step.completes:
        yield f"completes {', '.join(map(code, step.completes))}"


def _call_policy(step: CallStep) -> Iterator[str]:
    if step.retry is not None:
        yield f"{step.retry.attempts} attempts"
    if step.on_open is not None:
        yield f"{step.on_open}s while the circuit is open"
    if step.cache is not None:
        yield f"cached for {seconds(step.cache.ttl_s)}" + (f" by {code(step.cache.key)}" if step.cache.key else "")
    if priority := getattr(step, "priority", None):
        yield f"priority {priority}"
