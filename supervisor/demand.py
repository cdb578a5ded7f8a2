"""What is asked of a node on ``sup.<node>.*``, as it crosses the wire. Unknown fields are refused: a typing error in a
request that stops something must not pass for consent.
"""

from __future__ import annotations

import math
from typing import TypeVar

import msgspec

from bus.errors import UsageError
from supervisor.child import ChildStatus

DRAIN_S = 300.0
# Shorter than the patience of `nats req`, so that its user sees an answer; a longer wait has to be asked for.
WAIT_S = 4.0
# The broker of deploy/nats.conf lets a node answer within a minute.
WAIT_LIMIT_S = 50.0


class ActorDemand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Restart, stop or start ``actor``: its name, or a component's or group's for all of its actors.

    The answer comes when that is done, or after ``wait_s`` seconds.
    """

    actor: str
    wait_s: float = WAIT_S


class ScaleDemand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Run ``component`` in so many processes."""

    component: str
    replicas: int
    wait_s: float = WAIT_S


class DrainDemand(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Hand everything back and end; after ``timeout_s`` seconds calls in flight too. ``by``: who asks."""

    timeout_s: float = DRAIN_S
    by: str = ""


class DemandAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The actors concerned as they are now; ``done`` is false if it goes on."""

    node: str
    done: bool
    actors: list[ChildStatus] = []


Demand = TypeVar("Demand", ActorDemand, ScaleDemand, DrainDemand)


def read_demand(raw: bytes, kind: type[Demand], example: str) -> Demand:
    """A request's body; an empty one counts as ``{}``. Raises: UsageError that shows ``example``."""
    try:
        demand = msgspec.json.decode(raw if raw.strip() else b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"the request cannot be read: {error}", code="bad_request", hint=example) from error
    for field in ("wait_s", "timeout_s"):
        seconds = getattr(demand, field, 0.0)
        if not (math.isfinite(seconds) and seconds >= 0):
            raise UsageError(f"{field} is {seconds}", code="bad_request", path=field, hint="seconds from 0")
    return demand
