"""What a node counts of its children, as Prometheus metrics. Pure: from a snapshot of the node to metric families.

Everything here is known to the node anyway, from its own children, their heartbeats and the events of breakers: no
metric costs a call a message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from bus.system_events import KillCause
from supervisor.child import ChildState
from supervisor.heartbeat import LATENCY_BOUNDS_S
from supervisor.tally import BREAKER_STATES, Snapshot

TOKEN_KINDS = ("input", "output", "cache_read", "cache_write")


def families(now: Snapshot) -> Iterator[Metric]:
    """All metric families, each with a sample for every child or breaker that it is about."""
    yield from _of_node(now)
    yield from _of_actors(now)
    yield from _of_breakers(now)
    yield from _of_models(now)


def _of_node(now: Snapshot) -> Iterator[Metric]:
    node, status = now.status.node, now.status
    states = Counter(actor.state for actor in status.actors)
    yield _gauge("node_healthy", "1 unless a group is given up.", ("node",), {(node,): float(status.healthy)})
    yield _gauge("node_draining", "1 while the node takes nothing more.", ("node",), {(node,): float(status.draining)})
    yield _gauge("groups_given_up", "Groups with children that are not restarted any more.", ("node",),
                 {(node,): len(status.given_up)})  # fmt: skip
    yield _gauge("actors", "Actors by state.", ("node", "state"),
                 {(node, state): states[state] for state in get_args(ChildState)})  # fmt: skip


def _of_actors(now: Snapshot) -> Iterator[Metric]:
    node, names = now.status.node, [actor.name for actor in now.status.actors]
    actor = ("node", "actor")
    yield _counter("actor_restarts", "Restarts of an actor's process.", actor,
                   {(node, name): now.tally.restarts[name] for name in names})  # fmt: skip
    yield _counter("actor_kills", "Processes killed by the node, by cause.", (*actor, "cause"),
                   {(node, name, cause): now.tally.kills[name, cause] for name in names
                    for cause in get_args(KillCause)})  # fmt: skip
    yield _gauge("heartbeat_age_seconds", "Time since an actor's last heartbeat.", actor,
                 {(node, name): age_s for name, age_s in now.ages_s.items()})  # fmt: skip
    yield _counter("handled", "Calls or jobs that an actor's process has done with.", actor,
                   {(node, name): beat.handled for name, beat in now.beats.items()})  # fmt: skip
    yield _gauge("busy", "Calls or jobs that an actor has in hand.", actor,
                 {(node, name): beat.busy for name, beat in now.beats.items()})  # fmt: skip
    yield _gauge("consumer_pending", "Messages that wait, for consumers whose actors here are idle.",
                 ("node", "stream", "consumer"),
                 {(node, *consumer): number for consumer, number in now.pending.items()})  # fmt: skip


def _of_breakers(now: Snapshot) -> Iterator[Metric]:
    states = now.tally.breakers
    is_in: dict[tuple[str, ...], float] = {
        (name, state): float(states[name] == state) for name in states for state in BREAKER_STATES
    }
    yield _gauge("breaker_state", "1 for the state that a circuit breaker is in.", ("breaker", "state"), is_in)
    yield _counter("breaker_transitions", "Times that a circuit breaker came into a state.", ("breaker", "to"),
                   {(name, state): number for (name, state), number in now.tally.transitions.items()})  # fmt: skip


def _of_models(now: Snapshot) -> Iterator[Metric]:
    """Counters begin anew with each process, as Prometheus expects them to."""
    labels = ("node", "actor", "provider", "model")
    beats = {
        (now.status.node, name, each.provider, each.model): each for name, beat in now.beats.items()
        for each in beat.models
    }  # fmt: skip
    yield _counter("model_calls", "Calls of models that ended, by ok or the code of their error.",
                   (*labels, "outcome"),
                   {(*key, outcome): number for key, beat in beats.items()
                    for outcome, number in beat.outcomes.items()})  # fmt: skip
    yield _counter("model_tokens", "Tokens by kind: input, output, cache_read, cache_write.", (*labels, "kind"),
                   {(*key, kind): getattr(beat, f"{kind}_tokens") for key, beat in beats.items()
                    for kind in TOKEN_KINDS})  # fmt: skip
    yield _counter("model_cost_usd", "What calls of models cost, as far as their prices are known.", labels,
                   {key: beat.cost_usd for key, beat in beats.items()})  # fmt: skip
    latency = HistogramMetricFamily("callboard_model_call_seconds", "How long calls of models took.", labels=labels)
    for key, beat in beats.items():
        latency.add_metric(key, list(_buckets(beat.latency)), beat.seconds)
    yield latency


def _buckets(latency: Sequence[int]) -> Iterator[tuple[str, float]]:
    """Each bound with how many calls took no longer."""
    bounds = [f"{bound:g}" for bound in LATENCY_BOUNDS_S] + ["+Inf"]
    yield from zip(bounds, accumulate(latency), strict=False)


Samples = Mapping[tuple[str, ...], float]


def _gauge(name: str, text: str, labels: tuple[str, ...], samples: Samples) -> Metric:
    family = GaugeMetricFamily(f"callboard_{name}", text, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], samples: Samples) -> Metric:
    family = CounterMetricFamily(f"callboard_{name}", text, labels=labels)
    for values, value in samples.items():
        family.add_metric(values, value)
    return family
