"""A schedule: what it runs and when. The server's message schedule is all there is of it: the rule in a header, the
input in the body; each message that it brings carries both. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import msgspec

from actors.schedules.cron import (
    check_cron,
    check_every,
    check_zone,
    cron_time_before,
    cron_times,
    every_times,
    server_cron,
)
from bus import headers as h
from bus import subjects
from bus.errors import UsageError
from bus.moment import check_seconds, moment_text
from bus.reader import Stored
from bus.subjects import Priority, check_name

Overlap = Literal["skip", "queue", "allow"]
OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)
# A schedule that is paused is one whose time never comes.
_NEVER = "@at 2200-01-01T00:00:00Z"
# A tick that waited for so long after the next one was due is of no interest any more.
OVERTAKEN_S = 30.0
_KEY = "schedule"


class Rule(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """When a schedule fires, and what then. Either ``cron`` (in ``time_zone``, else UTC) or ``every_s``.

    ``overlap``: what becomes of a run whose predecessor has not ended. ``by``: who made or changed it last.
    """

    name: str
    cron: str = ""
    time_zone: str = ""
    every_s: float | None = None
    overlap: Overlap = "skip"
    is_paused: bool = False
    by: str = ""


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule, and the job that it asks for. ``sequence`` and ``changed_at`` are its message's, 0 and None if new."""

    workspace: str
    rule: Rule
    workflow: str
    priority: Priority = "normal"
    input: bytes = b"{}"
    blob: str = ""
    deadline_s: float | None = None
    version: str = ""
    sequence: int = 0
    changed_at: datetime | None = None

    @property
    def subject(self) -> str:
        """Where it stands in JOBS."""
        return schedule_subject(self.workspace, self.rule.name)


def schedule_subject(workspace: str, name: str) -> str:
    """Where a schedule stands; wildcards allowed."""
    return subjects.timer(workspace, name, _KEY)


def check_overlap(text: str) -> Overlap:
    """The policy that ``text`` names. Raises: UsageError."""
    for overlap in OVERLAPS:
        if text == overlap:
            return overlap
    raise UsageError(f"overlap {text!r} does not exist", code="bad_overlap", path="overlap",
                     hint=f"one of {', '.join(OVERLAPS)}")  # fmt: skip


def check_rule(rule: Rule) -> Rule:
    """``rule`` if it can be kept. Raises: UsageError that names the field."""
    check_name(rule.name, "name")
    if bool(rule.cron) == (rule.every_s is not None):
        raise UsageError("a schedule has either cron or every_s", code="bad_schedule", path="cron",
                         hint="cron '0 8 * * 1-5', or every_s 900")  # fmt: skip
    if rule.every_s is not None:
        check_every(rule.every_s)
        if rule.time_zone:
            hint = "leave it out, or use cron"
            raise UsageError("a period has no time zone", code="bad_schedule", path="time_zone", hint=hint)
    else:
        check_cron(rule.cron)
        if rule.time_zone:
            check_zone(rule.time_zone)
    return rule


def headers_of(schedule: Schedule) -> dict[str, str]:
    """The headers of its message."""
    rule = schedule.rule
    headers = {
        h.SCHEDULE: _NEVER if rule.is_paused else _when(rule),
        h.SCHEDULE_TARGET: subjects.job_request(schedule.workspace, schedule.workflow, schedule.priority),
        h.JOB_SCHEDULE: msgspec.json.encode(rule).decode(),
    }
    if rule.time_zone and not rule.is_paused:
        headers[h.SCHEDULE_TIME_ZONE] = rule.time_zone
    if schedule.blob:
        headers[h.JOB_BLOB] = schedule.blob
    if schedule.version:
        headers[h.JOB_VERSION] = schedule.version
    if schedule.deadline_s is not None:
        headers[h.JOB_DEADLINE] = moment_text(check_seconds(schedule.deadline_s, "deadline_s"))
    return headers


def _when(rule: Rule) -> str:
    return server_cron(rule.cron) if rule.every_s is None else f"@every {moment_text(rule.every_s)}"


def rule_in(headers: Mapping[str, str]) -> Rule:
    """The rule that came with a message. Raises: UsageError ``bad_header``."""
    try:
        return check_rule(msgspec.json.decode(headers[h.JOB_SCHEDULE], type=Rule))
    except (msgspec.DecodeError, UsageError, RecursionError) as error:
        message = f"header {h.JOB_SCHEDULE} cannot be read: {error}"
        raise UsageError(message, code="bad_header", path=h.JOB_SCHEDULE) from error


def schedule_in(stored: Stored) -> Schedule | None:
    """The schedule that a message is; None for one that somebody made by hand, and wrongly."""
    _, workspace, _, _ = stored.subject.split(".")
    try:
        rule = rule_in(stored.headers)
        _, workflow, priority = subjects.parse_request(stored.headers.get(h.SCHEDULE_TARGET, ""))
    except (UsageError, KeyError):
        return None
    deadline = stored.headers.get(h.JOB_DEADLINE, "").removesuffix("s")
    return Schedule(
        workspace=workspace, rule=rule, workflow=workflow, priority=priority, input=stored.body,
        blob=stored.headers.get(h.JOB_BLOB, ""), deadline_s=float(deadline) if deadline else None,
        version=stored.headers.get(h.JOB_VERSION, ""),
        sequence=stored.sequence, changed_at=stored.at,
    )  # fmt: skip


# ---- times


def due_at(rule: Rule, next_header: str, stored_at: datetime) -> datetime:
    """The time for which the server brought a message, from what it says of the next one."""
    next_at = _instant(next_header)
    if next_at is None:
        return stored_at.replace(microsecond=0)
    if rule.every_s is not None:
        return next_at - timedelta(seconds=rule.every_s)
    return cron_time_before(rule.cron, rule.time_zone, next_at)


def is_overtaken(next_header: str, now: datetime) -> bool:
    """Whether the next message has been due for long."""
    next_at = _instant(next_header)
    return next_at is not None and (now - next_at).total_seconds() > OVERTAKEN_S


def _instant(text: str) -> datetime | None:
    """As the server writes it: in the zone of the schedule. None for a word, or nothing."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return None


def run_id(name: str, due: datetime) -> str:
    """The job id of the run that was due at that instant."""
    return f"{name}-{due:%Y%m%dT%H%M%S}" + (f"{due.microsecond // 1000:03}Z" if due.microsecond else "Z")


def next_times(schedule: Schedule, now: datetime, last_due_at: datetime | None, number: int) -> list[datetime]:
    """When it will fire; nothing while it is paused. For a period it counts from the last time, or from its making."""
    rule = schedule.rule
    if rule.is_paused:
        return []
    if rule.every_s is None:
        return cron_times(rule.cron, rule.time_zone, now, number)
    began_at = (schedule.changed_at or now).replace(microsecond=0)
    return every_times(rule.every_s, max(began_at, last_due_at or began_at), now, number)
