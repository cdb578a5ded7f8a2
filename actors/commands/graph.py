"""``callboard workflow graph``: a picture of a document's steps, or of what became of a job."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import Context, Nats, Workspace, make_session, run

if TYPE_CHECKING:
    from datetime import datetime

    from actors.commands.session import Session
    from actors.pictures.drawing import Drawing
    from store.snapshot import Snapshot


_SNAPSHOT = b'{"callboard_snapshot"'


class Format(StrEnum):
    """What a picture is written in."""

    mermaid = "mermaid"
    dot = "dot"
    svg = "svg"


def graph(
    target: Annotated[
        str, typer.Argument(metavar="FILE|JOB", help="A document, a job's id, or what 'callboard snapshot' wrote.")
    ],
    format_: Annotated[Format, typer.Option("--format", help="What the picture is written in.")] = Format.mermaid,
    at: Annotated[
        int | None, typer.Option("--at", metavar="SEQ", min=1, help="The job as it was at this sequence.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every operation of the job, however many.")] = False,
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
) -> None:
    """Print a picture of a document's steps, or of a job: coloured by state, with durations.

    Example: callboard workflow graph order.yaml --format svg > order.svg

    Example: callboard workflow graph JOB --format svg > job.svg
    """
    run(_graph(make_session(nats, context, workspace), target, format_, at=at, is_whole=every))


async def _graph(session: Session, target: str, format_: Format, *, at: int | None, is_whole: bool) -> int:
    import sys

    from actors.commands.workflow_registry import is_file
    from actors.pictures.picture import picture

    if is_file(target):
        drawing = _file(session, Path(target), at=at, is_whole=is_whole)
    else:
        drawing = await _job(session, target, at=at, is_whole=is_whole)
    if drawing is None:
        return 1
    sys.stdout.write(picture(drawing, format_.value))
    sys.stdout.flush()
    return 0


async def _job(session: Session, job: str, *, at: int | None, is_whole: bool) -> Drawing:
    """Raises: UsageError if there is no such job, BusUnreachable."""
    from datetime import UTC, datetime

    from actors.clients.signals import unknown_job
    from bus.subjects import check_job_id
    from store.snapshot import take_snapshot

    check_job_id(job)
    async with await session.client() as client:
        taken = await take_snapshot(client.bus, client.blobs, client.workspace, job)
    if not taken.events:
        raise unknown_job(session.workspace, job)
    return _drawn(taken, datetime.now(UTC), at=at, is_whole=is_whole)


def _drawn(taken: Snapshot, now: datetime | None, *, at: int | None, is_whole: bool) -> Drawing:
    """``now`` None: when the last event was written, as for a job as it was."""
    from actors.pictures.job_drawing import draw_job
    from store.view import fold_view

    history = taken.history(at)
    view = fold_view(taken.workspace, history)
    if now is None or at is not None:
        now = max(recorded.event.at for recorded in history)
    return draw_job(view, history, now, is_whole=is_whole)


def _file(session: Session, file: Path, *, at: int | None, is_whole: bool) -> Drawing | None:
    """Nothing if the document has faults, which are told then. Raises: UsageError if it cannot be read."""
    from actors.console.workflow_page import workflow_page
    from actors.pictures.document_drawing import draw_document
    from actors.workflow.document_file import bases_beside, read_file
    from actors.workflow.source import read_source
    from actors.workflow.validation import check
    from bus.errors import UsageError
    from store.snapshot import decode_snapshot

    raw = read_file(file)
    if raw.lstrip().startswith(_SNAPSHOT):
        return _drawn(decode_snapshot(raw, str(file)), None, at=at, is_whole=is_whole)
    if at is not None:
        raise UsageError(f"{file} is a document: it has no sequences", code="bad_usage", path="--at",
                         hint="--at is for jobs and snapshots")  # fmt: skip
    checked = check(read_source(str(file), raw), bases=bases_beside())
    if checked.document is None or checked.findings:
        session.notes().show(workflow_page(checked.findings, 1))
        return None
    return draw_document(checked.document)
