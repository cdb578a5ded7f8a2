"""What an actor says of itself every few seconds: which process it is, what it does since when, what it has taken.

Pure. It goes to ``hb.<node>.<actor>`` and is heard by the actor's own node only. A heartbeat is neither kept nor
answered: one that is lost is made up for by the next.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

HEARTBEAT_S = 2.0
# Four within the time after which an actor is taken for dead: one may be late, and one may be lost with a connection.
BEATS_WITHIN_STALL = 4
# Below this a busy machine, and not the actor, would decide who is taken for dead.
STALL_LEAST_S = 1.0
STALL_VARIABLE = "CALLBOARD_STALL_S"
# Under this name the node speaks to itself. No actor has it: theirs end in a number or are "gateway".
NODE_ITSELF = "_node"


class MailboxBeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """One mailbox: ``room`` is how many messages it has asked for or is about to, ``taken`` how many have come.

    A mailbox that is paused or in trouble says room 0: it does not wait for messages, and knows it.
    """

    stream: str
    consumer: str
    room: int = 0
    taken: int = 0


# Upper bounds of the classes that calls of models are counted in by how long they took; the last class has none.
LATENCY_BOUNDS_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)


class ModelBeat(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a process has asked of one model since it began.

    ``outcomes`` counts calls by "ok" or the code of their error, ``latency`` by class (``LATENCY_BOUNDS_S``).
    """

    provider: str
    model: str
    outcomes: dict[str, int] = {}
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0
    latency: tuple[int, ...] = ()


AssetState = Literal["loading", "loaded", "refreshing", "failed"]


class AssetBeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One asset of the actor's process; ``failed``: the last refresh, with its ``error``, and the value before it is in
    use. ``loaded_at`` is when the value in use was loaded.
    """

    name: str
    version: str
    state: AssetState
    loaded_at: datetime | None = None
    error: str = ""


class Heartbeat(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One actor at this moment.

    ``since`` is when that which it is doing began: its oldest call, or its idleness. ``busy`` counts the calls or jobs
    that it has in hand, ``handled`` those that it has done with since its process began. ``sequence`` is the stream
    sequence of the last message that it has done with, ``warnings`` what will not work as its process is set up.
    """

    pid: int
    doing: str
    since: datetime | None = None
    handled: int = 0
    busy: int = 0
    sequence: int = 0
    mailboxes: tuple[MailboxBeat, ...] = ()
    models: tuple[ModelBeat, ...] = ()
    assets: tuple[AssetBeat, ...] = ()
    warnings: tuple[str, ...] = ()


def heartbeat_interval_s(stall_s: float) -> float:
    """How often an actor speaks that is taken for dead after ``stall_s`` seconds of silence (0: never)."""
    return min(HEARTBEAT_S, stall_s / BEATS_WITHIN_STALL) if stall_s > 0 else HEARTBEAT_S


def interval_of(environment_value: str | None) -> float:
    """The same, from what the supervisor put into the process's environment as ``CALLBOARD_STALL_S``."""
    try:
        return heartbeat_interval_s(float(environment_value or 0))
    except ValueError:
        return HEARTBEAT_S


def encode(beat: Heartbeat) -> bytes:
    """The heartbeat as JSON."""
    return msgspec.json.encode(beat)


def decode(raw: bytes) -> Heartbeat:
    """A heartbeat from JSON. Raises: msgspec.DecodeError."""
    return msgspec.json.decode(raw, type=Heartbeat)
