"""Every subject of the system: built here, parsed here, nowhere else.

A name is one subject token. It must not hold a dot, a space or a wildcard, else it would change the shape of the
subject that it is put in; so names are checked where they enter and subjects need no check later.

    jobs.<workspace>.<workflow>[.<priority>]                  job requests         (stream JOBS)
    timers.<workspace>.<job>.<key>                            schedules            (stream JOBS)
    log.<workspace>.<job>.<kind...>                           events, as written   (stream EVENTS)
    events.<workspace>.<job>.<kind...>                        events, once stored  (republished by the server)
    api.<workspace>.<noun>.<verb>                             NATS micro services
    sup.<node>.<order>                                        orders to a node: ps, restart, stop, start, scale, drain
    hb.<node>.<actor>                                         heartbeats to the actor's node
    stream.<workspace>.<job>                                  what a model says for a job, live, nothing stored
    asset.<name>.refresh                                      the word to all processes to load an asset anew
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple, get_args

from bus.errors import UsageError

Priority = Literal["high", "normal", "low"]
CallKind = Literal["tool", "agent", "job"]
JobEnd = Literal["completed", "failed", "cancelled", "rejected"]
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
CALL_KINDS: tuple[CallKind, ...] = get_args(CallKind)
JOB_ENDS: tuple[JobEnd, ...] = get_args(JobEnd)

DEFAULT_WORKSPACE = "default"
SYSTEM_WORKSPACE = "_system"
NAME_LIMIT_CHARS = 64
JOB_ID_LIMIT_CHARS = 128

_NAME = re.compile(r"[A-Za-z0-9_-]+")


def check_name(value: str, what: str, *, limit: int = NAME_LIMIT_CHARS) -> str:
    """Return ``value`` if it can be one token of a subject.

    Raises: UsageError that names the character or length that is wrong.
    """
    if not value:
        raise UsageError(f"{what} is empty", code="bad_name", path=what, hint=_NAME_HINT)
    if len(value) > limit:
        raise UsageError(f"{what} has {len(value)} characters, the limit is {limit}", code="bad_name", path=what)
    if not _NAME.fullmatch(value):
        bad = next(c for c in value if not _NAME.fullmatch(c))
        raise UsageError(f"{what} {value!r} holds {bad!r}", code="bad_name", path=what, hint=_NAME_HINT)
    return value


_NAME_HINT = "letters, digits, '_' and '-' are allowed"


def check_job_id(value: str) -> str:
    """Return ``value`` if it can be a job id: one token of at most 128 characters. Raises: UsageError."""
    return check_name(value, "job id", limit=JOB_ID_LIMIT_CHARS)


# ---- live text


def stream(workspace: str, job: str) -> str:
    """Where pieces of a model's answer are said while it is made. Raises: UsageError."""
    return f"stream.{check_name(workspace, 'workspace')}.{check_job_id(job)}"


def stream_so_far(workspace: str, job: str) -> str:
    """Where late comers ask for what was said of answers that are under way. Raises: UsageError."""
    return f"{stream(workspace, job)}.so_far"


# ---- requests and timers (stream JOBS)


def job_request(workspace: str, workflow: str, priority: Priority = "normal") -> str:
    """Where a request for a new job is published; normal priority needs no third token."""
    base = f"jobs.{workspace}.{workflow}"
    return base if priority == "normal" else f"{base}.{priority}"


def request_filters(workflow: str, priority: Priority) -> list[str]:
    """The filters of the consumer that serves one workflow at one priority, in every workspace."""
    filters = [f"jobs.*.{workflow}.{priority}"]
    return [f"jobs.*.{workflow}", *filters] if priority == "normal" else filters


class RequestSubject(NamedTuple):
    """A parsed ``jobs.…`` subject."""

    workspace: str
    workflow: str
    priority: Priority


def parse_request(subject: str) -> RequestSubject:
    """Take a request's subject apart. Raises: UsageError if it is none."""
    match subject.split("."):
        case ["jobs", workspace, workflow]:
            return RequestSubject(workspace, workflow, "normal")
        case ["jobs", workspace, workflow, ("high" | "normal" | "low") as priority]:
            return RequestSubject(workspace, workflow, priority)
    raise UsageError(f"{subject} is no job request", code="bad_subject",
                     hint="jobs.<workspace>.<workflow>[.high|normal|low]")  # fmt: skip


def timer(workspace: str, job: str, key: str) -> str:
    """The subject of one durable timer; publishing to it again replaces the timer."""
    return f"timers.{workspace}.{job}.{key}"


def start_timer(workspace: str, job: str) -> str:
    """The schedule of a job that is planned; wildcards allowed."""
    return timer(workspace, job, "start")


# ---- the log (stream EVENTS)


def log_prefix(workspace: str, job: str) -> str:
    """What all events of one job start with, without the final dot."""
    return f"log.{workspace}.{job}"


def event(workspace: str, job: str, kind: str) -> str:
    """Where an event of that kind is written."""
    return f"log.{workspace}.{job}.{kind}"


def live(workspace: str, job: str, kind: str) -> str:
    """Where the server republishes an event once it is stored; wildcards allowed."""
    return f"events.{workspace}.{job}.{kind}"


def call_kind(kind: CallKind, name: str, major: int) -> str:
    """The kind of a command: ``call.tool.quote.v1``."""
    return f"call.{kind}.{name}.v{major}"


def call_filter(kind: CallKind, name: str, major: int) -> str:
    """The filter of the consumer that all replicas of one component share."""
    return f"log.*.*.{call_kind(kind, name, major)}"


class EventSubject(NamedTuple):
    """A parsed ``log.…`` or ``events.…`` subject; ``kind`` still has its dots."""

    workspace: str
    job: str
    kind: str


def parse_event(subject: str) -> EventSubject:
    """Take an event's subject apart. Raises: UsageError if it is none."""
    parts = subject.split(".", 3)
    if len(parts) == 4 and parts[0] in ("log", "events"):
        return EventSubject(parts[1], parts[2], parts[3])
    raise UsageError(f"{subject} is no event", code="bad_subject", hint="log.<workspace>.<job>.<kind>")


# ---- services


def api(workspace: str, noun: str, verb: str) -> str:
    """A command or query service: ``api.default.jobs.submit``."""
    return f"api.{workspace}.{noun}.{verb}"


# A micro service for each host of published workflows: one for each workflow would cost ten subscriptions.
PUBLISHED_SERVICE = "callboard-workflows"


# ---- supervisors


def control(node: str, order: str) -> str:
    """Where a node takes an order such as ``restart``."""
    return f"sup.{check_name(node, 'node')}.{order}"


# ---- heartbeats


def heartbeat(node: str, actor: str) -> str:
    """Where an actor says that it is alive, and what it is at; wildcards allowed."""
    return f"hb.{node}.{actor}"


# ---- assets


def asset_refresh(name: str) -> str:
    """Where all processes that have the asset hear that they are to load it anew."""
    return f"asset.{check_name(name, 'name of the asset')}.refresh"


def asset_of(subject: str) -> str:
    """The asset that such a subject is about."""
    return subject.split(".")[1]
