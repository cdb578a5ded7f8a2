"""What a model says is told while it says it: whole, in order, once, also to who comes late."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Agent, App
from actors.clients.live import RECORDED, Merger, listen
from actors.command_bodies.live import AGAIN, Speech, tail_stream
from actors.command_bodies.session import Session
from actors.model.model import Delta
from actors.testing import ScriptedModel, say, use
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.stream_piece import Piece
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 40
WORDS = " ".join(f"word{n}" for n in range(60))
SAID: list[int] = []

app = App("talk", version="1.0.0")


class Slow(ScriptedModel):
    """Notes how many pieces it has said."""

    async def reply(self, request: Any, listen: Any = None) -> Any:
        def note(delta: Delta) -> None:
            SAID.append(len(delta.text))
            listen(delta)

        return await super().reply(request, note)


@app.tool
def look() -> str:
    """Look."""
    return "seen"


@app.agent(model=Slow([use("look", {}, text="first"), say(WORDS, thinking="hm\x1b[2J")], pause_s=0.03), tools=[look])
async def talker(agent: Agent) -> str:
    """Talks."""
    return await agent.run("talk")


@given(st.text(min_size=1, max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=20))
def test_pieces_add_up_to_the_text(text: str, cuts: list[tuple[int, int]]) -> None:
    """However a text is cut, doubled and overlapped, as long as nothing is left out it is told once."""
    merger, told, upto = Merger(), "", 0
    for begin, length in [*cuts, (0, len(text))]:
        offset = min(begin, upto)  # no hole
        piece = Piece("j", "model:1", "a", offset, text[offset : offset + length])
        upto = max(upto, offset + len(piece.text))
        new = merger.take(piece)
        told += new.text if new else ""
    assert told == text


def test_a_call_that_is_made_anew_begins_anew() -> None:
    """After a crash the answer is another one; what is on record has the last word."""
    merger = Merger()
    assert merger.take(Piece("j", "model:1", "a", 0, "half an"))
    again = merger.take(Piece("j", "model:1", "b", 0, "a whole answer"))
    assert again is not None and again.text == "a whole answer"
    assert merger.take(Piece("j", "model:1", RECORDED, 0, "a whole answer"))
    assert merger.take(Piece("j", "model:1", "b", 2, "whole")) is None


def test_each_answer_stands_on_lines_of_its_own() -> None:
    """Thoughts, words, and an answer that is begun anew after a crash are told apart also without colours."""
    speech = Speech()
    heard = [
        Piece("j", "model:1", "a", 0, "hm", "thinking"), Piece("j", "model:1", "a", 0, "Half an"),
        Piece("j", "model:1", "b", 0, "A whole"), Piece("j", "model:1", "b", 7, " answer"),
        Piece("j", "model:1", "b", 14, end=True), Piece("j", "model:2", "c", 0, "Done\n"),
        Piece("j", "model:2", "c", 5, end=True), Piece("j", "model:3", "d", 0, "cut"),
    ]  # fmt: skip
    shown = "".join(speech.before(piece) + piece.text for piece in heard) + speech.end()
    assert shown == f"hm\nHalf an\n{AGAIN}A whole answer\nDone\ncut\n"


async def hear(on: Troupe) -> dict[tuple[str, str], str]:
    """All that is said, by call and kind, until the job ends."""
    found: dict[tuple[str, str], str] = {}
    async with contextlib.aclosing(listen(on.bus, on.blobs, "default", "t")) as pieces:  # type: ignore[type-var]
        async for piece in pieces:
            found[piece.call, piece.kind] = found.get((piece.call, piece.kind), "") + piece.text
    return found


async def test_who_comes_early_late_or_too_late_hears_the_same(
    nats_server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """From before the first word, in the middle of an answer, and after the end: the whole text, once."""
    SAID.clear()
    async with troupe(nats_server.url, app) as on:
        early = asyncio.create_task(hear(on))
        await on.submit("talker", "t", {})
        await wait_until(lambda: len(SAID) > 20, DEADLINE_S)
        late = asyncio.create_task(hear(on))
        shown = asyncio.create_task(tail_stream(Session(nats=nats_server.url), "t"))
        whole = {("model:1", "text"): "first", ("model:2", "text"): WORDS, ("model:2", "thinking"): "hm\x1b[2J"}
        assert await asyncio.wait_for(early, DEADLINE_S) == whole
        assert await asyncio.wait_for(late, DEADLINE_S) == whole
        assert await hear(on) == whole
        assert await asyncio.wait_for(shown, DEADLINE_S) == 0
    said = capsys.readouterr().out
    assert said.startswith("first\n")
    assert WORDS in said and "\x1b" not in said


async def test_who_waits_for_a_job_that_there_is_not_is_told(
    nats_server: EmbeddedServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The id may be wrong, or the job come later."""
    async with troupe(nats_server.url, app):
        waiting = asyncio.create_task(tail_stream(Session(nats=nats_server.url), "nosuch"))
        said = await wait_until(lambda: capsys.readouterr().err, DEADLINE_S)
        assert "has no job nosuch" in said and said.endswith("; waiting for it\n")
        waiting.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await waiting


async def test_a_stream_is_of_one_job() -> None:
    """Without a job the command says what is missing."""
    with pytest.raises(UsageError, match="needs a job"):
        await tail_stream(Session(), None)
