"""A fresh nats-server for each turn, so that no turn pays for the streams of the one before."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

START_LIMIT_S = 10.0


@asynccontextmanager
async def fresh_server() -> AsyncIterator[tuple[str, int]]:
    """A server on a free port with an empty store; gives its URL and pid, and takes both away at the end."""
    directory = tempfile.mkdtemp(prefix="callboard-bench-")
    options = ["-a", "127.0.0.1", "-p", "-1", "-js", "-sd", directory, "--ports_file_dir", directory]
    process = await asyncio.create_subprocess_exec("nats-server", *options, stderr=asyncio.subprocess.DEVNULL)
    try:
        yield await _url(Path(directory)), process.pid
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(directory, ignore_errors=True)


async def _url(directory: Path) -> str:
    """The client URL from the ports file, which the server writes once it listens."""
    async with asyncio.timeout(START_LIMIT_S):
        while not (text := _ports_file(directory)):  # noqa: ASYNC110 - another process writes it, no event tells
            await asyncio.sleep(0.01)
    return str(json.loads(text)["nats"][0])


def _ports_file(directory: Path) -> str:
    """The text of the server's ports file; empty while there is none."""
    return "".join(path.read_text() for path in directory.glob("*.ports"))
