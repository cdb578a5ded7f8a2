"""The body of an answer as it comes in: unpacked here, and never more of it than was allowed. No I/O.

A few kilobytes of gzip unpack to gigabytes, so the limit is on what comes out, and the unpacker is asked for no more
than is still wanted. A client that unpacks by itself looks at the limit too late.
"""

from __future__ import annotations

import zlib

from bus.failure import RetryableError, TerminalError

ACCEPTED = "gzip, deflate"
# Both formats by their own headers.
_GZIP_OR_ZLIB = zlib.MAX_WBITS | 32


class BoundedBody:
    """Feed it parts until it says that it is full. ``truncated`` says whether there was more."""

    def __init__(self, limit_bytes: int, encoding: str = "") -> None:
        self._limit_bytes = limit_bytes
        self._unpack = _unpacker(encoding)
        self._kept = bytearray()
        self._fed_bytes = 0
        self.truncated = False

    def feed(self, part: bytes) -> bool:
        """Take a part as it came over the wire; False once nothing more is wanted.

        Raises: RetryableError if it cannot be unpacked.
        """
        self._fed_bytes += len(part)
        room_bytes = self._limit_bytes - len(self._kept)
        # One byte more than there is room for tells a body that just fits from one that does not.
        plain = part[: room_bytes + 1] if self._unpack is None else self._unpacked(self._unpack, part, room_bytes + 1)
        self._kept += plain[:room_bytes]
        # What unpacks to nothing, or stands behind the packed part, is not read for ever either.
        self.truncated = len(plain) > room_bytes or self._fed_bytes > self._limit_bytes + 65_536
        ended = self._unpack is not None and self._unpack.eof
        return not (self.truncated or ended)

    @property
    def content(self) -> bytes:
        """What was kept, unpacked."""
        return bytes(self._kept)

    @staticmethod
    def _unpacked(unpack: zlib._Decompress, part: bytes, most_bytes: int) -> bytes:
        try:
            return unpack.decompress(part, most_bytes)
        except zlib.error:
            raise RetryableError("the answer cannot be unpacked: it is damaged", code="bad_answer") from None


def _unpacker(encoding: str) -> zlib._Decompress | None:
    match encoding.strip().lower():
        case "" | "identity":
            return None
        case "gzip" | "x-gzip" | "deflate":
            return zlib.decompressobj(_GZIP_OR_ZLIB)
        case other:
            raise TerminalError(f"the answer is packed as {other[:40]!r}, which nobody asked for", code="bad_answer")
