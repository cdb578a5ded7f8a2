"""A local server that speaks the chat completions protocol, for tests of what asks it through the real ``openai``.

    async with FakeOpenAI([Said("Hello"), Refusal(429, "slow down", {"retry-after": "2"})]) as server:
        ... server.url, server.bodies, server.headers

Each request takes the next answer. Whether it is streamed is the request's to say.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

PROMPT_TOKENS, CACHED_TOKENS, OUTPUT_TOKENS = 100, 30, 7


@dataclass(frozen=True)
class Said:
    """An answer. ``calls`` are (id, name, arguments as text). ``pieces`` is how long a streamed piece is.

    ``cut_after``: the connection ends after so many events, ``ends_early``: the stream ends, in order, before it says
    why it stopped; ``breaks``: an error in its midst; ``wait``: nothing comes, the first byte neither.
    """

    text: str = ""
    calls: tuple[tuple[str, str, str], ...] = ()
    reasoning: str = ""
    reasoning_field: str = "reasoning_content"
    refusal: str = ""
    finish: str | None = None
    stop_reason: str | None = None
    pieces: int = 3
    cut_after: int | None = None
    ends_early: bool = False
    breaks: dict[str, Any] | None = None
    wait: bool = False


@dataclass(frozen=True)
class Refusal:
    """An answer that is no success."""

    status: int
    message: str
    headers: dict[str, str] = field(default_factory=dict)
    code: str | None = None


@dataclass(frozen=True)
class Raw:
    """A success with any body."""

    body: str
    content_type: str = "application/json"


Answer = Said | Refusal | Raw


class FakeOpenAI:
    """The server, while its ``async with`` lasts. ``bodies`` and ``headers`` are those of the requests so far."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = list(answers)
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def then(self, *answers: Answer) -> None:
        """What comes after the answers that are left."""
        self._answers += answers

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer, and the connection's end."""
        request, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().strip().splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        assert request.startswith("POST /v1/chat/completions")
        self.headers.append(headers)
        self.bodies.append(body)
        match self._answers.pop(0):
            case Refusal() as refusal:
                error = {"message": refusal.message, "type": "invalid_request_error", "code": refusal.code}
                head = "".join(f"{name}: {value}\r\n" for name, value in refusal.headers.items())
                writer.write(_whole(refusal.status, json.dumps({"error": error}), "application/json", head))
            case Raw(text, content_type):
                writer.write(_whole(200, text, content_type))
            case Said() as said if said.wait:
                await reader.read()
            case Said() as said if body.get("stream"):
                await _stream(said, body, writer)
            case Said() as said:
                writer.write(_whole(200, json.dumps(_completion(said, body)), "application/json"))
        await writer.drain()


def _whole(status: int, body: str, content_type: str, head: str = "") -> bytes:
    raw = body.encode()
    return (
        f"HTTP/1.1 {status} Said\r\ncontent-type: {content_type}\r\ncontent-length: {len(raw)}\r\n"
        f"connection: close\r\n{head}\r\n"
    ).encode() + raw


async def _stream(said: Said, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n"
                 b"connection: close\r\n\r\n")  # fmt: skip
    for number, chunk in enumerate(_chunks(said, body)):
        if number == said.cut_after:
            if said.breaks is None:
                return
            chunk = {"error": said.breaks}
        await _event(writer, json.dumps(chunk))
    if not said.ends_early:
        await _event(writer, "[DONE]")
    writer.write(b"0\r\n\r\n")


async def _event(writer: asyncio.StreamWriter, data: str) -> None:
    raw = f"data: {data}\n\n".encode()
    writer.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
    await writer.drain()


def _chunks(said: Said, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    def chunk(delta: dict[str, Any], **more: Any) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"],
                "choices": [{"index": 0, "delta": delta, "finish_reason": None, **more}]}  # fmt: skip

    yield chunk({"role": "assistant", "content": ""})
    yield from (chunk({said.reasoning_field: piece}) for piece in _cut(said.reasoning, said.pieces))
    yield from (chunk({"content": piece}) for piece in _cut(said.text, said.pieces))
    yield from (chunk({"refusal": piece}) for piece in _cut(said.refusal, said.pieces))
    for index, (call_id, name, _) in enumerate(said.calls):
        call = {"index": index, "id": call_id, "type": "function", "function": {"name": name, "arguments": ""}}
        yield chunk({"tool_calls": [call]})
    # The pieces of parallel calls come in turns, so that nobody may think that one is whole when the next begins.
    pieces = [(index, place, piece) for index, (_, _, arguments) in enumerate(said.calls)
              for place, piece in enumerate(_cut(arguments, said.pieces))]  # fmt: skip
    for index, _, piece in sorted(pieces, key=lambda each: (each[1], each[0])):
        yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    if not said.ends_early:
        yield chunk({}, finish_reason=_finish(said), stop_reason=said.stop_reason)
    if body.get("stream_options", {}).get("include_usage"):
        yield {**chunk({}), "choices": [], "usage": _usage()}


def _completion(said: Said, body: dict[str, Any]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text or None}
    if said.reasoning:
        message[said.reasoning_field] = said.reasoning
    if said.refusal:
        message["refusal"] = said.refusal
    if said.calls:
        message["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in said.calls
        ]
    choice = {"index": 0, "message": message, "finish_reason": _finish(said), "stop_reason": said.stop_reason}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": body["model"],
            "choices": [choice], "usage": _usage()}  # fmt: skip


def _finish(said: Said) -> str:
    return said.finish or ("tool_calls" if said.calls else "stop")


def _usage() -> dict[str, Any]:
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": OUTPUT_TOKENS,
            "total_tokens": PROMPT_TOKENS + OUTPUT_TOKENS,
            "prompt_tokens_details": {"cached_tokens": CACHED_TOKENS}}  # fmt: skip


def _cut(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]
