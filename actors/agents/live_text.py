"""A model's answer while it is made: sent in pieces for whoever looks on, from its beginning for who comes late.

Core NATS, nothing stored: the whole answer is in the log once it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Coroutine
from typing import Any, Self

import msgspec

from actors.model.model import Delta
from bus import subjects
from bus.connection import Bus, Message, Subscription
from bus.errors import BusError
from bus.stream_piece import Piece, PieceKind

# Models say some fifty tokens a second: this many messages are as live, and a tenth of the work.
PAUSE_S = 0.1
# A late comer is told this much at most, in one message.
SO_FAR_LIMIT_CHARS = 200_000


class LiveText:
    """One call of a model. ``async with``: from its beginning to its end, however that comes."""

    def __init__(self, bus: Bus, workspace: str, job: str, call: str) -> None:
        self._bus = bus
        self._subject = subjects.stream(workspace, job)
        self._asked = subjects.stream_so_far(workspace, job)
        self._job, self._call, self._run = job, call, secrets.token_hex(4)
        self._said: dict[PieceKind, str] = {"thinking": "", "text": ""}
        self._sent: dict[PieceKind, int] = {"thinking": 0, "text": 0}
        self._timer: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        with contextlib.suppress(BusError):
            self._subscription = await self._bus.subscribe(self._asked, self._on_asked)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._timer:
            self._timer.cancel()
        if self._subscription:
            with contextlib.suppress(Exception):  # the connection may be gone already
                await self._subscription.unsubscribe()
        with contextlib.suppress(BusError):
            await self._send([*self._unsent(), self._piece("text", len(self._said["text"]), end=True)])

    def hear(self, delta: Delta) -> None:
        """The next piece of the answer."""
        self._said[delta.kind] += delta.text
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PAUSE_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._later(self._send(self._unsent()))

    def _unsent(self) -> list[Piece]:
        found = [
            self._piece(kind, self._sent[kind]) for kind, said in self._said.items() if len(said) > self._sent[kind]
        ]
        self._sent = {kind: len(said) for kind, said in self._said.items()}
        return found

    def _piece(self, kind: PieceKind, offset: int, *, end: bool = False) -> Piece:
        return Piece(self._job, self._call, self._run, offset, self._said[kind][offset:], kind, end)

    async def _send(self, pieces: list[Piece], to: str = "") -> None:
        for piece in pieces:
            await self._bus.publish(to or self._subject, msgspec.json.encode(piece))

    def _on_asked(self, msg: Message) -> None:
        if msg.reply:
            late = [
                self._piece(kind, max(0, len(said) - SO_FAR_LIMIT_CHARS)) for kind, said in self._said.items() if said
            ]
            self._later(self._send(late, msg.reply))

    def _later(self, sending: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(_quietly(sending))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _quietly(sending: Coroutine[Any, Any, None]) -> None:
    """Nobody may be looking on, and a connection that is gone must not cost the answer."""
    with contextlib.suppress(BusError):
        await sending
