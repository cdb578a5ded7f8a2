"""``callboard doctor``: is this server fit to work on, and what is wrong with what is on it?

Nothing here changes anything. Permissions are tried with requests that a server refuses for another reason even to who
may do everything: an append that expects a stream of another name, a consumer without a configuration, a read beyond
the end of the log.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

from actors.console.amount import count, duration, plural, size
from actors.doctor.agent_findings import circuit_findings, node_findings, sandbox_findings
from actors.doctor.finding import Finding, worst
from actors.doctor.held_findings import held_findings
from actors.doctor.permissions import try_permissions
from bus.connection import ApiError, Bus, NoResponder
from bus.errors import BusError, BusUnreachable, ServerUnsuitable, StreamConflict, UsageError
from bus.options import ConnectOptions
from bus.reader import parse_instant
from bus.streams import EVENTS, JOBS, Change, Conflict, Limits, Same, plan, stream_info, wanted
from bus.subjects import DEFAULT_WORKSPACE, parse_request
from store.artifacts import CLAIM_BYTES

API_LEVEL_MIN = 2  # message schedules and per-message TTL
CLOCK_WARN_S = 1.0
CLOCK_FAIL_S = 30.0
SLOW_S = 0.1
NEARLY_FULL = 0.8
FULL = 0.95
__all__ = ["Finding", "examine", "worst"]
_OFF = "enable JetStream: start the server with 'nats-server -js', or give this account a 'jetstream' section"


async def examine(
    options: ConnectOptions, *, workspace: str = DEFAULT_WORKSPACE, timeout_s: float = 5.0
) -> list[Finding]:
    """Look at everything that can be seen over one connection. Never raises for what it finds, only for wrong use."""
    try:
        bus = await Bus.connect(options, name="callboard doctor", timeout_s=timeout_s)
    except BusUnreachable as error:
        return [Finding("fail", "server", error.args[0], error.hint)]
    except ServerUnsuitable as error:
        return [Finding("fail", "server", error.args[0], error.hint)]
    async with bus:
        return await _examine(bus, options, workspace)


async def _examine(bus: Bus, options: ConnectOptions, workspace: str) -> list[Finding]:
    where = options.servers[0]
    try:
        started_s = time.perf_counter()
        account = await bus.api("INFO")
        findings = [_reached(bus, where, time.perf_counter() - started_s)]
    except NoResponder:
        return [_reached(bus, where, 0), _payload(bus), Finding("fail", "JetStream", "it is off", _OFF)]
    except BusError as error:
        advice = _OFF if isinstance(error, ApiError) else "may this user publish to $JS.API.INFO?"
        return [_reached(bus, where, 0), _payload(bus), Finding("fail", "JetStream", str(error), advice)]
    findings += [_payload(bus), _api_level(account), *account_findings(account)]
    checks: list[tuple[str, Callable[[], Awaitable[list[Finding]]]]] = [
        ("streams", lambda: _streams(bus)),
        ("consumers", lambda: _consumers(bus)),
        ("clock", lambda: _clock(bus)),
        ("permissions", lambda: try_permissions(bus, workspace)),
        ("outbox", held_findings),
        ("actors", lambda: node_findings(bus)),
        ("circuits", lambda: circuit_findings(bus)),
        ("python sandbox", sandbox_findings),
    ]
    for what, check in checks:
        findings += await _guarded(what, check)
    return findings


async def _guarded(what: str, check: Callable[[], Awaitable[list[Finding]]]) -> list[Finding]:
    """One check that breaks must not hide what the others find."""
    try:
        return await check()
    except BusError as error:
        return [Finding("fail", what, f"could not be looked at: {error}", "run this again; see 'permissions' as well")]


# ---- the server


def _reached(bus: Bus, where: str, took_s: float) -> Finding:
    detail = f"nats-server {bus.server_version} at {where}"
    if took_s > SLOW_S:
        advice = "each step of a job costs some round trips: run nodes near the server"
        return Finding("warn", "server", f"{detail}, {duration(took_s)} away", advice)
    return Finding("ok", "server", f"{detail}, answers in {duration(took_s)}" if took_s else detail)


def _payload(bus: Bus) -> Finding:
    detail = f"messages of up to {size(bus.max_body_bytes)}"
    if bus.max_body_bytes < CLAIM_BYTES:
        advice = "set 'max_payload: 1MB' in the server's configuration"
        return Finding("fail", "message size", f"{detail}, {size(CLAIM_BYTES)} are needed", advice)
    return Finding("ok", "message size", detail)


def _api_level(account: dict[str, Any]) -> Finding:
    level = account.get("api", {}).get("level", 0)
    if level < API_LEVEL_MIN:
        advice = "upgrade nats-server to 2.12 or later on all servers of the cluster"
        return Finding("fail", "JetStream", f"API level {level}, {API_LEVEL_MIN} is needed", advice)
    return Finding("ok", "JetStream", f"on, API level {level}")


def account_findings(account: dict[str, Any]) -> list[Finding]:
    """Limits and usage in an answer to ``$JS.API.INFO``, in each tier if the account has tiers."""
    tiers = account.get("tiers") or {"": account}
    return [finding for name, tier in tiers.items() for finding in _tier(name, tier)]


def _tier(name: str, tier: dict[str, Any]) -> list[Finding]:
    limits = tier.get("limits", {})
    label = f"account {name}".strip()
    advice = "raise the account's limits, or remove old events ('nats stream purge EVENTS --subject ...')"
    return [
        _usage(f"{label}: disk", tier.get("storage", 0), limits.get("max_storage", -1), size, advice),
        _usage(f"{label}: streams", tier.get("streams", 0), limits.get("max_streams", -1), count, advice),
        _usage(f"{label}: consumers", tier.get("consumers", 0), limits.get("max_consumers", -1), count, advice),
    ]


def _usage(what: str, used: float, limit: float, show: Callable[[float], str], advice: str) -> Finding:
    if limit <= 0:
        return Finding("ok", what, f"{show(used)}, no limit")
    detail = f"{show(used)} of {show(limit)} ({used / limit:.0%})"
    if used >= limit * FULL:
        return Finding("fail", what, detail, advice)
    return Finding("warn", what, detail, advice) if used >= limit * NEARLY_FULL else Finding("ok", what, detail)


# ---- streams


async def _streams(bus: Bus) -> list[Finding]:
    findings: list[Finding] = []
    for want in wanted(Limits()):
        info = await stream_info(bus, want["name"])
        findings += stream_findings(want, info)
    return findings


def stream_findings(want: dict[str, Any], info: dict[str, Any] | None) -> list[Finding]:
    """How a stream is (the answer to STREAM.INFO, None if there is none) against how it has to be."""
    what = f"stream {want['name']}"
    if info is None:
        return [
            Finding("warn", what, "does not exist yet", "the first node makes it: 'callboard up' or 'callboard node'")
        ]
    decision = plan(info["config"], want)
    match decision:
        case Same():
            return _stream_usage(what, info)
        case Change(_, additions):
            advice = "the next node that starts adds it"
            return [Finding("warn", what, f"lacks {', '.join(additions)}", advice), *_stream_usage(what, info)]
        case Conflict(differences):
            error = StreamConflict(want["name"], differences)
            return [Finding("fail", what, "; ".join(differences), error.hint)]
    assert_never(decision)


def _stream_usage(what: str, info: dict[str, Any]) -> list[Finding]:
    state, config = info["state"], info["config"]
    copies = plural(config["num_replicas"], "copy", "copies")
    detail = f"{plural(state['messages'], 'message')}, {size(state['bytes'])}, {copies}"
    limit_bytes = config.get("max_bytes", -1)
    advice = f"raise it: 'nats stream edit {config['name']} --max-bytes ...'; while it is full, writers wait"
    found = [Finding("ok", what, detail)]
    if limit_bytes > 0:
        found.append(_usage(f"{what}: limit", state["bytes"], limit_bytes, size, advice))
    lost = state.get("lost")
    if lost:
        detail = f"{plural(len(lost.get('msgs') or []), 'message')} lost from its files"
        found.append(
            Finding("fail", what, detail, "restore from a backup; jobs that had these events cannot be trusted")
        )
    return found


# ---- consumers


async def _consumers(bus: Bus) -> list[Finding]:
    by_stream = {stream: await _list_consumers(bus, stream) for stream in (JOBS, EVENTS)}
    findings = [f for consumers in by_stream.values() for consumer in consumers for f in consumer_findings(consumer)]
    waiting = await _unserved(bus, by_stream[JOBS])
    findings += [unserved_finding(workflow, number) for workflow, number in sorted(waiting.items())]
    total = sum(len(consumers) for consumers in by_stream.values())
    quiet = Finding("ok", "consumers", f"{plural(total, 'consumer')}, no work is left lying")
    return findings or [quiet]


async def _list_consumers(bus: Bus, stream: str) -> list[dict[str, Any]]:
    consumers: list[dict[str, Any]] = []
    try:
        while True:
            page = await bus.api(f"CONSUMER.LIST.{stream}", {"offset": len(consumers)})
            consumers += page.get("consumers") or []
            if not page.get("consumers") or len(consumers) >= page["total"]:
                return consumers
    except ApiError as error:
        if error.code == 404:
            return []
        raise


def consumer_findings(consumer: dict[str, Any]) -> list[Finding]:
    """What is wrong with one consumer (an entry of CONSUMER.LIST); nothing for one that works."""
    what, pending = f"consumer {consumer['name']}", consumer.get("num_pending", 0)
    if consumer["config"].get("ack_policy") == "none":  # a tail
        return []
    if consumer.get("paused"):
        detail = f"paused, {plural(pending, 'message')} waiting"
        return [Finding("warn", what, detail, f"'nats consumer resume {consumer['stream_name']} {consumer['name']}'")]
    found: list[Finding] = []
    in_flight, idle = consumer.get("num_ack_pending", 0), consumer.get("num_waiting", 0) == 0
    if pending and idle and not in_flight:
        detail = f"{plural(pending, 'message')} waiting and nobody takes them"
        found.append(Finding("warn", what, detail, f"start a node that has {_served_by(consumer['name'])}"))
    if in_flight >= consumer["config"].get("max_ack_pending", 1_000_000_000) > 0:
        detail = f"{plural(in_flight, 'message')} in flight, its limit: it hands out no more"
        found.append(Finding("fail", what, detail, "find out why nothing is acknowledged: 'callboard ps'"))
    if redelivered := consumer.get("num_redelivered", 0):
        detail = f"{plural(redelivered, 'message')} in flight that had been taken before"
        found.append(
            Finding("warn", what, detail, "an actor died or is failing on them: 'callboard ps', 'callboard tail'")
        )
    return found


def _served_by(consumer: str) -> str:
    """``tool-quote-v1`` as tool quote v1, ``job-order-normal`` as workflow order. Names may hold dashes too."""
    kind, _, rest = consumer.partition("-")
    name, _, last = rest.rpartition("-")
    if kind == "job" and name:
        return f"workflow {name} (one with --workflows has all that are published)"
    return f"{kind} {name} {last}" if kind in ("tool", "agent") and name else "it"


async def _unserved(bus: Bus, consumers: list[dict[str, Any]]) -> dict[str, int]:
    """Requests in JOBS that no consumer covers, counted by workflow."""
    info = await stream_info(bus, JOBS, subjects="jobs.>")
    counts: dict[str, int] = (info or {}).get("state", {}).get("subjects") or {}
    return unserved(counts, [pattern for consumer in consumers for pattern in _filters(consumer["config"])])


def _filters(config: dict[str, Any]) -> list[str]:
    return config.get("filter_subjects") or [config.get("filter_subject") or ">"]


def unserved(counts: dict[str, int], filters: list[str]) -> dict[str, int]:
    """Messages by workflow at subjects (with their numbers) that none of the filters takes in."""
    patterns = [pattern.split(".") for pattern in filters]
    left: dict[str, int] = {}
    for subject, number in counts.items():
        tokens = subject.split(".")
        if not any(_covers(pattern, tokens) for pattern in patterns):
            name = _workflow(subject)
            left[name] = left.get(name, 0) + number
    return left


def _covers(pattern: list[str], tokens: list[str]) -> bool:
    if pattern[-1] == ">":
        pattern, tokens = pattern[:-1], tokens[: len(pattern) - 1] if len(tokens) >= len(pattern) else []
    return len(pattern) == len(tokens) and all(p in ("*", t) for p, t in zip(pattern, tokens, strict=True))


def _workflow(subject: str) -> str:
    try:
        return parse_request(subject).workflow
    except UsageError:
        return subject


def unserved_finding(workflow: str, number: int) -> Finding:
    """Requests that nobody will take, and what to do."""
    detail = f"{plural(number, 'request')} for workflow {workflow}, which nobody serves"
    return Finding(
        "warn", "requests", detail, f"start a node that has {workflow}; a gateway refuses them after a while"
    )


# ---- clock


async def _clock(bus: Bus) -> list[Finding]:
    for want in wanted(Limits()):
        before = datetime.now(UTC)
        info = await stream_info(bus, want["name"])
        after = datetime.now(UTC)
        if info is not None and "ts" in info:
            return [clock_finding(before, parse_instant(info["ts"]), after)]
    return [Finding("ok", "clock", "not compared: the server tells its time with a stream only")]


def clock_finding(before: datetime, server: datetime, after: datetime) -> Finding:
    """The difference to the server's clock, which lies somewhere between our two looks at ours."""
    zero = timedelta()
    ahead = max(zero, before - server) - max(zero, server - after)
    off_s = abs(ahead.total_seconds())
    if off_s < CLOCK_WARN_S:
        return Finding("ok", "clock", "agrees with the server's")
    detail = f"this machine is {duration(off_s)} {'ahead of' if ahead > zero else 'behind'} the server"
    advice = (
        "turn on time synchronisation (NTP) on both: timers fire by the server's clock, sleeps are set by the host's"
    )
    return Finding("fail" if off_s >= CLOCK_FAIL_S else "warn", "clock", detail, advice)
