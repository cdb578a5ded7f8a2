"""What nobody waits for any more: all calls of a job that was cancelled, and single calls that a job has given up."""

from __future__ import annotations

from collections.abc import Callable

from actors.tools.serving import Serving
from bus import subjects
from bus.connection import Bus, Message
from bus.errors import Unreadable
from bus.failure import GIVEN_UP
from bus.messages import ReplyFailed, decode

_KEPT = 10_000
_ALL = ""


class Unwanted:
    """Hears of it; ``on_change`` is called then, to stop what runs. Of what is older only so much is remembered."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._places: dict[tuple[str, str, str], None] = {}

    async def start(self, bus: Bus) -> None:
        """Begin to hear. Raises: BusError."""
        await bus.subscribe(subjects.live("*", "*", "job.cancelled"), self._on_cancelled)
        await bus.subscribe(subjects.live("*", "*", "reply.failed"), self._on_failed)

    def holds(self, serving: Serving) -> bool:
        """Whether nobody waits for that call."""
        place = serving.workspace, serving.event.job
        return (*place, _ALL) in self._places or (*place, serving.event.call) in self._places

    def _on_cancelled(self, msg: Message) -> None:
        place = subjects.parse_event(msg.subject)
        self._note(place.workspace, place.job, _ALL)

    def _on_failed(self, msg: Message) -> None:
        if GIVEN_UP.encode() not in msg.data:  # most calls fail by themselves
            return
        place = subjects.parse_event(msg.subject)
        try:
            event = decode(msg.data)
        except Unreadable:
            return
        if isinstance(event, ReplyFailed) and event.failure.code == GIVEN_UP:
            self._note(place.workspace, place.job, event.call)

    def _note(self, workspace: str, job: str, call: str) -> None:
        self._places[workspace, job, call] = None
        if len(self._places) > _KEPT:
            del self._places[next(iter(self._places))]
        self._on_change()
