"""What a server writes to its standard error: passed on to ours, and its end kept for when the server fails."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import Self, TextIO

KEPT_LINES = 8
_LINE_LIMIT_CHARS = 300


class LastWords:
    """Open with ``with``: ``file`` is what the server's standard error is to be. A thread reads it to its end."""

    def __init__(self, secrets: Sequence[str] = (), *, is_quiet: bool = False) -> None:
        self._secrets = secrets
        self._is_quiet = is_quiet
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        reading, writing = os.pipe()
        self.file: TextIO = os.fdopen(writing, "w")
        self._thread = threading.Thread(target=self._read, args=(reading,), name="mcp-stderr", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def text(self, wait_s: float = 0.0) -> str:
        """The last lines as one; waits so long for the end of a server that has just died."""
        self._thread.join(wait_s)
        return " / ".join(self._lines)

    def clean(self, text: str) -> str:
        """Without the values that must not be told."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def _read(self, descriptor: int) -> None:
        with os.fdopen(descriptor, "r", errors="replace") as pipe:
            for line in pipe:
                text = self.clean(line.rstrip())
                if text:
                    self._lines.append(text[:_LINE_LIMIT_CHARS])
                if not self._is_quiet:
                    with contextlib.suppress(OSError, ValueError):  # ours may be closed by now
                        sys.stderr.write(f"{text}\n")
