"""The states of all circuits, and how a person moves one: for commands and services, which take no part in them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from actors.breakers.breakers import BUCKET
from bus.connection import Bus
from bus.errors import Fenced, UsageError
from bus.kv import Kv
from bus.objects import Blobs
from bus.reader import read_all
from bus.streams import BREAKERS, stream_info
from bus.subjects import SYSTEM_WORKSPACE
from store.log import append_unfenced
from supervisor.breaker import Breaker
from supervisor.circuit import (
    CLOSED,
    ForcedClosed,
    ForcedOpen,
    HalfOpen,
    Open,
    State,
    decode_state,
    encode_state,
    event_of,
    step,
)
from supervisor.window import Counts

_KEY = re.compile(r"tool\.[A-Za-z0-9_-]{1,64}\.v[0-9]+|dep\.[A-Za-z0-9_-]{1,64}")
_TRIES = 10


class BreakerState(msgspec.Struct, frozen=True, kw_only=True):
    """One circuit, for people and programs: ``state`` is closed, open or half_open; instants are UTC."""

    key: str
    state: str
    since: datetime | None = None
    until: datetime | None = None
    reason: str = ""
    by: str = ""
    forced: bool = False
    streak: int = 0
    counts: Counts = Counts()


def shown(key: str, state: State) -> BreakerState:
    """The row of one circuit."""
    tag = str(state.__struct_config__.tag)
    common: dict[str, Any] = {"key": key, "state": tag, "since": state.since, "by": state.by, "forced": state.forced}
    if isinstance(state, Open | HalfOpen):
        return BreakerState(
            **common, until=state.until, reason=state.reason, streak=state.streak, counts=state.counts
        )  # fmt: skip
    return BreakerState(**common)


async def breaker_states(bus: Bus) -> list[BreakerState]:
    """Every circuit that is or ever was open, by key. Raises: BusError."""
    if await stream_info(bus, BREAKERS) is None:  # no node has ever been here
        return []
    kv = Kv(bus, BUCKET)
    entries = [kv.entry_of(stored) for stored in await read_all(bus, BREAKERS, kv.prefix + ">")]
    return sorted((shown(e.key, decode_state(e.value)) for e in entries if not e.deleted), key=lambda row: row.key)


async def force(bus: Bus, key: str, order: ForcedOpen | ForcedClosed) -> BreakerState:
    """Move a circuit by hand, and record who did. Closing what is closed changes nothing.

    Raises: UsageError (no key of a circuit, no bucket yet), BusError.
    """
    if not _KEY.fullmatch(key):
        raise UsageError(
            f"{key!r} is no circuit", code="bad_breaker", hint="tool.<name>.v<major> or dep.<name>; see the list"
        )
    if await stream_info(bus, BREAKERS) is None:
        raise UsageError("there are no circuits: no node has ever been here", code="no_bucket", hint="start a node")
    kv = Kv(bus, BUCKET)
    for _ in range(_TRIES):
        entry = await kv.get(key)
        before = CLOSED if entry is None or entry.deleted else decode_state(entry.value)
        after = step(Breaker(), before, order, datetime.now(UTC))
        if after is before:
            return shown(key, before)
        try:
            await kv.compare_and_set(key, encode_state(after), entry.revision if entry else 0)
        except Fenced:
            continue
        if event := event_of(key, before, after):
            await append_unfenced(bus, Blobs(bus), SYSTEM_WORKSPACE, event)
        return shown(key, after)
    raise Fenced(kv.prefix + key, expected=0)
