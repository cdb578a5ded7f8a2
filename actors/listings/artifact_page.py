"""The artifacts of a job: ``callboard artifacts``."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from actors.console.amount import plural, size
from actors.console.page import Column, Page, SheetBuilder, Span, line, one_line


class ArtifactRow(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact, and the call whose output had it (empty: the job's own); ``path`` is where it was written."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str
    job: str
    call: str
    of_child: bool = False
    path: str = ""


def artifact_page(rows: Sequence[ArtifactRow]) -> Page:
    """A table in the order in which they were made."""
    if not rows:
        return [line("the job has no artifacts")]
    is_saved = any(row.path for row in rows)
    builder = SheetBuilder(
        [Column("name", shrink=True), Column("type"), Column("size", "right"), Column("of", shrink=True),
         Column("saved as" if is_saved else "sha256")]
    )  # fmt: skip
    for row in rows:
        last = one_line(row.path) if is_saved else row.sha256[:12]
        builder.add(Span(one_line(row.name), "name"), one_line(row.media_type), size(row.size_bytes), _maker(row), last)
    total = sum(row.size_bytes for row in rows)
    return [builder.sheet(f"{plural(len(rows), 'artifact')}, {size(total)}")]


def _maker(row: ArtifactRow) -> str:
    call = row.call or "the job's output"
    return one_line(f"{call} of {row.job}" if row.of_child else call)
