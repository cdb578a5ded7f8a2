"""Answers calls of a tool that has ``cache_ttl_s`` from what another call with the same input gave, on whichever node.

It is asked in the tool's process, so direct calls profit as well, and nothing in a job depends on the cache: which
output a call had is in the job's log.
"""

from __future__ import annotations

from typing import Any

from actors.components.component import Component, InvalidInput
from actors.operations.output_cache import OutputCache, key_of_call
from bus.connection import Bus
from bus.subjects import SYSTEM_WORKSPACE


class ToolCache:
    """For one tool. A tool without ``cache_ttl_s`` has one that knows nothing, and sends nothing."""

    def __init__(self, bus: Bus, component: Component[..., Any]) -> None:
        self._component = component
        self._ttl_s = component.cache_ttl_s
        self._cache = OutputCache(bus) if component.cache_ttl_s is not None else None

    async def look(self, workspace: str, raw_input: bytes) -> bytes | None:
        """The output for that input, None if it has to be made."""
        key = self._key(workspace, raw_input)
        return None if self._cache is None or not key else await self._cache.look_raw(key)

    async def keep(self, workspace: str, raw_input: bytes, output: bytes) -> None:
        """Let others use it."""
        key = self._key(workspace, raw_input)
        if self._cache is not None and self._ttl_s is not None and key:
            await self._cache.keep_raw(key, output, self._ttl_s)

    def _key(self, workspace: str, raw_input: bytes) -> str:
        """Empty without a cache, or for an input that does not fit: whoever runs the call will say so.

        The input as the function would get it: the order of fields and defaults that are left out make no difference.
        """
        if self._cache is None:
            return ""
        try:
            arguments = self._component.decode_input(raw_input)
        except InvalidInput:
            return ""
        return key_of_call(workspace or SYSTEM_WORKSPACE, self._component, arguments)
