"""``callboard submit --from FILE``: a job for each line of JSON.

The file is read twice: all lines are checked before the first job is sent. Neither the lines nor the results are kept
in memory, so it may be as long as it likes; only ids that must not come twice, and what is waited for, are.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

import msgspec

from actors.clients.all_ends import all_ends
from actors.clients.bulk_submit import submit_entries
from actors.clients.entries import BadEntry, Batch, Entries, conflict_of
from actors.clients.input_checks import check_of
from actors.clients.terms import Terms
from actors.command_bodies.session import EXIT_DONE, EXIT_JOB_FAILED, EXIT_STILL_RUNNING, EXIT_USAGE, Session
from actors.console.amount import count, plural
from actors.console.page import Span, line, one_line
from actors.console.progress_bar import ProgressBar
from bus.errors import UsageError

if TYPE_CHECKING:
    from actors.clients.client import Client

SHOWN_BAD = 50
_DIGEST_CHARS = 16


class Choices(msgspec.Struct, frozen=True, kw_only=True):
    """What the options of ``callboard submit`` say about a file. ``batch``: a name in place of the file's digest."""

    source: str
    terms: Terms = Terms()
    batch: str = ""
    id_field: str = ""
    is_enveloped: bool = False
    skip_bad: bool = False
    wait: bool = False
    timeout_s: float | None = None


class Summary(msgspec.Struct, kw_only=True):
    """What came of a file. ``existing``: were there already; ``outcomes``: with ``--wait``, how many ended how."""

    workflow: str
    workspace: str
    batch: str
    lines: int = 0
    submitted: int = 0
    existing: int = 0
    bad: list[BadEntry] = []
    outcomes: dict[str, int] | None = None


async def submit_file(session: Session, workflow: str, choices: Choices) -> int:
    """Check all lines, submit them, and with ``wait`` wait for all results; the exit code."""
    with _opened(choices.source) as file:
        async with await session.client() as client:
            name, version, check = await check_of(client.bus, workflow)
            batch = Batch(
                workspace=session.workspace, workflow=name, key=choices.batch or _digest(file), check=check,
                terms=choices.terms, id_field=choices.id_field, is_enveloped=choices.is_enveloped,
                version=version,
            )  # fmt: skip
            summary = Summary(workflow=name, workspace=session.workspace, batch=batch.key)
            good = _check(session, batch, file, summary)
            if summary.bad:
                _show_bad(session, summary.bad)
                if not choices.skip_bad:
                    return _refuse(session, summary)
            jobs = await _send(session, client, batch, file, summary, good)
            _show_bad(session, [bad for bad in summary.bad if bad.line in jobs.conflicts])
            code = await _wait(session, client, jobs.since, summary, choices) if choices.wait else EXIT_DONE
            _show(session, summary, jobs.seconds)
            return code or (EXIT_JOB_FAILED if summary.bad else EXIT_DONE)


# ---- the file


@contextlib.contextmanager
def _opened(source: str) -> Iterator[IO[bytes]]:
    """The file, or a copy of standard input that can be read twice. Raises: UsageError."""
    if source == "-":
        with tempfile.TemporaryFile() as copy:
            while some := sys.stdin.buffer.read(1 << 20):
                copy.write(some)
            yield copy
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - closed below; only opening it may fail in this way
    except OSError as error:
        message = f"cannot read {source}: {error.strerror or error}"
        raise UsageError(message, code="no_file", path="--from", hint="a file, or - for standard input") from error
    with file:
        yield file


def _digest(file: IO[bytes]) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGEST_CHARS]  # type: ignore[arg-type]


# ---- check


def _check(session: Session, batch: Batch, file: IO[bytes], summary: Summary) -> int:
    """How many lines are good; what is bad is in the summary then."""
    entries = Entries(batch)
    file.seek(0)
    with ProgressBar(session.notes(), "checking", None) as bar:
        for _ in entries.read(file):
            bar.advance()
    summary.bad = entries.bad
    summary.lines = entries.good + len(entries.bad)
    return entries.good


def _show_bad(session: Session, bad: list[BadEntry]) -> None:
    notes = session.notes()
    for each in bad[:SHOWN_BAD]:
        where = f" (at {each.path})" if each.path and each.path not in each.error else ""
        hint = f"; {each.hint}" if each.hint else ""
        notes.show([line(Span(f"line {each.line}: ", "bad"), one_line(f"{each.error}{where}{hint}"))])
    if len(bad) > SHOWN_BAD:
        notes.show([line(f"and {plural(len(bad) - SHOWN_BAD, 'more line')}; --json lists all")])


def _refuse(session: Session, summary: Summary) -> int:
    if session.json:
        session.screen().show_json(summary)
    lines = plural(len(summary.bad), "line")
    session.notes().show([line(f"nothing was submitted: {lines} of {count(summary.lines)} cannot be; --skip-bad")])
    return EXIT_USAGE


# ---- send


class _Jobs(msgspec.Struct):
    since: dict[str, int] = {}
    conflicts: set[int] = set()
    seconds: float = 0.0


async def _send(session: Session, client: Client, batch: Batch, file: IO[bytes], summary: Summary, good: int) -> _Jobs:
    """Submit the good lines. Their inputs were checked in the first reading."""
    bad = {each.line for each in summary.bad}
    file.seek(0)
    lines = (b"" if number in bad else text for number, text in enumerate(file, 1))
    entries = Entries(msgspec.structs.replace(batch, check=_is_checked)).read(lines)
    jobs, began_s = _Jobs(), time.monotonic()
    with ProgressBar(session.notes(), "submitting", good) as bar:
        async for sent in submit_entries(client.bus, client.blobs, batch, entries):
            outcomes = Counter(each.outcome for each in sent)
            summary.submitted += outcomes["submitted"]
            summary.existing += outcomes["existing"]
            wrong = [conflict_of(each.entry) for each in sent if each.outcome == "conflict"]
            summary.bad += wrong
            jobs.conflicts.update(each.line for each in wrong)
            jobs.since.update((each.entry.job, each.since) for each in sent if each.outcome != "conflict")
            bar.advance(len(sent))
    jobs.seconds = time.monotonic() - began_s
    return jobs


def _is_checked(_: bytes) -> None:
    pass


# ---- wait


async def _wait(session: Session, client: Client, jobs: dict[str, int], summary: Summary, choices: Choices) -> int:
    """Count how the jobs end; 1 if some did not complete, 4 if the time was over before."""
    outcomes: Counter[str] = Counter()
    try:
        with ProgressBar(session.notes(), "waiting", len(jobs)) as bar:
            async with asyncio.timeout(choices.timeout_s):
                async with contextlib.aclosing(all_ends(client.bus, client.workspace, jobs)) as ends:
                    async for some in ends:
                        outcomes.update(some.values())
                        bar.advance(len(some))
    except TimeoutError:
        left = len(jobs) - outcomes.total()
        session.notes().show([line(f"{plural(left, 'job')} did not end within {choices.timeout_s:g} s and go on")])
        return EXIT_STILL_RUNNING
    finally:
        summary.outcomes = dict(outcomes)
    return EXIT_DONE if outcomes.total() == outcomes["completed"] else EXIT_JOB_FAILED


def _show(session: Session, summary: Summary, seconds: float) -> None:
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json(summary)
        return
    rate = f", {count(round((summary.submitted + summary.existing) / seconds))}/s" if seconds > 0 else ""
    parts = [f"{count(summary.submitted)} submitted", f"{count(summary.existing)} already there"]
    parts += [f"{count(len(summary.bad))} bad"] if summary.bad else []
    screen.show([line(f"{plural(summary.lines, 'line')}: {', '.join(parts)}{rate}")])
    if summary.outcomes is not None:
        ended = ", ".join(f"{count(number)} {how}" for how, number in sorted(summary.outcomes.items()))
        screen.show([line(f"ended: {ended or 'none'}")])
