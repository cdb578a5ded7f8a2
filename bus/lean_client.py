"""nats-py's client with a quicker way in and out for messages.

In: the library looks at each character of each header's name, 2.6 us a header, and a reply that the server republishes
carries six. Out: a publish goes through five coroutines and looks at each header with three regular expressions, 11 us
with three headers against 3 us here. The rules are the library's; ``tests/test_lean_client.py`` holds the two against
each other byte for byte, and fails if a private name that is used goes away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import nats.aio.client
from nats.aio.client import Client

# With fast-mail-parser installed, nats-py 2.16 gives each header as a list and nothing of ours can read it.
nats.aio.client.parse_email = None  # type: ignore[attr-defined]


_UNKNOWN = "\0"
_NAMES_LIMIT = 1000
_names: dict[bytes, str] = {}
_sound_keys: set[str] = set()
# Beyond this the library's own way is taken, which waits for the socket when too much lies before it.
_HURRY_LIMIT_BYTES = 1 << 20


def parse_header_lines(raw: bytes) -> dict[str, str]:
    """``Name: value`` lines as a dict; lines without a colon and names that are no ASCII word are left out."""
    headers: dict[str, str] = {}
    for line in raw.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon and (key := _names.get(name) or _name(name)) != _UNKNOWN:
            headers[key] = value.strip().decode("utf-8", "replace")
    return headers


def _name(raw: bytes) -> str:
    """The library's rule, looked up from then on: there are few names, and each comes thousands of times a second."""
    try:
        name = raw.strip().decode("ascii")
    except UnicodeDecodeError:
        name = _UNKNOWN
    if any(char.isspace() for char in name):
        name = _UNKNOWN
    if len(_names) < _NAMES_LIMIT:
        _names[raw] = name
    return name


def header_block(headers: Mapping[str, str]) -> bytes | None:
    """The headers as they are sent; None for what the library has to look at: a strange name, a line break, a blank."""
    lines = ["NATS/1.0\r\n"]
    for key, value in headers.items():
        if key not in _sound_keys and not _is_sound(key):
            return None
        if value.strip() != value or "\n" in value or "\r" in value:
            return None
        lines.append(f"{key}: {value}\r\n")
    lines.append("\r\n")
    return "".join(lines).encode()


def _is_sound(key: str) -> bool:
    sound = key == key.strip() and nats.aio.client._HEADER_KEY_RE.fullmatch(key) is not None
    if sound and len(_sound_keys) < _NAMES_LIMIT:
        _sound_keys.add(key)
    return sound


class LeanClient(Client):
    """A nats-py client that parses headers with :func:`parse_header_lines`, and whose flush is a barrier."""

    def publish_now(self, subject: str, payload: bytes, reply: str, headers: Mapping[str, str] | None) -> bool:
        """Put a message on its way without a coroutine; False if it has to be published in the library's own way.

        The caller has checked size and subject.
        """
        flushes = self._flush_queue
        if self._status != Client.CONNECTED or flushes is None or self._pending_data_size > _HURRY_LIMIT_BYTES:
            return False
        if self._flusher_task is None or self._flusher_task.done():
            return False
        if not headers:
            command = b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply.encode(), len(payload), payload)
        elif block := header_block(headers):
            sizes = len(block), len(block) + len(payload)
            command = b"HPUB %b %b %d %d\r\n%b%b\r\n" % (subject.encode(), reply.encode(), *sizes, block, payload)
        else:
            return False
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += len(payload)
        self._pending.append(command)
        self._pending_data_size += len(command)
        if flushes.empty():
            flushes.put_nowait(asyncio.get_running_loop().create_future())
        return True

    _parse_header_lines = staticmethod(parse_header_lines)

    async def flush(self, timeout: float = 10) -> None:
        """Wait until the server has had all that was sent before.

        The library writes its PING past what it still has to write, so that the PONG can come before the server has
        seen any of it. And it drops a cancellation that comes while it writes: Ctrl-C was lost, one time in ten. So it
        flushes in a task of its own, which goes on when its caller has given up.
        """
        flushing = asyncio.create_task(self._flush(timeout))
        flushing.add_done_callback(_heed)
        await asyncio.shield(flushing)

    async def _flush(self, timeout: float) -> None:
        await self._flush_pending(force_flush=True)
        await super().flush(timeout)  # type: ignore[arg-type]

    async def _process_pong(self) -> None:
        # After a flush that was not answered in time the library has a future here that is done, and the answer that
        # comes late ends its read loop: the connection hears nothing for as long as it takes to miss two pings.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()


def _heed(flushing: asyncio.Task[None]) -> None:
    """What a flush that nobody waits for has come to is of no interest, and no reason for a warning."""
    if not flushing.cancelled():
        flushing.exception()
