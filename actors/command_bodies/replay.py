"""``callboard snapshot`` and ``callboard replay``: a job as a file, as it was, and against present code."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from actors.command_bodies.session import EXIT_DONE, EXIT_JOB_FAILED, Session
from actors.command_bodies.verify import verify
from actors.console.amount import plural, size
from actors.console.job_page import CALL_LIMIT
from actors.console.page import line
from actors.console.replay_page import replay_page, verdict_page
from actors.jobs.signals import unknown_job
from bus.errors import UsageError
from bus.subjects import DEFAULT_WORKSPACE, check_job_id
from store.job_fold import fold_view
from store.redaction import redact
from store.snapshot import Snapshot, decode_snapshot, encode_snapshot, take_snapshot

_PIPE = "-"


async def snapshot(session: Session, job: str, out: str, *, is_redacted: bool) -> int:
    """Write the job to a file, or to standard output."""
    taken = await _taken(session, job)
    _warn(session, taken)
    if is_redacted:
        taken = redact(taken)
    body = encode_snapshot(taken)
    if out in ("", _PIPE):
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()
        return EXIT_DONE
    _write(out, body)
    screen = session.screen()
    if session.json:
        screen.show_json({"job": job, "file": out, "events": len(taken.events), "size_bytes": len(body)})
    else:
        screen.show([line(f"{out}: {plural(len(taken.events), 'event')}, {size(len(body))}")])
    return EXIT_DONE


async def replay(
    session: Session, job: str | None, file: str, *, at: int | None, app: str, limit_s: float | None, all_calls: bool
) -> int:
    """Show the job as of ``at``; with ``app`` re-run its function against the history, 1 if that differs."""
    if (job is None) == (not file):
        raise UsageError("say which job: an id or --file, one of them", code="bad_usage",
                         hint="callboard replay JOB, or callboard replay --file SNAPSHOT")  # fmt: skip
    taken = await _taken(session, job) if job is not None else _read(file)
    _warn(session, taken)
    if app:
        return await _verify(session, taken, app, at, limit_s)
    return _show(session, taken, _again(session, job, file), at, all_calls=all_calls)


async def _verify(session: Session, taken: Snapshot, app: str, at: int | None, limit_s: float | None) -> int:
    verdict = await verify(app, taken, at=at, limit_s=limit_s)
    screen = session.screen()
    if session.json:
        screen.show_json(verdict)
    else:
        screen.show(verdict_page(verdict))
    return EXIT_DONE if verdict.same else EXIT_JOB_FAILED


def _show(session: Session, taken: Snapshot, again: str, at: int | None, *, all_calls: bool) -> int:
    screen = session.screen()
    seen, whole = taken.history(at), taken.history()
    view = fold_view(taken.workspace, seen)
    if session.json:
        screen.show_json(view)
    else:
        limit, later = None if all_calls else CALL_LIMIT, whole[len(seen) :]
        screen.show(replay_page(view, seen, later, again=again, ascii_only=screen.ascii_only, call_limit=limit))
    return EXIT_DONE


def _again(session: Session, job: str | None, file: str) -> str:
    """The command as it would be typed once more."""
    if job is None:
        return f"callboard replay --file {shlex.quote(file)}"
    place = "" if session.workspace == DEFAULT_WORKSPACE else f" --workspace {session.workspace}"
    return f"callboard replay {job}{place}"


async def _taken(session: Session, job: str) -> Snapshot:
    check_job_id(job)
    async with await session.client() as client:
        taken = await take_snapshot(client.bus, client.blobs, client.workspace, job)
    if not (taken.events or taken.incomplete):
        raise unknown_job(session.workspace, job)
    return taken


def _write(file: str, body: bytes) -> None:
    try:
        Path(file).write_bytes(body)
    except OSError as error:
        raise UsageError(f"cannot write {file}: {error.strerror}", code="bad_file", path=file) from error


def _read(file: str) -> Snapshot:
    if file == _PIPE:
        return decode_snapshot(sys.stdin.buffer.read(), "standard input")
    try:
        body = Path(file).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {file}: {error.strerror}", code="bad_file", path=file) from error
    return decode_snapshot(body, file)


def _warn(session: Session, taken: Snapshot) -> None:
    for each in taken.incomplete:
        session.notes().show([line(f"not whole: sequence {each.sequence} at {each.subject}: {each.reason}")])
