"""What was done to the run, as far as the verdict has to know it: when, to which processes, for how long."""

from __future__ import annotations

import msgspec


class Injury(msgspec.Struct, frozen=True, kw_only=True):
    """A fault as it happened, from ``begun_s`` to ``ended_s`` (seconds since the epoch).

    ``pids`` are the processes that it hit, ``fatal`` if it killed them; empty for one that hit the server. ``delay_s``
    is how much later than usual a message may have come to them.
    """

    kind: str
    begun_s: float
    ended_s: float
    pids: tuple[int, ...] = ()
    fatal: bool = False
    node: str = ""
    delay_s: float = 0.0
