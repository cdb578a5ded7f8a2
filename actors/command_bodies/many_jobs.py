"""What the commands that control jobs do: one job at once, many with progress, a filter only when it is confirmed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from actors.clients.bulk import Told, Verb
from actors.command_bodies.jobs import acknowledge, user_name
from actors.command_bodies.session import EXIT_DONE, EXIT_JOB_FAILED, Session
from actors.console.amount import plural
from actors.console.job_list_page import job_list_page
from actors.console.page import Span, line, one_line
from bus.errors import UsageError
from store.job_list import ListedJob, check_state

if TYPE_CHECKING:
    from actors.clients.client import Client

PROGRESS_EVERY = 100
_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


@dataclass(frozen=True)
class Choice:
    """Which jobs a filter means; ``yes``: the user has confirmed it."""

    workflow: str
    states: tuple[str, ...]
    older_than: str
    every: bool
    yes: bool

    @property
    def is_given(self) -> bool:
        """Whether there is a filter at all."""
        return bool(self.workflow or self.states or self.older_than or self.every)


def parse_age(text: str) -> float | None:
    """``1h`` in seconds, None for an empty text. Raises: UsageError."""
    if not text:
        return None
    if not (found := _AGE.fullmatch(text)):
        raise UsageError(f"cannot read the age {text!r}", code="bad_age", path="--older-than",
                         hint="a number and s, m, h or d, as in 90s, 30m, 1h, 2d")  # fmt: skip
    return float(found[1]) * _UNITS_S[found[2]]


async def tell(
    session: Session, verb: Verb, jobs: list[str], choice: Choice, *, reason: str = "", children: bool = True
) -> int:
    """Tell the named jobs, or those that the filter finds; 1 if some refused. Without ``yes`` a filter only shows."""
    _check(verb, jobs, choice)
    states, older_than_s = [check_state(state) for state in choice.states], parse_age(choice.older_than)
    words: dict[str, Any] = {"reason": reason, "children": children, "by": user_name()}
    async with await session.client() as client:
        if jobs:
            return await _tell_named(session, client, verb, jobs, words)
        found = await client.find_jobs(workflow=choice.workflow, states=states, older_than_s=older_than_s, verb=verb)
        if not choice.yes:
            _show(session, verb, found)
            return EXIT_DONE
        return await _tell_many(session, client, verb, [job.job for job in found], words)


def _check(verb: Verb, jobs: list[str], choice: Choice) -> None:
    if jobs and choice.is_given:
        raise UsageError("jobs and a filter are given", code="bad_argument", hint="name jobs, or give a filter")
    if not jobs and not choice.is_given:
        hint = f"callboard {verb} JOB, or a filter: --workflow, --state, --older-than, --all"
        raise UsageError(f"no job to {verb} is named", code="bad_argument", hint=hint)


def _show(session: Session, verb: Verb, found: list[ListedJob]) -> None:
    """What would be done."""
    screen = session.screen()
    if session.json:
        screen.show_json({"dry_run": True, "verb": verb, "jobs": found})
        return
    screen.show(job_list_page(found, datetime.now(UTC)))
    if found:
        screen.show([line(f"nothing was done; --yes to {verb} {plural(len(found), 'job')}")])


async def _tell_named(session: Session, client: Client, verb: Verb, jobs: list[str], words: dict[str, Any]) -> int:
    if len(jobs) > 1:
        return await _tell_many(session, client, verb, jobs, words)
    told = await anext(client.tell(verb, jobs, **words))
    if told.error:
        raise UsageError(told.error, code=told.code, hint=told.hint)
    acknowledge(session, {"job": told.job, "signal": verb, "sequence": told.sequence})
    return EXIT_DONE


async def _tell_many(session: Session, client: Client, verb: Verb, jobs: list[str], words: dict[str, Any]) -> int:
    told: list[Told] = []
    notes = session.notes()
    async for each in client.tell(verb, jobs, **words):
        told.append(each)
        if each.error and not session.json:
            notes.show([line(Span("refused ", "bad"), f"{one_line(each.job)}: {one_line(each.error)}")])
        if len(told) % PROGRESS_EVERY == 0:
            notes.show([line(f"{verb}: {len(told)} of {plural(len(jobs), 'job')}")])
    refused = sum(bool(each.error) for each in told)
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json({"dry_run": False, "verb": verb, "told": told})
    else:
        screen.show([line(f"{verb}: {plural(len(told) - refused, 'job')} told, {refused} refused")])
    return EXIT_JOB_FAILED if refused else EXIT_DONE
