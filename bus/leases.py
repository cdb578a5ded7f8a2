"""What a process holds unacknowledged, kept in a small file so that its successor can hand it back at once.

Without it a message of a process that was killed waits until its ack time-out. The successor, started by the same
supervisor under the same name, reads the file and naks all that it finds: redelivery takes milliseconds. The file is
an optimisation only: a lost line costs the ack time-out, a stale one a nak that the server ignores.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

COMPACT_BYTES = 1 << 20
# A book that was not touched for so long is of no use: its leases have run out, and others may hold the messages. The
# server would obey a nak of ours all the same (seen), and give away what somebody works on.
FRESH_S = 8.0


class LeaseBook:
    """An append-only file of reply subjects held (``+``) and let go (``-``), rewritten when it has grown."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.inherited = _read(path)
        self._held: dict[str, None] = {}
        self._lines: list[str] = []
        self._written = 0
        self._flush_due = False
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        if self.inherited:  # still held until somebody has naked them: a second crash must find them too
            for reply in self.inherited:
                self.hold(reply)
            self._flush()

    def inherited_sequences(self) -> frozenset[int]:
        """Where the messages that the predecessor held stand in their stream (see ``Delivery``: count from the end)."""
        parts = [reply.split(".") for reply in self.inherited]
        found = [p[-4 if len(p) <= 9 else -5] for p in parts if len(p) >= 9]
        return frozenset(int(sequence) for sequence in found if sequence.isdigit())

    def hold(self, reply: str) -> None:
        """Note that the message with this ack subject is being worked on."""
        self._held[reply] = None
        self._add(f"+{reply}\n")

    def release(self, reply: str) -> None:
        """Note that it was acked or given back."""
        if self._held.pop(reply, 0) is None:
            self._add(f"-{reply}\n")

    def touch(self) -> None:
        """Note that all that is held was kept in progress just now."""
        if self._fd >= 0:
            os.utime(self._fd)

    def _add(self, line: str) -> None:
        self._lines.append(line)
        if not self._flush_due:
            # One write for each turn of the event loop: at 5,000 messages a second a write each would show.
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        data = "".join(self._lines).encode()
        self._lines.clear()
        if data and self._fd >= 0:
            self._written += os.write(self._fd, data)
        if self._written > COMPACT_BYTES:
            self._compact()

    def _compact(self) -> None:
        fresh = self.path.with_suffix(".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._written = os.write(fd, "".join(f"+{r}\n" for r in self._held).encode())
        fresh.replace(self.path)
        os.close(self._fd)
        self._fd = fd
        # Never compact again before the file has doubled, however much is held.
        self._written = min(self._written, COMPACT_BYTES // 2)

    def close(self) -> None:
        """Write what is pending and close the file; what is let go later stands in it as held, which does no harm."""
        self._flush()
        os.close(self._fd)
        self._fd = -1


def _read(path: Path) -> list[str]:
    held: dict[str, None] = {}
    try:
        if time.time() - path.stat().st_mtime > FRESH_S:
            return []
        text = path.read_text(errors="replace")
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        if line.startswith("+"):
            held[line[1:]] = None
        elif line.startswith("-"):
            held.pop(line[1:], None)
    return [reply for reply in held if reply.startswith("$JS.ACK.")]
