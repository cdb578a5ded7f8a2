"""A job of a document as a drawing: the document's steps, coloured by what became of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from actors.interpreter.retrace import retrace
from actors.pictures.document_drawing import draw_document
from actors.pictures.drawing import Drawing
from actors.pictures.job_drawing import job_note, job_title
from actors.pictures.recorded_operations import operations
from actors.pictures.run_standings import standings
from actors.workflow.document import Document
from store.log import Recorded
from store.view import JobView


async def draw_run(document: Document, view: JobView, history: Sequence[Recorded], now: datetime) -> Drawing:
    """The job as it stands at ``now``. Raises: UsageError if the document did not make this history."""
    trace = await retrace(document, history)
    found = standings(document, trace, operations(view, history, now), now, is_over=view.has_ended)
    return draw_document(document, found, title=job_title(view), note=job_note(view, now))
