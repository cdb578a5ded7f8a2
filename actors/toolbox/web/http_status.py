"""What a status of HTTP means for a call: it worked, it may work later, or it never will. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bus.failure import RetryableError, TerminalError

_LATER = {408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
_CODES = {401: "unauthorized", 403: "forbidden", 404: "not_found", 410: "not_found", 451: "forbidden"}


def status_error(
    status: int, where: str, *, retry_after: str = "", now: datetime, said: str = ""
) -> RetryableError | TerminalError | None:
    """The error that a status is; None below 400. ``said`` is what the other side had to say about it."""
    if status < 400:
        return None
    message = f"{where} answered {status}" + (f": {said}" if said else "")
    if status in _LATER:
        code = "rate_limited" if status == 429 else "unavailable"
        return RetryableError(message, retry_after_s=retry_after_s(retry_after, now), code=code)
    return TerminalError(message, code=_CODES.get(status, "http_status"), details={"status": status})


def retry_after_s(text: str, now: datetime) -> float | None:
    """The wait that a ``Retry-After`` header asks for, given in seconds or as a date; None if it says nothing."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (until - now).total_seconds())
