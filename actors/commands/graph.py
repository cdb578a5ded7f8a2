"""``callboard workflow graph``: a picture of a document's steps, or of what became of a job."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import Context, Nats, Workspace, make_session, run

if TYPE_CHECKING:
    from datetime import datetime

    from actors.clients.client import Client
    from actors.command_bodies.session import Session
    from actors.pictures.drawing import Drawing
    from actors.workflow.document import Document
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
    document: Annotated[
        Path | None, typer.Option("--document", metavar="FILE", help="The job's document, if it is not published.")
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
    run(_graph(make_session(nats, context, workspace), target, format_, _Job(at, document, is_whole=every)))


@dataclass(frozen=True)
class _Job:
    """How a job is to be drawn: as of ``at``, by its ``document``, with every operation."""

    at: int | None
    document: Path | None
    is_whole: bool


async def _graph(session: Session, target: str, format_: Format, how: _Job) -> int:
    import sys

    from actors.pictures.picture import picture
    from actors.workflow.document_file import is_file

    if is_file(target):
        drawing = await _file(session, Path(target), how)
    else:
        drawing = await _job(session, target, how)
    if drawing is None:
        return 1
    sys.stdout.write(picture(drawing, format_.value))
    sys.stdout.flush()
    return 0


async def _job(session: Session, job: str, how: _Job) -> Drawing | None:
    """Raises: UsageError if there is no such job, BusUnreachable."""
    from datetime import UTC, datetime

    from actors.jobs.signals import unknown_job
    from bus.subjects import check_job_id
    from store.snapshot import take_snapshot

    check_job_id(job)
    async with await session.client() as client:
        taken = await take_snapshot(client.bus, client.blobs, client.workspace, job)
        if not taken.events:
            raise unknown_job(session.workspace, job)
        published = await _published(client, taken) if how.document is None else None
    return await _drawn(session, taken, datetime.now(UTC), published, how)


async def _published(client: Client, taken: Snapshot) -> Document | None:
    """The document that the job is of, in its version, if it is published."""
    from store.job_fold import fold_view

    view = fold_view(taken.workspace, taken.history())
    definition = (await client.workflows.definitions()).get(view.workflow, view.version) if view.version else None
    return definition.read() if definition else None


async def _drawn(
    session: Session, taken: Snapshot, now: datetime | None, document: Document | None, how: _Job
) -> Drawing | None:
    """``now`` None: when the last event was written, as for a job as it was. Nothing if ``how.document`` has faults."""
    from actors.console.page import line, one_line
    from actors.pictures.job_drawing import draw_job
    from actors.pictures.run_drawing import draw_run
    from bus.errors import UsageError
    from store.job_fold import fold_view

    history = taken.history(how.at)
    view = fold_view(taken.workspace, history)
    if now is None or how.at is not None:
        now = max(recorded.event.at for recorded in history)
    if how.document is not None and (document := _document(session, how.document)) is None:
        return None
    if document is not None:
        try:
            return await draw_run(document, view, taken.recorded_values(how.at), now)
        except UsageError as error:
            if how.document is not None:
                raise
            session.notes().show([line(f"drawn from its log alone: {one_line(str(error), 500)}")])
    return draw_job(view, history, now, is_whole=how.is_whole)


async def _file(session: Session, file: Path, how: _Job) -> Drawing | None:
    """Nothing if the document has faults, which are told then. Raises: UsageError if it cannot be read."""
    from actors.pictures.document_drawing import draw_document
    from actors.workflow.document_file import read_file
    from bus.errors import UsageError
    from store.snapshot import decode_snapshot

    raw = read_file(file)
    if raw.lstrip().startswith(_SNAPSHOT):
        return await _drawn(session, decode_snapshot(raw, str(file)), None, None, how)
    if how.at is not None or how.document is not None:
        option = "--at" if how.at is not None else "--document"
        raise UsageError(f"{file} is a document: it has no sequences, and is no job", code="bad_usage", path=option,
                         hint=f"{option} is for jobs and snapshots")  # fmt: skip
    document = _document(session, file)
    return draw_document(document) if document else None


def _document(session: Session, file: Path) -> Document | None:
    """Raises: UsageError if it cannot be read."""
    from actors.console.workflow_page import workflow_page
    from actors.workflow.document_file import bases_beside, read_file
    from actors.workflow.source import read_source
    from actors.workflow_rules.validation import check

    checked = check(read_source(str(file), read_file(file)), bases=bases_beside())
    if checked.document is None or checked.findings:
        session.notes().show(workflow_page(checked.findings, 1))
        return None
    return checked.document
