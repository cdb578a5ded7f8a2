"""What ``callboard doctor`` says of one thing that it looked at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

Level = Literal["ok", "warn", "fail"]


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at: how it is, in what, and what to do about it (empty when nothing)."""

    level: Level
    what: str
    detail: str
    advice: str = ""


def worst(findings: Iterable[Finding]) -> Level:
    """The level of the whole: the worst of its parts."""
    levels = {finding.level for finding in findings}
    return "fail" if "fail" in levels else "warn" if "warn" in levels else "ok"
