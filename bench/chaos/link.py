"""The link between one node and the server: a TCP proxy that can delay, stall and cut what goes through it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Self

CHUNK_BYTES = 64 * 1024


class Link:
    """Listens on a port of its own and passes everything on to ``host:port``, both ways and in order.

    ``delay_s`` holds each chunk back for so long; ``stall`` holds everything back, with both connections open, until
    ``heal``; ``cut`` resets all connections and refuses new ones until ``heal``.
    """

    def __init__(self, host: str, port: int) -> None:
        self.port = 0
        self.delay_s = 0.0
        self._upstream = (host, port)
        self._server: asyncio.Server | None = None
        self._is_cut = False
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        """Where the node connects."""
        return f"nats://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def stall(self) -> None:
        """Let nothing through."""
        self._flowing.clear()

    def cut(self) -> None:
        """Reset what is connected and refuse what comes."""
        self._is_cut = True
        for writer in list(self._writers):
            writer.transport.abort()

    def heal(self) -> None:
        """Work as a link should."""
        self._is_cut, self.delay_s = False, 0.0
        self._flowing.set()

    # ---- a connection

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError):  # we are closed; asyncio would report it as an error
                await self._serve(reader, writer)
        finally:
            self._tasks.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_cut:
            writer.transport.abort()
            return
        self._writers.add(writer)
        up_writer: asyncio.StreamWriter | None = None
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._upstream)
            self._writers.add(up_writer)
            await self._pass_both_ways(reader, writer, up_reader, up_writer)
        except OSError:  # the server is away; the client is told so by the end of its connection
            pass
        finally:
            for one in (writer, up_writer):
                if one is not None:
                    one.transport.abort()
                    self._writers.discard(one)

    async def _pass_both_ways(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:  # fmt: skip
        pumps = [asyncio.create_task(self._pump(reader, up_writer)), asyncio.create_task(self._pump(up_reader, writer))]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One direction. What is read waits in a queue with the instant at which it is due."""
        queue: deque[tuple[float, bytes]] = deque()
        more = asyncio.Event()
        sending = asyncio.create_task(self._send(queue, more, writer))
        loop = asyncio.get_running_loop()
        try:
            with contextlib.suppress(OSError):
                while chunk := await reader.read(CHUNK_BYTES):
                    queue.append((loop.time() + self.delay_s, chunk))
                    more.set()
        finally:
            sending.cancel()

    async def _send(self, queue: deque[tuple[float, bytes]], more: asyncio.Event, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                await more.wait()
                while queue:
                    due, chunk = queue.popleft()
                    if (wait_s := due - loop.time()) > 0:
                        await asyncio.sleep(wait_s)
                    await self._flowing.wait()
                    writer.write(chunk)
                    await writer.drain()
                more.clear()
