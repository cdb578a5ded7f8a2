"""A web server on 127.0.0.1 that says what a test wants to be said, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec


@dataclass(frozen=True)
class Asked:
    """One request as it came in; names of headers are in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        """The query, one value a name."""
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    def json(self) -> Any:
        """The body."""
        return msgspec.json.decode(self.body)


@dataclass(frozen=True)
class Said:
    """An answer. ``hang``: the body is never ended."""

    body: bytes | str = b""
    status: int = 200
    content_type: str = "text/html"
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: bool = False

    def raw(self) -> bytes:
        """On the wire."""
        body = self.body.encode() if isinstance(self.body, str) else self.body
        lines = [f"HTTP/1.1 {self.status} X", "connection: close"]
        lines += [] if self.hang else [f"content-length: {len(body)}"]
        lines += [f"content-type: {self.content_type}"] if self.content_type else []
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def json_said(value: Any, status: int = 200, **headers: str) -> Said:
    """JSON; ``retry_after="3"`` becomes the header Retry-After."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Said(msgspec.json.encode(value), status, "application/json", named)


Say = Callable[[Asked], Said | Awaitable[Said]]


class WebServer:
    """What runs: ``asked`` is all that was asked so far."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.asked: list[Asked] = []
        self.port = 0
        self.scheme = "http"
        self._open: set[asyncio.Task[Any]] = set()

    @property
    def url(self) -> str:
        """Without a slash at the end."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    @property
    def opening(self) -> str:
        """What lets tools in: a value of ``allow_private``."""
        return f"127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        """What was asked for, in order."""
        return [each.path for each in self.asked]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one request."""
        task = asyncio.current_task()
        assert task is not None
        self._open.add(task)
        try:
            await self._answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the other side has what it wanted
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            self._open.discard(task)

    async def close(self) -> None:
        """End what is still under way."""
        for task in self._open:
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        method, target, _ = first.split(" ")
        self.asked.append(Asked(method, target, headers, body))
        said = self.say(self.asked[-1])
        said = said if isinstance(said, Said) else await said
        writer.write(said.raw())
        await writer.drain()
        if said.hang:
            await reader.read()


@contextlib.asynccontextmanager
async def web_server(say: Say, tls: ssl.SSLContext | None = None) -> AsyncIterator[WebServer]:
    """A server on a free port."""
    server = WebServer(say)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    server.scheme = "https" if tls else "http"
    try:
        yield server
    finally:
        listening.close()
        await server.close()
        await listening.wait_closed()
