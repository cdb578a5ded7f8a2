"""Outputs that may be used again: KV bucket ``cache``, for steps and tools that say so.

What is in it may vanish at any time.
"""

from __future__ import annotations

import hashlib
import logging
import math
import time
from typing import TYPE_CHECKING, Any

import msgspec

from bus.connection import Bus
from bus.errors import BusError
from bus.kv import Kv

if TYPE_CHECKING:
    from actors.components.component import Component
    from actors.operations.hosting import Target

log = logging.getLogger("callboard.cache")

BUCKET = "cache"
# A bigger output costs more to keep than most calls cost to make.
LIMIT_BYTES = 256 * 1024
_canonical = msgspec.json.Encoder(order="deterministic").encode


class Found(msgspec.Struct, frozen=True):
    """What a look gave; ``output`` counts if it was ``hit``."""

    hit: bool = False
    output: Any = None


class _Kept(msgspec.Struct, frozen=True):
    output: msgspec.Raw
    until_s: float


def key_of(workspace: str, target: Target, about: Any) -> str:
    """The key of an output: the workspace, the component in its major version, and what the output follows from."""
    digest = hashlib.sha256(_canonical(about)).hexdigest()
    return f"{workspace}.{target.kind}.{target.name}.{target.major}.{digest}"


def key_of_call(workspace: str, tool: Component[..., Any], arguments: dict[str, Any]) -> str:
    """The key of a tool's output: what its decoded input is, and its whole version, since that may answer otherwise."""
    about = (tool.app, tool.version, arguments)
    return f"{workspace}.{tool.kind}.{tool.name}.{tool.major}.{hashlib.sha256(_canonical(about)).hexdigest()}"


class OutputCache:
    """Looks and keeps; a cache that cannot be reached is an empty one."""

    def __init__(self, bus: Bus) -> None:
        self._kv = Kv(bus, BUCKET)

    async def look(self, key: str) -> dict[str, Any]:
        """A :class:`Found` as plain values, to be recorded."""
        raw = await self.look_raw(key)
        return {"hit": False} if raw is None else {"hit": True, "output": msgspec.json.decode(raw)}

    async def look_raw(self, key: str) -> bytes | None:
        """The output as JSON, None if there is none that may be used."""
        try:
            entry = await self._kv.get(key)
            if entry is not None and not entry.deleted:
                kept = msgspec.json.decode(entry.value, type=_Kept)
                if kept.until_s > time.time():
                    return bytes(kept.output)
        except (BusError, msgspec.DecodeError) as error:
            log.warning("cache: %s: %s; calling instead", key, error)
        return None

    async def keep(self, key: str, output: Any, ttl_s: float) -> None:
        """Let others use it for ``ttl_s`` seconds."""
        await self.keep_raw(key, msgspec.json.encode(output), ttl_s)

    async def keep_raw(self, key: str, raw: bytes, ttl_s: float) -> None:
        """The same, of JSON."""
        if len(raw) > LIMIT_BYTES:
            return
        value = msgspec.json.encode(_Kept(msgspec.Raw(raw), time.time() + ttl_s))
        try:
            await self._kv.put(key, value, ttl_s=math.ceil(ttl_s))
        except BusError as error:
            log.warning("cache: %s is not kept: %s", key, error)
