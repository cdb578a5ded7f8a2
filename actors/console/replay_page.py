"""Pages of ``callboard replay``: a job as it was, and whether present code does what was recorded."""

from __future__ import annotations

from collections.abc import Sequence

from actors.console.job_page import CALL_LIMIT, job_page
from actors.console.page import Block, Gap, Page, Span, facts, line, one_line
from actors.replays.verdict import Verdict
from store.log import Recorded
from store.view import JobView

_VALUE_LIMIT = 1_000
_WORDS = {
    "new": "it asks for something that is not recorded",
    "operation": "it asks for another operation",
    "input": "it calls with another input",
    "unasked": "it does not ask for something that is recorded",
    "end": "it ends differently",
    "stuck": "it waits for something that is not recorded",
}


def replay_page(
    view: JobView, seen: Sequence[Recorded], later: Sequence[Recorded], *, again: str, ascii_only: bool,
    call_limit: int | None = CALL_LIMIT,
) -> Page:  # fmt: skip
    """The job as the events ``seen`` make it, at the instant of the last of them; ``later`` are those to come.

    ``again`` is the command that shows it, without its ``--at``.
    """
    now = max(recorded.event.at for recorded in seen)
    page = job_page(view, now, ascii_only=ascii_only, call_limit=call_limit, has_advice=False)
    last, whole = seen[-1], len(seen) + len(later)
    page += [Gap(), facts([("as of", f"{last.sequence}, {last.event.kind}"), ("event", f"{len(seen)} of {whole}")])]
    steps: list[Block] = [_step("back", again, recorded) for recorded in seen[-2:-1]]
    return page + steps + [_step("next", again, recorded) for recorded in later[:1]]


def _step(word: str, again: str, recorded: Recorded) -> Block:
    command = f"{again} --at {recorded.sequence}"
    return line(Span(f"{word}: ", "dim"), command, Span(f"   {recorded.event.kind}", "dim"))


def verdict_page(verdict: Verdict) -> Page:
    """Same or not, and where."""
    word = Span("same", "good") if verdict.same else Span("differs", "bad")
    title = line(word, "  ", Span(f"{verdict.workflow} {verdict.version}", "strong"), "  ", one_line(verdict.job))
    found = verdict.difference
    if found is None:
        return [title, facts([("operations", str(verdict.operations))])]
    return [
        title,
        facts(
            [
                ("at", one_line(found.call) or "the job's end"),
                ("how", _WORDS.get(found.kind, found.kind)),
                ("recorded", one_line(found.recorded, _VALUE_LIMIT)),
                ("present", one_line(found.present, _VALUE_LIMIT)),
            ]
        ),
    ]
