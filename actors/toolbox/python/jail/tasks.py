"""How many threads a user has: where a sandbox is not counted apart, they count against its limit."""

from __future__ import annotations

import os


def tasks_of(uid: int) -> int:
    """The threads of all processes of that user."""
    return sum(_threads(f"/proc/{name}", uid) for name in _listing("/proc") if name.isdigit())


def _threads(folder: str, uid: int) -> int:
    try:
        return len(os.listdir(f"{folder}/task")) if os.stat(folder).st_uid == uid else 0
    except OSError:  # it has ended meanwhile
        return 0


def _listing(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # macOS has none
        return []
