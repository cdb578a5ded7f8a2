"""When a provider wants to be asked again, by the headers of its answer. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST_WAIT_S = 3600.0


def retry_after_s(headers: Mapping[str, str], now: datetime) -> float | None:
    """The wait that the server asks for: header ``retry-after-ms``, or ``retry-after`` in seconds or as a date."""
    exact = _number(headers.get("retry-after-ms", ""))
    if exact is not None:
        return _bounded(exact / 1000)
    said = headers.get("retry-after", "").strip()
    if not said:
        return None
    seconds = _number(said)
    return _bounded(seconds) if seconds is not None else _until(said, now)


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"\s*\d{1,12}(\.\d{1,12})?\s*", text) else None


def _until(date: str, now: datetime) -> float | None:
    try:
        at = parsedate_to_datetime(date)
    except ValueError:
        return None
    return _bounded((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now.timestamp())


def _bounded(wait_s: float) -> float:
    """A server whose clock is wrong does not put a job off for days."""
    return min(max(0.0, wait_s), LONGEST_WAIT_S)
