"""What a node says of itself, and finding an actor by what people call it. Pure but for the question to the bus."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from datetime import datetime

import msgspec

from bus.connection import Bus
from bus.errors import UsageError
from supervisor.child import ChildStatus, GivenUp

PS_SUBJECT = "sup.ps"


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A node's answer to ``ps``. It is not healthy while actors are ``given_up``: they stay so until someone asks."""

    node: str
    pid: int
    started_at: datetime
    app: str = ""
    healthy: bool = True
    draining: bool = False
    given_up: list[GivenUp] = []
    actors: list[ChildStatus] = []


def actors_named(actors: Sequence[ChildStatus], name: str) -> list[str]:
    """The actors that ``name`` stands for: one by its own name, else all of a component, else all of a group."""
    for found in (
        [actor.name for actor in actors if actor.name == name],
        [actor.name for actor in actors if name in actor.serves],
        [actor.name for actor in actors if actor.group == name],
    ):
        if found:
            return found
    return []


def known_names(actors: Sequence[ChildStatus]) -> list[str]:
    """Every name that :func:`actors_named` finds something for, sorted."""
    names = {name for actor in actors for name in (actor.name, *actor.serves, actor.group)}
    return sorted(names - {""})


def no_actor(name: str, known: Sequence[str], where: str) -> UsageError:
    """The error for a name that stands for nothing."""
    near = difflib.get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
    return UsageError(f"{where} has no actor, component or group {name!r}", code="unknown_actor", path=name, hint=hint)


async def node_statuses(bus: Bus, *, wait_s: float = 0.4) -> list[NodeStatus]:
    """Every node that answers within ``wait_s`` seconds, by name."""
    answers = await bus.gather(PS_SUBJECT, done=lambda m: bool(m.headers), timeout_s=wait_s, strict=False)
    return sorted((msgspec.json.decode(m.data, type=NodeStatus) for m in answers), key=lambda n: n.node)
