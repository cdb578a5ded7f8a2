"""Schedules of a workspace, as a client sees them: all through a gateway, which checks rule and input."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from actors.schedules.book import ScheduleView
from actors.schedules.schedule import Overlap
from bus.errors import UsageError
from bus.subjects import Priority

_decode_view = msgspec.json.Decoder(ScheduleView).decode


class _All(msgspec.Struct):
    schedules: list[ScheduleView]


_decode_all = msgspec.json.Decoder(_All).decode


class Schedules:
    """``client.schedules``: makes, shows, pauses and removes schedules. Each method raises UsageError and BusError."""

    def __init__(self, ask: Callable[[str, str, bytes], Awaitable[bytes]]) -> None:
        self._ask_gateway = ask

    async def add(
        self,
        name: str,
        workflow: str,
        *,
        cron: str = "",
        time_zone: str = "",
        every_s: float | None = None,
        input: Any = None,  # noqa: A002 - the word that the wire uses
        priority: Priority = "normal",
        overlap: Overlap = "skip",
        deadline_s: float | None = None,
        replace: bool = False,
        by: str = "",
    ) -> ScheduleView:
        """Run ``workflow`` by ``cron`` (in ``time_zone``, else UTC), or every so many seconds.

        ``overlap``: a run whose predecessor has not ended is skipped, waits in the queue, or is allowed. The very same
        schedule again changes nothing; another one under its name is refused unless ``replace`` is given.
        """
        fields: dict[str, Any] = {
            "name": name, "workflow": workflow, "cron": cron, "time_zone": time_zone, "every_s": every_s,
            "input": {} if input is None else input, "priority": priority, "overlap": overlap,
            "deadline_s": deadline_s, "replace": replace, "by": by,
        }  # fmt: skip
        try:
            body = msgspec.json.encode(fields)
        except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
            raise UsageError(f"the input is no JSON: {error}", code="invalid_input", path="$") from error
        return _decode_view(await self._ask_gateway("schedules", "add", body))

    async def list(self) -> list[ScheduleView]:
        """All of them, by name."""
        return _decode_all(await self._ask_gateway("schedules", "list", b"{}")).schedules

    async def get(self, name: str) -> ScheduleView:
        """One of them: its rule, its next times, its last run."""
        return _decode_view(await self._ask("get", name))

    async def pause(self, name: str, *, by: str = "") -> ScheduleView:
        """Let it fire no more until it is resumed."""
        return _decode_view(await self._ask("pause", name, by))

    async def resume(self, name: str, *, by: str = "") -> ScheduleView:
        """Let it fire again; what was due meanwhile is not made up for."""
        return _decode_view(await self._ask("resume", name, by))

    async def remove(self, name: str, *, by: str = "") -> None:
        """Take it away; its jobs go on."""
        await self._ask("remove", name, by)

    async def run(self, name: str, *, by: str = "") -> str:
        """Ask for its job now, also if it is paused or its last run goes on; the job's id."""
        body = msgspec.json.encode({"name": name, "by": by, "at": datetime.now(UTC)})
        return str(msgspec.json.decode(await self._ask_gateway("schedules", "run", body))["job"])

    async def _ask(self, verb: str, name: str, by: str = "") -> bytes:
        return await self._ask_gateway("schedules", verb, msgspec.json.encode({"name": name, "by": by}))
