"""The streams of the system, and how they come to be and grow.

``plan`` is pure: given what exists and what we want, it says create, update, nothing, or conflict. Additions are made
(a subject, a capability switched on); limits and replicas that exist belong to the operator and are left alone; what
would change meaning (retention, storage) is explained and refused, never changed silently.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from bus.connection import ApiError, Bus, NoResponder
from bus.errors import Ambiguous, ServerUnsuitable, StreamConflict, UsageError

log = logging.getLogger("callboard.streams")

JOBS = "JOBS"
EVENTS = "EVENTS"
REGISTRY = "KV_registry"
DUTIES = "KV_duties"
BREAKERS = "KV_breakers"
WORKFLOWS = "KV_workflows"
LOCKS = "KV_locks"
CACHE = "KV_cache"
BUDGETS = "KV_budgets"
THREADS = "KV_threads"

ACCOUNT_KEPT_S = 30 * 86_400

REPLICAS_VARIABLE = "CALLBOARD_STREAM_REPLICAS"
REPLICAS = ("1", "3", "5")

_UNAVAILABLE = 503
_NOT_FOUND = 10059
_OVERLAP = 10065
_EXISTS = 10058
_S = 1_000_000_000


@dataclass(frozen=True)
class Limits:
    """What an operator chooses when the streams are first made; 0 is no limit. ``replicas``: how many servers hold each
    message, 1, 3 or 5 of a cluster.
    """

    replicas: int = 1
    events_max_age_s: float = 0
    events_max_bytes: int = 0


def chosen_limits(env: Mapping[str, str]) -> Limits:
    """What the environment of this process chooses. Raises: UsageError."""
    text = env.get(REPLICAS_VARIABLE) or "1"
    if text not in REPLICAS:
        raise UsageError(
            f"{REPLICAS_VARIABLE} is {text!r}", code="bad_replicas", path=REPLICAS_VARIABLE,
            hint="1 on a single server, 3 or 5 in a cluster of as many; an even number outlives no more than one less",
        )  # fmt: skip
    return Limits(replicas=int(text))


def wanted(limits: Limits) -> list[dict[str, Any]]:
    """The configurations of all our streams, as the JetStream API takes them."""
    common = {"storage": "file", "allow_direct": True, "num_replicas": limits.replicas}
    return [
        common
        | {
            # No limit of its own: the server refuses "discard new" beside schedules (10052), and "discard old" at a
            # limit would drop requests that were accepted. A full account refuses them, which is what we want.
            "name": JOBS, "subjects": ["jobs.>", "timers.>"], "retention": "workqueue", "discard": "old",
            "allow_msg_schedules": True, "allow_msg_ttl": True, "description": "Callboard: what is to be done",
        },
        common
        | {
            # discard new: a full log pushes back. Dropping its oldest events would rob parked jobs of their past.
            "name": EVENTS, "subjects": ["log.>"], "retention": "limits", "discard": "new",
            "republish": {"src": "log.>", "dest": "events.>"}, "max_age": int(limits.events_max_age_s * _S),
            "max_bytes": limits.events_max_bytes or -1, "allow_msg_ttl": True,
            "description": "Callboard: what happened",
        },
        *(common | bucket for bucket in _buckets()),
    ]  # fmt: skip


def _buckets() -> list[dict[str, Any]]:
    """The key-value buckets."""
    return [
        _bucket(REGISTRY, "every component in every version", deny_delete=True),
        # No limit markers: an expired lease leaves nothing, so the next holder expects sequence 0 (NATS-FACTS 6).
        _bucket(DUTIES, "who does the duties of the cluster", deny_delete=True, allow_msg_ttl=True),
        _bucket(BREAKERS, "circuits that are or were open", deny_delete=True),
        # Messages are deleted one by one: who has waited leaves no mark, and a free lock expires.
        _bucket(LOCKS, "who holds a lock, and who waits for it", allow_msg_ttl=True),
        _bucket(WORKFLOWS, "published workflows in every version", deny_delete=True),
        # Bounded by the time that each output may be used: a limit in bytes would be set aside at once.
        _bucket(CACHE, "outputs that may be used again", allow_msg_ttl=True),
        _bucket(BUDGETS, "what jobs may use up, and have", max_age=ACCOUNT_KEPT_S * _S),
        _bucket(THREADS, "conversations that go on over jobs", allow_msg_ttl=True),
    ]


def _bucket(name: str, holds: str, **more: int) -> dict[str, Any]:
    """A stream of the shape that every client makes for a KV bucket (ADR-8), so `nats kv ls registry` works."""
    return {
        "name": name, "subjects": [f"${name.replace('_', '.', 1)}.>"], "retention": "limits", "discard": "new",
        "max_msgs_per_subject": 1, "allow_rollup_hdrs": True, "description": f"Callboard: {holds}", **more,
    }  # fmt: skip


# ---- plan: pure


@dataclass(frozen=True)
class Same:
    """The stream serves as it is."""


@dataclass(frozen=True)
class Change:
    """``config`` is the existing one with our additions; ``additions`` says them in words."""

    config: dict[str, Any]
    additions: list[str]


@dataclass(frozen=True)
class Conflict:
    """What differs in a way that we will not change."""

    differences: list[str]


Plan = Same | Change | Conflict

_FIXED = ("retention", "storage", "max_msgs_per_subject", "discard")
_SWITCHES = ("allow_direct", "allow_msg_schedules", "allow_msg_ttl", "allow_rollup_hdrs")


def plan(existing: dict[str, Any], want: dict[str, Any]) -> Plan:
    """What to do about a stream that exists with ``existing`` when we need ``want``."""
    differences = [
        f"{key} is {existing.get(key)!r}, needed is {want[key]!r}"
        for key in _FIXED
        if key in want and existing.get(key) != want[key]
    ]
    if existing.get("republish", want.get("republish")) != want.get("republish"):
        differences.append(f"republish is {existing.get('republish')!r}, needed is {want.get('republish')!r}")
    if differences:
        return Conflict(differences)
    return _additions(existing, want)


def _additions(existing: dict[str, Any], want: dict[str, Any]) -> Plan:
    config, additions = dict(existing), []
    missing = [s for s in want["subjects"] if s not in existing.get("subjects", [])]
    if missing:
        config["subjects"] = [*existing.get("subjects", []), *missing]
        additions.append(f"subjects {', '.join(missing)}")
    for key in _SWITCHES:
        if want.get(key) and not existing.get(key):
            config[key] = True
            additions.append(key)
    if "republish" in want and "republish" not in existing:
        config["republish"] = want["republish"]
        additions.append("republish")
    return Change(config, additions) if additions else Same()


# ---- the shell that does what the plan says


async def ensure_streams(bus: Bus, limits: Limits | None = None) -> list[str]:
    """Make or grow all our streams; idempotent and safe to race. Returns what was done, in words.

    ``limits`` None: what the environment chooses. Raises: UsageError, ServerUnsuitable (JetStream is off),
    StreamConflict, ApiError (no permission, limits of the account).
    """
    done: list[str] = []
    for want in wanted(limits or chosen_limits(os.environ)):
        done += await _ensure(bus, want)
    return done


async def wait_for_streams(bus: Bus) -> list[str]:
    """:func:`ensure_streams` for a process that is of no use without: waits while a cluster has no leader.

    Returns what was done. Raises: as ensure_streams, but for an outage; BusClosed.
    """
    wait_s = 0.1
    while True:
        try:
            return await ensure_streams(bus)
        except Ambiguous as error:
            log.warning("%s; trying again", error)
        except ApiError as error:
            if error.code != _UNAVAILABLE:
                raise
            log.warning("%s; trying again", error)
        await bus.settle()
        await asyncio.sleep(random.random() * wait_s)
        wait_s = min(2.0, wait_s * 2)


async def _ensure(bus: Bus, want: dict[str, Any]) -> list[str]:
    name = want["name"]
    existing = await stream_config(bus, name)
    if existing is None:
        return await _create(bus, name, want)
    decision = plan(existing, want)
    match decision:
        case Same():
            return []
        case Change(config, additions):
            await bus.api(f"STREAM.UPDATE.{name}", config)
            return [f"{name}: added {', '.join(additions)}"]
        case Conflict(differences):
            raise StreamConflict(name, differences)
    assert_never(decision)


async def _create(bus: Bus, name: str, want: dict[str, Any]) -> list[str]:
    try:
        await bus.api(f"STREAM.CREATE.{name}", want)
    except ApiError as error:
        if error.err_code == _OVERLAP:
            raise StreamConflict(name, [f"another stream holds its subjects {want['subjects']}"]) from error
        if error.err_code == _EXISTS:  # somebody was faster, with other limits: those are the operator's
            return await _ensure(bus, want)
        raise
    return [f"{name}: created"]


async def stream_config(bus: Bus, name: str) -> dict[str, Any] | None:
    """The configuration of a stream, None if there is none. Raises: ServerUnsuitable if JetStream is off."""
    info = await stream_info(bus, name)
    return None if info is None else info["config"]


async def stream_info(bus: Bus, name: str, *, subjects: str = "") -> dict[str, Any] | None:
    """The API's answer to STREAM.INFO, with message counts per subject if a filter is given."""
    try:
        return await bus.api(f"STREAM.INFO.{name}", {"subjects_filter": subjects} if subjects else None)
    except NoResponder as error:
        hint = "start it with 'nats-server -js'"
        raise ServerUnsuitable("JetStream is off on this server or account", hint=hint) from error
    except ApiError as error:
        if error.err_code == _NOT_FOUND:
            return None
        if error.err_code in (10039, 10076):
            hint = "enable it for this account"
            raise ServerUnsuitable(f"JetStream is off: {error.description}", hint=hint) from error
        raise


async def ensure_consumer(
    bus: Bus,
    stream: str,
    name: str,
    filters: list[str],
    *,
    ack_wait_s: float,
    max_ack_pending: int = 100_000,
    inactive_s: float | None = None,
) -> None:
    """Make the durable pull consumer that all replicas share; idempotent. It goes if nobody pulls for ``inactive_s``.

    Raises: ApiError, NoResponder.
    """
    config: dict[str, Any] = {
        "durable_name": name, "name": name, "ack_policy": "explicit", "ack_wait": int(ack_wait_s * _S),
        "deliver_policy": "all", "max_deliver": -1, "max_ack_pending": max_ack_pending, "max_waiting": 4096,
    }  # fmt: skip
    if inactive_s is not None:
        config["inactive_threshold"] = int(inactive_s * _S)
    config |= {"filter_subject": filters[0]} if len(filters) == 1 else {"filter_subjects": filters}
    # With the filter in the subject the server's permissions can say whose messages a consumer may be made for.
    place = f"{stream}.{name}.{filters[0]}" if len(filters) == 1 else f"{stream}.{name}"
    await bus.api(f"CONSUMER.CREATE.{place}", {"stream_name": stream, "config": config})


async def tail_consumer(bus: Bus, stream: str, name: str, subject: str, *, since: int, inactive_s: float = 30) -> None:
    """Make a short-lived pull consumer that reads ``subject`` from after ``since``, in memory, without acks."""
    config: dict[str, Any] = {
        "name": name, "ack_policy": "none", "deliver_policy": "by_start_sequence", "opt_start_seq": since + 1,
        "filter_subject": subject, "mem_storage": True, "num_replicas": 1, "inactive_threshold": int(inactive_s * _S),
        "max_waiting": 8,
    }  # fmt: skip
    await bus.api(f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})
