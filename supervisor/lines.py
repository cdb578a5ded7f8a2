"""A child's output, cut into lines of bounded length as it comes in."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LINE_LIMIT_BYTES = 16_384


class LineSplitter:
    """Bytes in, text lines out; of a line only the first ``LINE_LIMIT_BYTES`` are kept, however long it grows."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._length_bytes = 0

    def feed(self, data: bytes) -> Iterator[str]:
        """The lines that ``data`` completes."""
        *ended, rest = data.split(b"\n")
        for part in ended:
            self._hold(part)
            yield self._take()
        self._hold(rest)

    def close(self) -> Iterator[str]:
        """The last line, if the output did not end with a line break."""
        if self._length_bytes:
            yield self._take()

    def _hold(self, part: bytes) -> None:
        self._length_bytes += len(part)
        self._held += part[: max(0, LINE_LIMIT_BYTES - len(self._held))]

    def _take(self) -> str:
        text = self._held.decode("utf-8", "replace").rstrip("\r")
        cut_bytes = self._length_bytes - len(self._held)
        self._held.clear()
        self._length_bytes = 0
        return f"{text} ... ({cut_bytes:,} bytes cut)" if cut_bytes else text
