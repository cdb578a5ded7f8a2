"""Durations, sizes, counts and instants for people. Short, with their unit, and the same everywhere."""

from __future__ import annotations

import math
from datetime import datetime, tzinfo

_SIZES = ("B", "KB", "MB", "GB", "TB", "PB")


def duration(seconds: float | None) -> str:
    """``870 us``, ``12 ms``, ``3.2 s``, ``4m05s``, ``2h03m``, ``5d02h``; nothing for None."""
    if seconds is None or math.isnan(seconds):
        return ""
    if seconds < 0:
        return "-" + duration(-seconds)
    if seconds < 59.95:
        return _below_a_minute(seconds)
    if seconds == math.inf:
        return "for ever"
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest_s:02}s"


def _below_a_minute(seconds: float) -> str:
    if seconds == 0:
        return "0 s"
    if seconds < 0.0009995:
        return f"{seconds * 1e6:.0f} us"
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"


def size(count_bytes: float | None) -> str:
    """``17 B``, ``4.2 KB``, ``310 MB``, in steps of 1,000; nothing for None."""
    if count_bytes is None:
        return ""
    if count_bytes < 0:
        return "no limit"
    value, unit = float(count_bytes), 0
    while value >= 999.5 and unit < len(_SIZES) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.1f} {_SIZES[unit]}" if unit and value < 99.95 else f"{value:.0f} {_SIZES[unit]}"


def count(number: float) -> str:
    """A number with its thousands apart; fractions with up to three digits."""
    if isinstance(number, int):
        return f"{number:,}"
    if not math.isfinite(number):
        return str(number)
    if number.is_integer() and abs(number) < 1e15:
        return f"{int(number):,}"
    return f"{number:,.3f}".rstrip("0").rstrip(".") if 0.001 <= abs(number) < 1e15 else f"{number:.3g}"


def plural(number: int, noun: str, nouns: str = "") -> str:
    """``1 call``, ``2 calls``."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def clock(at: datetime, zone: tzinfo | None = None) -> str:
    """The local time of day to the millisecond: one line of a tail. ``zone`` None is the machine's own."""
    local = at.astimezone(zone)
    return f"{local:%H:%M:%S}.{local.microsecond // 1000:03}"


def instant(at: datetime | None, zone: tzinfo | None = None) -> str:
    """Local date and time to the second; nothing for None."""
    return "" if at is None else f"{at.astimezone(zone):%Y-%m-%d %H:%M:%S}"


def ago(at: datetime | None, now: datetime) -> str:
    """``3.2 s ago``, ``in 4m05s``; nothing for None."""
    if at is None:
        return ""
    seconds = (now - at).total_seconds()
    return f"{duration(seconds)} ago" if seconds >= 0 else f"in {duration(-seconds)}"
