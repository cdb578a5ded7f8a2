"""What went wrong with a call of the Messages API: may it be tried again, and when. Pure: status, kind and headers.

The kind counts more than the status: an error in the middle of a stream comes under status 200.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from bus.failure import RetryableError, TerminalError

LONGEST_WAIT_S = 3600.0
_TOO_LONG = re.compile(r"prompt is too long|too many (total )?(text )?(bytes|tokens)|exceeds? .*context", re.IGNORECASE)
_STATUS_OF = {
    "invalid_request_error": 400, "authentication_error": 401, "billing_error": 402, "permission_error": 403,
    "not_found_error": 404, "request_too_large": 413, "rate_limit_error": 429, "api_error": 500, "timeout_error": 504,
    "overloaded_error": 529,
}  # fmt: skip


def call_error(
    status: int, kind: str, message: str, headers: Mapping[str, str], *, model: str, now: datetime
) -> RetryableError | TerminalError:
    """The error to raise for an answer of the API that is one. ``kind`` is its ``error.type``, empty if it had none."""
    said = f"Anthropic answered {model} with {kind or status}: {message}"
    match _STATUS_OF.get(kind, status) if status < 400 else status:
        case 401 | 402 | 403:
            return TerminalError(f"{said} (see ANTHROPIC_API_KEY)", code="unauthorized")
        case 404:
            return TerminalError(f"{said} (is there a model of that name, and is the base URL right?)",
                                 code="unknown_model")  # fmt: skip
        case 413:
            return TerminalError(said, code="context_too_long")
        case 408 | 504:
            return RetryableError(said, code="timeout", retry_after_s=retry_after_s(headers, now))
        case 429:
            return RetryableError(said, code="rate_limited", retry_after_s=retry_after_s(headers, now))
        case 409:
            return RetryableError(said, code="overloaded", retry_after_s=retry_after_s(headers, now))
        case number if 400 <= number < 500:
            return TerminalError(said, code="context_too_long" if _TOO_LONG.search(message) else "bad_request")
        case _:
            return RetryableError(said, code="overloaded", retry_after_s=retry_after_s(headers, now))


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
