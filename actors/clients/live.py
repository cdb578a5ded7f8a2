"""Looking on while models answer: the pieces of a job's answers in their order, each once."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field
from typing import cast

import msgspec

from actors.agents.conversation import ModelStep
from actors.agents.model_caller import MODEL
from actors.model.message import Thinking
from bus import subjects
from bus.connection import Bus, Message
from bus.messages import Ended, Event, ReplyCompleted
from bus.objects import Blobs
from bus.stream_piece import Piece, PieceKind
from store.log import read_job

LATE_S = 0.3
# The run of what is on record: that is whole, and no other one of the same call counts beside it.
RECORDED = "recorded"


@dataclass
class _Heard:
    """How far one call was told, by kind, in its latest run."""

    run: str
    upto: dict[PieceKind, int] = field(default_factory=dict)


class Merger:
    """Puts pieces together that may come twice, or cut anywhere. Pure."""

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}

    def take(self, piece: Piece) -> Piece | None:
        """What of it is new, None if nothing is. A call that is made anew begins anew, at offset 0."""
        heard = self._heard.get(piece.call)
        if heard is not None and heard.run == RECORDED != piece.run:
            return None
        if heard is None or heard.run != piece.run:
            heard = self._heard[piece.call] = _Heard(piece.run)
        upto = heard.upto.get(piece.kind, 0)
        new = piece.text[max(0, upto - piece.offset) :]
        heard.upto[piece.kind] = max(upto, piece.offset + len(piece.text))
        if not new and not piece.end:
            return None
        return msgspec.structs.replace(piece, offset=piece.offset + len(piece.text) - len(new), text=new)


async def listen(bus: Bus, blobs: Blobs, workspace: str, job: str) -> AsyncIterator[Piece]:
    """What models said for ``job``, then what they say, piece by piece, until the job has ended.

    Raises: UsageError for what can be no subject, BusError.
    """
    queue: asyncio.Queue[Message | None] = asyncio.Queue()
    merger = Merger()
    ends = await bus.subscribe(f"events.{workspace}.{job}.job.*", lambda msg: _on_event(msg, queue))
    live = await bus.subscribe(subjects.stream(workspace, job), queue.put_nowait)
    try:
        late = await bus.gather(
            subjects.stream_so_far(workspace, job), done=lambda msg: not msg.data, timeout_s=LATE_S, strict=False
        )
        events = [recorded.event for recorded in await read_job(bus, blobs, workspace, job)]
        pieces = [*_recorded(events), *(piece for msg in late if (piece := _read(msg)))]
        for piece in pieces:
            if new := merger.take(piece):
                yield new
        if any(isinstance(event, Ended) for event in events):
            return
        while (msg := await queue.get()) is not None:
            if (read := _read(msg)) and (new := merger.take(read)):
                yield new
    finally:
        for subscription in (ends, live):
            with contextlib.suppress(Exception):  # the connection may be gone already
                await subscription.unsubscribe()


def _on_event(msg: Message, queue: asyncio.Queue[Message | None]) -> None:
    """The end of the job comes after all that was said for it: its pieces were sent first, over the same connection."""
    if msg.subject.rpartition(".")[2] in subjects.JOB_ENDS:
        queue.put_nowait(None)


def _recorded(events: Iterable[Event]) -> Iterator[Piece]:
    """What is in the log already, as pieces that nothing of the live ones can add to."""
    for event in events:
        if isinstance(event, ReplyCompleted) and event.op == MODEL:
            said = msgspec.json.decode(event.output, type=ModelStep).reply.message
            thoughts = "".join(part.thinking for part in said.parts if isinstance(part, Thinking))
            for kind, text in (("thinking", thoughts), ("text", said.text)):
                if text:
                    yield Piece(event.job, event.call, RECORDED, 0, text, cast("PieceKind", kind))
            yield Piece(event.job, event.call, RECORDED, len(said.text), end=True)


def _read(msg: Message) -> Piece | None:
    try:
        return msgspec.json.decode(msg.data, type=Piece)
    except msgspec.DecodeError:  # anybody may publish anything
        return None
