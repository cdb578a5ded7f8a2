"""Durations and instants as people write them: ``90s``, ``10m``, ``1h30m``, ``2026-12-01T08:00Z``. Pure.

A :data:`Moment` is either so many seconds after something, or an instant. A header holds its text, so that whoever
reads it can count from the server's clock and not from the writer's.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

from bus.errors import UsageError

Moment = float | datetime

LIMIT_S = 10 * 366 * 86_400.0
DURATION_HINT = "a number and s, m, h or d, as in 90s, 10m, 1h30m, 2d"
MOMENT_HINT = f"{DURATION_HINT}; or an instant, as in 2026-12-01T08:00Z"
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?:\d{1,12}(?:\.\d{1,9})?[smhd])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def parse_duration(text: str, path: str) -> float:
    """``1h30m`` in seconds. Raises: UsageError ``bad_duration`` that names ``path``."""
    if not _DURATION.fullmatch(text):
        raise UsageError(f"cannot read the duration {text!r}", code="bad_duration", path=path, hint=DURATION_HINT)
    return check_seconds(sum(float(number) * _UNITS_S[unit] for number, unit in _PART.findall(text)), path)


def check_seconds(seconds: float, path: str) -> float:
    """``seconds`` if they can be waited for: not below zero, ten years at most. Raises: UsageError."""
    if not (math.isfinite(seconds) and 0 <= seconds < LIMIT_S):
        raise UsageError(
            f"{seconds!r} seconds cannot be", code="bad_duration", path=path, hint="0 or more, ten years at most"
        )
    return seconds


def parse_moment(text: str, path: str) -> Moment:
    """A duration in seconds, or an instant with its time zone. Raises: UsageError that names ``path``."""
    if _DURATION.fullmatch(text):
        return parse_duration(text, path)
    try:
        return check_instant(datetime.fromisoformat(text), path)
    except ValueError as error:
        message = f"cannot read {text!r} as a duration or an instant"
        raise UsageError(message, code="bad_instant", path=path, hint=MOMENT_HINT) from error


def check_instant(instant: datetime, path: str) -> datetime:
    """``instant`` in UTC if it has a time zone and the server can hold it. Raises: UsageError."""
    if instant.tzinfo is None:
        raise UsageError(
            f"{instant.isoformat()} has no time zone", code="bad_instant", path=path,
            hint=f"{instant.isoformat()}Z for UTC, {instant.isoformat()}+01:00 for an offset",
        )  # fmt: skip
    if not 1970 < instant.year < 2262:  # the server counts ns in 64 bits
        raise UsageError(f"{instant.isoformat()} is out of range", code="bad_instant", path=path, hint="1971 to 2261")
    return instant.astimezone(UTC)


def instant_of(moment: Moment, base: datetime) -> datetime:
    """The instant that is meant by what was said at ``base``."""
    return moment if isinstance(moment, datetime) else base + timedelta(seconds=moment)


def moment_text(moment: Moment) -> str:
    """The text that :func:`parse_moment` reads back."""
    return rfc3339(moment) if isinstance(moment, datetime) else f"{moment:.6f}".rstrip("0").rstrip(".") + "s"


def rfc3339(instant: datetime) -> str:
    """An instant as the server reads it. Raises: ValueError for one without a time zone."""
    if instant.tzinfo is None:
        raise ValueError(f"{instant} has no time zone")
    return instant.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
