"""Where each part of a value was written that was put together from several files.

Parts that are taken over as they are need no note: their place follows from that of what holds them. So only lists and
mappings that a merge has made are known here, each by its identity, and what is known is kept alive.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

from actors.workflow.finding import Path
from actors.workflow.source import Source

T = TypeVar("T", list[Any], dict[str, Any])


class Spot(NamedTuple):
    """A place in a file."""

    source: Source
    path: Path

    def within(self, *path: str | int) -> Spot:
        """What is at this path in it."""
        return Spot(self.source, (*self.path, *path))


class Origins:
    """The spots of a value, whose top is at ``top``."""

    def __init__(self, top: Spot) -> None:
        self._top = top
        self._marks: dict[int, dict[str | int, Spot]] = {}
        # Fields that an extension took away.
        self._gone: dict[int, dict[str, Spot]] = {}
        self._kept: list[Any] = []

    def copy(self, value: T) -> T:
        """A list or mapping of the same things, to be changed."""
        copied: T = value.copy()
        self._kept += (value, copied)
        self._marks[id(copied)] = dict(self._marks.get(id(value), {}))
        self._gone[id(copied)] = dict(self._gone.get(id(value), {}))
        return copied

    def made(self, value: T) -> T:
        """A new list or mapping, to be filled."""
        self._kept.append(value)
        self._marks[id(value)] = {}
        return value

    def mark(self, holder: Any, key: str | int, spot: Spot) -> None:
        """What ``holder`` (copied or made here) has at ``key`` was written there."""
        self._marks[id(holder)][key] = spot

    def of(self, holder: Any, key: str | int, spot: Spot) -> Spot:
        """Where that of ``holder`` was written, which itself was written at ``spot``."""
        return self._marks.get(id(holder), {}).get(key) or spot.within(key)

    def spot(self, value: Any, path: Path) -> Spot:
        """Where that was written which is at ``path`` of ``value``, or would be."""
        spot = self._top
        for key in path:
            spot = self.of(value, key, spot)
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                value = None
        return spot

    def taken_from(self, value: Any, path: Path) -> dict[str, Spot]:
        """The fields that were taken away from what is at ``path``, and where."""
        for key in path:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return {}
        return self._gone.get(id(value), {})

    def patch(self, target: Any, change: dict[str, Any], spot: Spot) -> dict[str, Any]:
        """``target`` changed as RFC 7386 says; ``change`` was written at ``spot``."""
        patched = self.copy(target) if isinstance(target, dict) else self.made({})
        for key, value in change.items():
            if value is None:
                patched.pop(key, None)
                self._gone.setdefault(id(patched), {})[key] = spot.within(key)
                continue
            if not (isinstance(value, dict) and isinstance(patched.get(key), dict)):
                self.mark(patched, key, spot.within(key))
            is_mapping = isinstance(value, dict)
            patched[key] = self.patch(patched.get(key), value, spot.within(key)) if is_mapping else value
        return patched
