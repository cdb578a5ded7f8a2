"""``callboard tail JOB --stream``: what models say, as they say it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import cast

import msgspec

from actors.clients.client import Client
from actors.clients.live import listen
from actors.command_bodies.session import EXIT_DONE, Session
from actors.console.page import line
from bus.errors import UsageError
from bus.stream_piece import Piece

# Who has read the beginning must know that what follows is another answer in its place.
AGAIN = "(the call is made again)\n"


async def tail_stream(session: Session, job: str | None) -> int:
    """Print what models say for a job until it has ended; each answer begins on a line of its own.

    Raises: UsageError, BusError.
    """
    if job is None:
        raise UsageError("--stream needs a job", code="no_job", path="JOB", hint="callboard tail JOB --stream")
    screen, speech = session.screen(), Speech()
    async with await session.client() as client:
        await _note_unknown(session, client, job)
        source = cast("AsyncGenerator[Piece, None]", listen(client.bus, client.blobs, client.workspace, job))
        async with contextlib.aclosing(source) as pieces:
            async for piece in pieces:
                if session.json:
                    screen.json_line(msgspec.json.encode(piece).decode())
                    continue
                screen.say(speech.before(piece))
                screen.say(piece.text, dim=piece.kind == "thinking")
    if not session.json:
        screen.say(speech.end())
    return EXIT_DONE


async def _note_unknown(session: Session, client: Client, job: str) -> None:
    """Who mistyped the id should not wait for words that never come; who is early may."""
    try:
        await client.get(job)
    except UsageError as error:
        session.notes().show([line(f"{error}; waiting for it")])


class Speech:
    """Lays out what is heard: thoughts, words and each new answer begin on lines of their own."""

    def __init__(self) -> None:
        self._saying = ("", "")
        self._runs: dict[str, str] = {}
        self._is_at_line_start = True

    def before(self, piece: Piece) -> str:
        """What stands between the piece before and this one."""
        if not piece.text:
            return self.end() if piece.end else ""
        is_again = self._runs.get(piece.call, piece.run) != piece.run
        breaks = self.end() if is_again or (piece.call, piece.kind) != self._saying else ""
        self._runs[piece.call], self._saying = piece.run, (piece.call, piece.kind)
        self._is_at_line_start = piece.text.endswith("\n")
        return breaks + (AGAIN if is_again else "")

    def end(self) -> str:
        """What ends the line, if something stands on it."""
        was_at_line_start, self._is_at_line_start = self._is_at_line_start, True
        return "" if was_at_line_start else "\n"
