"""Trying what the broker lets this user do, without doing it.

Each request is one that the server refuses for another reason to a user who may do everything, so nothing is stored,
made or taken. What the broker forbids shows as a permissions violation.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from actors.console.amount import plural
from actors.doctor.finding import Finding, Level
from bus import subjects
from bus.connection import ApiError, Bus, Message, NoResponder
from bus.errors import Ambiguous, BusError, PermissionRefused
from bus.streams import EVENTS, JOBS, REGISTRY

_TIMEOUT_S = 1.0
_NAME = "callboard-doctor"
# An append on this condition is refused by every stream of ours (error 10060), after the broker has let it pass.
_OTHER_STREAM = {"Nats-Expected-Stream": _NAME}


@dataclass(frozen=True)
class Probe:
    """A request to try, and what for; ``level`` is how bad a refusal is."""

    subject: str
    purpose: str
    level: Level = "fail"
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def publish_probes(workspace: str) -> list[Probe]:
    """What clients and nodes publish."""
    job = subjects.event(workspace, _NAME, "signal.probe")
    return [
        Probe(subjects.job_request(workspace, _NAME), "submit jobs", headers=_OTHER_STREAM),
        Probe(job, "send signals, run jobs and tools", headers=_OTHER_STREAM),
        Probe(subjects.event(workspace, _NAME, "approval.answered"), "answer approvals", "warn", headers=_OTHER_STREAM),
        Probe(subjects.event(workspace, _NAME, "job.retried"), "retry failed jobs", "warn", headers=_OTHER_STREAM),
        Probe(subjects.event(workspace, _NAME, "job.amended"), "amend jobs", "warn", headers=_OTHER_STREAM),
        Probe(subjects.event(workspace, _NAME, "dead.dropped"), "see to dead letters", "warn", headers=_OTHER_STREAM),
        Probe(subjects.timer(workspace, _NAME, "probe"), "run jobs that sleep", headers=_OTHER_STREAM),
        Probe(f"$KV.registry.{_NAME}", "register components", headers=_OTHER_STREAM),
        Probe(f"$KV.workflows.{_NAME}", "publish workflows", "warn", headers=_OTHER_STREAM),
        Probe(f"$KV.breakers.{_NAME}", "open circuits of tools", "warn", headers=_OTHER_STREAM),
        Probe(f"$KV.cache.{_NAME}", "run workflows whose steps have a cache", "warn", headers=_OTHER_STREAM),
        Probe(f"$KV.budgets.{_NAME}", "run agents with a budget", "warn", headers=_OTHER_STREAM),
        Probe(
            f"$KV.threads.{workspace}.{_NAME}",
            "run agents that go on with threads, forget threads",
            "warn",
            headers=_OTHER_STREAM,
        ),
        Probe(f"$KV.locks.{_NAME}", "run jobs with critical sections or limits", "warn", headers=_OTHER_STREAM),
        Probe(f"$KV.duties.{_NAME}", "do the duties of the cluster in their turn", "warn", headers=_OTHER_STREAM),
        Probe(subjects.api(workspace, "doctor", "probe"), "ask gateways"),
        Probe(f"$JS.API.STREAM.INFO.{REGISTRY}", "see that the streams are there"),
        Probe(f"$JS.API.DIRECT.GET.{EVENTS}", "read the log", body=b'{"seq":9223372036854775807}'),
        Probe(f"$JS.API.CONSUMER.CREATE.{EVENTS}.{_NAME}", "run tools, follow jobs", body=b"{}"),
        Probe(f"$JS.API.CONSUMER.CREATE.{JOBS}.{_NAME}", "run jobs", body=b"{}"),
        Probe(f"$JS.API.CONSUMER.MSG.NEXT.{EVENTS}.{_NAME}", "run tools, follow jobs"),
        Probe(f"$JS.API.CONSUMER.MSG.NEXT.{JOBS}.{_NAME}", "run jobs"),
        Probe(f"$JS.ACK.{EVENTS}.{_NAME}.1.1.1.1.0", "run tools"),
        Probe(f"$JS.ACK.{JOBS}.{_NAME}.1.1.1.1.0", "run jobs"),
        # Once the streams are there, nobody needs this: an operator may have made them.
        Probe(f"$JS.API.STREAM.CREATE.{EVENTS}", "be the first node", "warn", body=b"{"),
    ]


def subscribe_probes(workspace: str) -> list[Probe]:
    """What clients and nodes subscribe to."""
    return [
        Probe(subjects.live(workspace, _NAME, ">"), "hear events"),
        Probe(subjects.api(workspace, "doctor", "probe"), "be a gateway", "warn"),
        Probe(subjects.asset_refresh(_NAME), "be told to load assets anew", "warn"),
        Probe(f"$SRV.PING.{_NAME}", "be found by 'nats micro ls'", "warn"),
    ]


async def try_permissions(bus: Bus, workspace: str) -> list[Finding]:
    """One finding for each thing that is refused, or one that nothing is."""
    tried = [("publish to", probe, await _may_publish(bus, probe)) for probe in publish_probes(workspace)]
    tried += [("subscribe to", probe, await _may_subscribe(bus, probe)) for probe in subscribe_probes(workspace)]
    refused = [_refused(verb, probe) for verb, probe, is_allowed in tried if not is_allowed]
    return refused or [Finding("ok", "permissions", f"{plural(len(tried), 'subject')} tried, none refused")]


def _refused(verb: str, probe: Probe) -> Finding:
    detail = f"this user may not {verb} {probe.subject}"
    return Finding(probe.level, "permissions", detail, f"allow it for those who have to {probe.purpose}")


async def _may_publish(bus: Bus, probe: Probe) -> bool:
    bus.last_error = ""
    try:
        await bus.request(probe.subject, probe.body, headers=probe.headers or None, timeout_s=_TIMEOUT_S)
    except PermissionRefused:
        return False
    except Ambiguous:
        return not _is_violation(bus.last_error)
    except (NoResponder, ApiError):
        return True
    return True


async def _may_subscribe(bus: Bus, probe: Probe) -> bool:
    bus.last_error = ""
    subscription = await bus.subscribe(probe.subject, _ignore)
    try:
        async with asyncio.timeout(_TIMEOUT_S * 5):
            await bus.settle()  # the server answers in order: its refusal comes before the end of this
    except TimeoutError as error:
        raise BusError("the server did not answer in time") from error
    if _is_violation(bus.last_error):
        return False
    await subscription.unsubscribe()
    return True


def _is_violation(error: str) -> bool:
    return "permissions violation" in error.lower()


def _ignore(_: Message) -> None:
    """A probe is not interested in what comes."""
