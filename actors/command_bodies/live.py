"""``callboard tail JOB --stream``: what models say, as they say it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from typing import cast

import msgspec

from actors.clients.live import listen
from actors.command_bodies.session import EXIT_DONE, Session
from bus.errors import UsageError
from bus.stream_piece import Piece


async def tail_stream(session: Session, job: str | None) -> int:
    """Print what models say for a job until it has ended; each answer begins on a line of its own.

    Raises: UsageError, BusError.
    """
    if job is None:
        raise UsageError("--stream needs a job", code="no_job", path="JOB", hint="callboard tail JOB --stream")
    screen, at_line_start = session.screen(), True
    async with await session.client() as client:
        source = cast("AsyncGenerator[Piece, None]", listen(client.bus, client.blobs, client.workspace, job))
        async with contextlib.aclosing(source) as pieces:
            async for piece in pieces:
                if session.json:
                    screen.json_line(msgspec.json.encode(piece).decode())
                    continue
                words = piece.text + ("" if not piece.end or at_line_start else "\n")
                screen.say(words, dim=piece.kind == "thinking")
                at_line_start = words.endswith("\n") if words else at_line_start
    return EXIT_DONE
