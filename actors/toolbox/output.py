"""What a program of somebody else's prints: read to its end, and kept as far as there is room."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

_CHUNK_BYTES = 65_536


@dataclass
class Output:
    """A stream's beginning, as far as it is kept, and how much there was."""

    limit_bytes: int
    kept: bytearray = field(default_factory=bytearray)
    size_bytes: int = 0

    def take(self, data: bytes) -> None:
        """Count ``data``, and keep what there is room for."""
        self.size_bytes += len(data)
        self.kept += data[: self.limit_bytes - len(self.kept)]

    def text(self, name: str, limit_chars: int) -> tuple[str, str]:
        """As text of at most that length, and, if some is missing, a notice that says so of the stream ``name``."""
        text = self.kept.decode("utf-8", "replace")
        kept = text[:limit_chars]
        if self.size_bytes == len(self.kept) and kept == text:
            return kept, ""
        return kept, f"{name}: {self.size_bytes:,} bytes, of which the first {len(kept):,} characters are kept"


async def drain(stream: asyncio.StreamReader | None, output: Output) -> None:
    """Read all of it, so that the program never waits for a reader."""
    assert stream is not None
    while data := await stream.read(_CHUNK_BYTES):
        output.take(data)
