"""A local server that speaks ``POST /v1/messages`` of the Anthropic protocol, as it is told: the real SDK talks to it.

In a test's own event loop::

    async with FakeAnthropic([Say("Hello"), Refuse(529, retry_after="1"), Say(tools=(Use("add", {"a": 1}),))]) as fake:
        ...  # base_url=fake.url, or ANTHROPIC_BASE_URL; any key but an empty one
        assert fake.count == 3 and fake.requests[0]["model"]

As a process of its own, whose count outlives processes that are killed (``FakeProcess`` starts one)::

    python -m tests.fake_anthropic --script turns.json --log requests.jsonl

Turns are those of tests/anthropic_turns.py: a list that is told in its order, or a function ``(request, count) ->
turn``, where ``count`` is 1 for the first. ``by_conversation(turns)`` chooses by what was already said, so that
a request that is repeated hears the same again. What the API would refuse is refused (tests/anthropic_rules.py), and so
is a request after the last turn; both with 400, which no client repeats. ``requests`` has refused ones too, which take
no turn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from tests.anthropic_rules import complaint
from tests.anthropic_turns import (
    Cut,
    Fault,
    Hang,
    Raw,
    Refuse,
    Say,
    Slow,
    Spent,
    Turn,
    Use,
    error_body,
    events_of,
    message_of,
)

__all__ = ["Cut", "FakeAnthropic", "FakeProcess", "Fault", "Hang", "Raw", "Refuse", "Say", "Slow", "Spent", "Turn",
           "Use", "by_conversation"]  # fmt: skip

Script = Callable[[dict[str, Any], int], Turn]
START_S = 30.0
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}


def in_order(turns: Sequence[Turn]) -> Script:
    """The first turn for the first request, and so on."""
    return lambda _, count: _at(turns, count - 1)


def by_conversation(turns: Sequence[Turn]) -> Script:
    """The turn after as many as the model has said in the conversation that it is sent: repeated, it is the same."""
    return lambda request, _: _at(turns, sum(message["role"] == "assistant" for message in request["messages"]))


def _at(turns: Sequence[Turn], place: int) -> Turn:
    return turns[place] if place < len(turns) else Refuse(400, message=f"the script has no turn {place + 1}")


class FakeAnthropic:
    """The server. ``url`` is its base URL, ``requests`` what was asked, ``headers`` with which headers."""

    def __init__(self, turns: Sequence[Turn] | Script = (), *, key: str = "", port: int = 0, log: Path | None = None):
        self.script: Script = turns if callable(turns) else in_order(turns)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.gone = 0  # clients that went away before their answer's end
        self._key, self._port, self._log = key, port, log
        self._turns = 0
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def count(self) -> int:
        """How many requests came."""
        return len(self.requests)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while await self._served(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            self.gone += 1
        except asyncio.CancelledError:
            pass  # the server closes; a task that asyncio.start_server made may not end as cancelled
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _served(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. False: the connection ends here."""
        head = await _head(reader)
        if head is None:
            return False
        line, headers = head
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if not line.startswith("POST /v1/messages"):
            return await _whole(writer, 404, error_body(404, line))
        request = json.loads(body)
        turn = self._turn(request, headers)
        return await self._told(turn, request, len(self.requests), reader, writer)

    def _turn(self, request: dict[str, Any], headers: dict[str, str]) -> Turn:
        self.requests.append(request)
        self.headers.append(headers)
        if self._log is not None:
            with self._log.open("a") as log:
                log.write(json.dumps(request) + "\n")
        # Which of the two headers has the key depends on the version of the SDK.
        key = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if not key or key != (self._key or key):
            return Refuse(401, message="invalid x-api-key")
        if wrong := complaint(request, headers.get("anthropic-version", ""), headers.get("anthropic-beta", "")):
            return Refuse(400, message=wrong)
        self._turns += 1
        return self.script(request, self._turns)

    async def _told(
        self,
        turn: Turn,
        request: dict[str, Any],
        count: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        match turn:
            case Slow(delay_s=delay_s, turn=inner):
                await _unless_gone(reader, delay_s)
                return await self._told(inner, request, count, reader, writer)
            case Refuse():
                extra = {} if turn.retry_after is None else {"retry-after": turn.retry_after}
                body = error_body(turn.status, turn.message) if turn.body is None else turn.body
                return await _whole(writer, turn.status, body, extra)
            case Raw():
                return await _raw(writer, turn.status, turn.body.encode(), turn.content_type)
            case Say() if not request.get("stream"):
                return await _whole(writer, 200, message_of(turn, request, count))
            case Cut() if not request.get("stream"):
                whole = json.dumps(message_of(turn.turn, request, count)).encode()
                return await _raw(writer, 200, whole[: len(whole) // 2], "application/json", missing_bytes=1)
            case Hang(after=0) | Hang() if turn.after == 0 or not request.get("stream"):
                await _unless_gone(reader, None)
                return False
            case _:
                return await _streamed(turn, request, count, reader, writer)


async def _streamed(
    turn: Say | Cut | Fault | Hang | Any,
    request: dict[str, Any],
    count: int,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bool:
    said = turn if isinstance(turn, Say) else turn.turn
    events = list(events_of(said, request, count))
    writer.write(_head_bytes(200, {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}))
    for event in events if isinstance(turn, Say) else events[: turn.after]:
        await _chunk(writer, _sse(event))
    match turn:
        case Cut(politely=False):
            writer.transport.abort()
            return False
        case Fault():
            await _chunk(writer, _sse({"type": "error", "error": {"type": turn.kind, "message": turn.message}}))
        case Hang():
            await _unless_gone(reader, None)
            return False
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


# ---- HTTP


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    line = (await reader.readline()).decode().strip()
    if not line:
        return None
    headers: dict[str, str] = {}
    while field := (await reader.readline()).decode().strip():
        name, _, value = field.partition(":")
        headers[name.lower()] = value.strip()
    return line, headers


async def _unless_gone(reader: asyncio.StreamReader, delay_s: float | None) -> None:
    """Wait so long (None: for ever). Raises: ConnectionError as soon as the client is gone."""
    with contextlib.suppress(TimeoutError):
        if not await asyncio.wait_for(reader.read(1), delay_s):
            raise ConnectionResetError("the client is gone")


def _head_bytes(status: int, headers: dict[str, str]) -> bytes:
    fields = {"request-id": "req_fake", **headers}
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Other')}",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def _whole(
    writer: asyncio.StreamWriter, status: int, body: dict[str, Any], extra: dict[str, str] | None = None
) -> bool:
    return await _raw(writer, status, json.dumps(body).encode(), "application/json", extra=extra)


async def _raw(
    writer: asyncio.StreamWriter,
    status: int,
    body: bytes,
    content_type: str,
    *,
    missing_bytes: int = 0,
    extra: dict[str, str] | None = None,
) -> bool:
    length = {"content-type": content_type, "content-length": str(len(body) + missing_bytes)}
    writer.write(_head_bytes(status, {**length, **(extra or {})}) + body)
    await writer.drain()
    return not missing_bytes


async def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
    await writer.drain()


def _sse(event: dict[str, Any]) -> bytes:
    return f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode()


# ---- a process of its own


class FakeProcess:
    """The server as a process: it goes on while processes of the test are killed. ``requests`` reads its log."""

    def __init__(self, folder: Path, turns: Sequence[Turn], *, by_conversation: bool = True) -> None:
        self.url = ""
        self._log = folder / "anthropic.jsonl"
        self._script = folder / "anthropic.json"
        self._script.write_bytes(msgspec.json.encode(list(turns)))
        self._flags = ["--by-conversation"] if by_conversation else []

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What was asked so far."""
        return [json.loads(line) for line in self._log.read_text().splitlines()] if self._log.exists() else []

    @property
    def count(self) -> int:
        """How many requests came so far."""
        return len(self.requests)

    async def __aenter__(self) -> Self:
        files = ["--script", str(self._script), "--log", str(self._log)]
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.fake_anthropic", *files, *self._flags,
            stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parent.parent)  # fmt: skip
        assert self._process.stdout is not None
        self.url = (await asyncio.wait_for(self._process.stdout.readline(), START_S)).decode().strip()
        return self

    async def __aexit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await self._process.communicate()


async def _serve(turns: list[Turn], arguments: argparse.Namespace) -> None:
    script = by_conversation(turns) if arguments.by_conversation else in_order(turns)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with FakeAnthropic(script, port=arguments.port, log=arguments.log) as fake:
        print(fake.url, flush=True)
        await ended.wait()


def main() -> None:
    """Serve a script until SIGTERM; the URL is the first line of the output."""
    parser = argparse.ArgumentParser(prog="python -m tests.fake_anthropic", description=main.__doc__)
    parser.add_argument("--script", type=Path, required=True, help='JSON list of turns: [{"type": "say", ...}]')
    parser.add_argument("--log", type=Path, help="a file to which each request is added as a line of JSON")
    parser.add_argument("--port", type=int, default=int(os.environ.get("PORT", "0")))
    parser.add_argument("--by-conversation", action="store_true", help="choose the turn by what was said, not by count")
    arguments = parser.parse_args()
    asyncio.run(_serve(msgspec.json.decode(arguments.script.read_bytes(), type=list[Turn]), arguments))


if __name__ == "__main__":
    main()
