"""How well this machine can shut a program in. What is offered is tried, not guessed: one small program for each."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from actors.toolbox.python.jail import landlock
from actors.toolbox.python.jail.order import Level

Require = Literal["any", "landlock", "namespaces", "bubblewrap"]
STRENGTH: dict[str, int] = {"any": 0, "rlimits": 0, "landlock": 1, "namespaces": 2, "bubblewrap": 3}
_NOBODY = 65_534
_SPARE_UIDS = 1_500_000_000


@dataclass(frozen=True)
class Isolation:
    """A way to shut a program in: the level, the user that it becomes (0: none other), whether calls are filtered."""

    level: Level
    uid: int
    seccomp: bool
    bubblewrap: str = ""

    @property
    def text(self) -> str:
        """As results say it: ``namespaces+seccomp+rlimits``."""
        parts = [self.level, "seccomp" if self.seccomp else "", "rlimits" if self.level != "rlimits" else ""]
        return "+".join(part for part in parts if part)

    def is_enough(self, require: Require) -> bool:
        """Whether it is as strong as is asked for."""
        return STRENGTH[self.level] >= STRENGTH[require]


def candidates() -> Iterator[Isolation]:
    """What this machine may offer, the strongest first.

    A user of its own weighs more than who makes the namespaces: the limit of processes does not count for root.
    """
    filters = (True, False) if sys.platform == "linux" else (False,)
    for alike in _levels():
        for uid in _uids():
            for level, program in alike:
                yield from (Isolation(level, uid, seccomp, program) for seccomp in filters)


def _levels() -> Iterator[list[tuple[Level, str]]]:
    if sys.platform == "linux":
        program = shutil.which("bwrap")
        yield [("bubblewrap", program), ("namespaces", "")] if program else [("namespaces", "")]
        if landlock.version():
            yield [("landlock", "")]
    yield [("rlimits", "")]


def _uids() -> list[int]:
    """Root never runs a program as itself if it can become somebody who owns nothing: no limit counts for root."""
    if os.geteuid() or sys.platform != "linux":
        return [0]
    uid = spare_uid(Path("/proc/self/uid_map").read_text(), os.getpid())
    return [uid, 0] if uid else [0]


def spare_uid(uid_map: str, pid: int) -> int:
    """Pure: a user id that nobody has, of its own for each process that asks; 0 if there is none."""
    ranges = [tuple(map(int, line.split())) for line in uid_map.splitlines()]
    for wanted in (_SPARE_UIDS + pid, _NOBODY):
        if any(first <= wanted < first + count for first, _, count in ranges):
            return wanted
    return 0
