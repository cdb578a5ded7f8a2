"""Changes of a job under way as they are shown: who asked for which, and which of them were left out, and why."""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from actors.console.amount import ago
from actors.console.page import Block, Column, SheetBuilder, Span, one_line
from bus.amendment import in_words
from store.view import AmendmentView, CallView, JobView

# How a workflow notes where in its log it took up a word from outside, and that a change did not fit.
_NOTE = re.compile(r"(?:amended|cancelled)\.\d+/(?:taken|emit-change_left_out):1")
_LEFT_OUT = "amended.{sequence}/emit-change_left_out:1"


def without_notes(view: JobView) -> JobView:
    """The job without the calls that are notes of its host to itself: nobody has asked for them."""
    return msgspec.structs.replace(view, calls=tuple(call for call in view.calls if not _NOTE.fullmatch(call.call)))


def amendment_blocks(view: JobView, now: datetime) -> list[Block]:
    """A table of the changes; nothing if there are none."""
    if not view.amendments:
        return []
    builder = SheetBuilder([Column("amended", shrink=True), Column("when"), Column("by"), Column("note", shrink=True)])
    calls = {call.call: call for call in view.calls}
    for each in view.amendments:
        said = one_line(in_words(each.change)) if each.change else ""
        builder.add(said, ago(each.at, now), one_line(each.by), _note(each, calls))
    return [builder.sheet()]


def _note(amendment: AmendmentView, calls: dict[str, CallView]) -> Span:
    told = calls.get(_LEFT_OUT.format(sequence=amendment.sequence))
    if told is None:
        return Span("")
    data = msgspec.json.decode(told.output)
    reason = data.get("reason", "") if isinstance(data, dict) else ""
    return Span(one_line(f"left out: {reason}"), "bad")
