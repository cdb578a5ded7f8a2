"""``--verify``: a job's function against its recorded history, in a process of its own.

The module is somebody's code as it happens to be at the moment: it may not import, may print, block or end its process.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec

from actors.command_bodies.describe import import_environment, refusal
from actors.replays.verdict import Verdict
from bus.errors import UsageError
from store.snapshot import Snapshot, encode_snapshot

LIMIT_S = 60.0
WORDS_LIMIT_BYTES = 64 * 1024


async def verify(target: str, snapshot: Snapshot, *, at: int | None = None, limit_s: float | None = None) -> Verdict:
    """What the present function of the app at ``target`` does with the history, up to sequence ``at`` if given.

    Raises: UsageError with what the module's own process said, or if it takes longer than ``limit_s`` seconds.
    """
    with tempfile.TemporaryDirectory(prefix="callboard-verify-") as scratch:
        files = _Files(Path(scratch))
        files.put(snapshot)
        until = () if at is None else ("--at", str(at))
        limit_s = LIMIT_S if limit_s is None else limit_s
        argv = ("verify", *until, "--limit", str(limit_s), target, str(files.snapshot), str(files.verdict))
        code, err = await _run(target, argv, limit_s)
        if code == 0 and (verdict := files.get()):
            return verdict
        raise refusal("verify", target, code, err)


class _Files:
    """What goes in and out: standard output belongs to the module."""

    def __init__(self, directory: Path) -> None:
        self.snapshot, self.verdict = directory / "snapshot.json", directory / "verdict.json"

    def put(self, snapshot: Snapshot) -> None:
        self.snapshot.write_bytes(encode_snapshot(snapshot))

    def get(self) -> Verdict | None:
        """None if the process ended before it came to one."""
        return msgspec.json.decode(self.verdict.read_bytes(), type=Verdict) if self.verdict.exists() else None


async def _run(target: str, argv: tuple[str, ...], limit_s: float) -> tuple[int | None, bytes]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "actors.node.process", *argv, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env=import_environment(),
    )  # fmt: skip
    assert child.stderr is not None
    try:
        async with asyncio.timeout(limit_s):
            said = await _last_words(child.stderr)
            await child.wait()
    except TimeoutError:
        raise UsageError(
            f"{target} did not come to an end within {limit_s:g} s", code="too_slow",
            hint="a job function that blocks or never awaits does this; --timeout gives it longer",
        ) from None  # fmt: skip
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    return child.returncode, said


async def _last_words(stream: asyncio.StreamReader) -> bytes:
    """The end of what the process says: one that never stops talking must not fill our memory."""
    said = b""
    while piece := await stream.read(WORDS_LIMIT_BYTES):
        said = (said + piece)[-WORDS_LIMIT_BYTES:]
    return said
