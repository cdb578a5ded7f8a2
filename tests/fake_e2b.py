"""A local server that speaks the part of E2B's protocol that the SDK uses, with a folder and processes for a machine.

    async with FakeE2B(folder) as server:
        ... server.environment, server.made, server.alive

What a client sends to be executed is executed: in a process of this machine, with ``/tmp/callboard`` in the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

KEY = "e2b_0123456789abcdef"
_THERE = "/tmp/callboard"
_TIMESTAMP = 1_700_000_000_000_000_000


@dataclass(frozen=True)
class Refusal:
    """An answer that is no success."""

    status: int
    message: str = "no"
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Faults:
    """What goes wrong. ``execute`` is how the stream of an execution ends: ``cut`` in the midst of a line, ``early`` in
    order but before anything was run, ``torn`` in order in the midst of a line, ``gone`` as the machine is.

    ``slow_create`` keeps the answer back until it is set, with the machine made already.
    """

    create: Refusal | None = None
    write: Refusal | None = None
    kill: Refusal | None = None
    execute: Refusal | str | None = None
    outcome: bytes | None = None
    slow_create: asyncio.Event | None = None


@dataclass
class Machine:
    """One that was made: what it was asked to be, and the process that runs in it."""

    wanted: dict[str, Any]
    folder: Path
    process: asyncio.subprocess.Process | None = None

    async def end(self) -> None:
        """All of it is gone."""
        if self.process is not None and self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, 9)
            await self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


class _Request:
    def __init__(self, head: bytes, body: bytes) -> None:
        line, *lines = head.decode().strip().splitlines()
        self.method, target, _ = line.split(" ")
        self.headers = {name.lower(): value.strip() for name, _, value in (one.partition(":") for one in lines)}
        url = urlsplit(target)
        self.path, self.query, self.body = url.path, parse_qs(url.query), body


class FakeE2B:
    """The server, while its ``async with`` lasts. ``made`` are all machines by id, ``alive`` those that still run."""

    def __init__(self, folder: Path, faults: Faults | None = None) -> None:
        self._folder = folder
        self.faults = faults or Faults()
        self.made: dict[str, Machine] = {}
        self.alive: set[str] = set()
        self.requests: list[str] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=1 << 26)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for machine in self.made.values():  # first: what waits for its process ends with it
            await machine.end()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def environment(self) -> dict[str, str]:
        """What leads the SDK here."""
        url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return {"E2B_API_KEY": KEY, "E2B_API_URL": url, "E2B_SANDBOX_URL": url}

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(await _read(reader), writer)
                await writer.drain()
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, request: _Request, writer: asyncio.StreamWriter) -> None:
        self.requests.append(f"{request.method} {request.path}")
        match request.method, request.path.strip("/").split("/"):
            case "POST", ["v2", "sandboxes"]:
                writer.write(await self._create(request))
            case "DELETE", ["sandboxes", name]:
                writer.write(await self._kill(request, name))
            case _, [("files" | "health" | "execute") as place]:
                await self._inside(place, request, writer)
            case _:
                writer.write(_said(404, "there is no such route"))

    async def _create(self, request: _Request) -> bytes:
        if request.headers.get("x-api-key") != KEY:
            return _said(401, f"no such key: {request.headers.get('x-api-key')}")
        if self.faults.create:
            return _refused(self.faults.create)
        name = f"machine{len(self.made)}"
        folder = self._folder / name
        folder.mkdir(parents=True)
        self.made[name] = Machine(json.loads(request.body), folder)
        self.alive.add(name)
        if self.faults.slow_create:
            await self.faults.slow_create.wait()
        made = {"templateID": "t", "sandboxID": name, "clientID": "c", "envdVersion": "0.6.2", "envdAccessToken": "tok"}
        return _json(201, made)

    async def _kill(self, request: _Request, name: str) -> bytes:
        assert request.headers["x-api-key"] == KEY
        if self.faults.kill:
            return _refused(self.faults.kill)
        if name not in self.alive:
            return _said(404, "there is no such sandbox")
        await self.lose(name)
        return _whole(204, b"", "text/plain")

    async def lose(self, name: str) -> None:
        """End a machine."""
        self.alive.discard(name)
        await self.made[name].end()

    async def _inside(self, place: str, request: _Request, writer: asyncio.StreamWriter) -> None:
        name = request.headers["e2b-sandbox-id"]
        if name not in self.alive:
            writer.write(_said(502, "The sandbox was not found"))
        elif place == "health":
            writer.write(_whole(204, b"", "text/plain"))
        elif request.headers.get("x-access-token") != "tok":
            writer.write(_said(401, "no token"))
        elif place == "execute":
            await self._execute(self.made[name], json.loads(request.body)["code"], writer)
        else:
            writer.write(self._files(self.made[name], request))

    def _files(self, machine: Machine, request: _Request) -> bytes:
        path = Path(request.query["path"][0].replace(_THERE, str(machine.folder)))
        if request.method == "POST":
            if self.faults.write:
                return _refused(self.faults.write)
            path.write_bytes(_part(request))
            return _json(200, [{"name": path.name, "type": "file", "path": str(path)}])
        if not path.exists():
            return _said(404, f"path '{path.name}' does not exist")
        content = path.read_bytes() if self.faults.outcome is None else self.faults.outcome
        return _whole(200, content, "application/octet-stream")

    async def _execute(self, machine: Machine, code: str, writer: asyncio.StreamWriter) -> None:
        fault = self.faults.execute
        if isinstance(fault, Refusal):
            writer.write(_refused(fault))
            return
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n"
                     b"connection: close\r\n\r\n")  # fmt: skip
        writer.write(_chunk(json.dumps({"type": "number_of_executions", "execution_count": 1}).encode() + b"\n"))
        if fault in ("cut", "torn"):
            writer.write(_chunk(b'{"type": "std'))
        elif fault == "early":
            writer.write(_chunk(b'{"type": "end_of_execution"}\n'))
        else:
            for line in await _run(machine, code.replace(_THERE, str(machine.folder))):
                writer.write(_chunk(json.dumps(line).encode() + b"\n"))
        if fault != "cut" and machine.folder.exists():
            writer.write(b"0\r\n\r\n")


async def _run(machine: Machine, code: str) -> list[dict[str, Any]]:
    machine.process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    stdout, stderr = await machine.process.communicate()
    lines: list[dict[str, Any]] = [{"type": name, "text": data.decode(), "timestamp": _TIMESTAMP}
                                   for name, data in (("stdout", stdout), ("stderr", stderr)) if data]  # fmt: skip
    if machine.process.returncode:
        said = stderr.decode()
        lines.append({"type": "error", "name": "Exit", "value": said[-300:], "traceback": said})
    return [*lines, {"type": "end_of_execution"}]


async def _read(reader: asyncio.StreamReader) -> _Request:
    request = _Request(await reader.readuntil(b"\r\n\r\n"), b"")
    if request.headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            request.body += (await reader.readexactly(size + 2))[:-2]
    else:
        request.body = await reader.readexactly(int(request.headers.get("content-length", 0)))
    return request


def _part(request: _Request) -> bytes:
    """The content of the one file in a form."""
    boundary = request.headers["content-type"].partition("boundary=")[2].encode()
    return request.body.split(b"--" + boundary)[1].partition(b"\r\n\r\n")[2][:-2]


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def _refused(refusal: Refusal) -> bytes:
    return _said(refusal.status, refusal.message, refusal.headers)


def _said(status: int, message: str, headers: dict[str, str] | None = None) -> bytes:
    return _json(status, {"code": status, "message": message}, headers)


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> bytes:
    return _whole(status, json.dumps(body).encode(), "application/json", headers)


def _whole(status: int, body: bytes, content_type: str, headers: dict[str, str] | None = None) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    return (
        f"HTTP/1.1 {status} Said\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
        f"connection: close\r\n{head}\r\n"
    ).encode() + body
