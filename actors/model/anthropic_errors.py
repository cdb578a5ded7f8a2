"""What went wrong with a call of the Messages API: may it be tried again, and when. Pure: status, kind and headers.

The kind counts more than the status: an error in the middle of a stream comes under status 200.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime

from actors.model.retry_after import retry_after_s
from bus.failure import RetryableError, TerminalError

_TOO_LONG = re.compile(r"prompt is too long|too many (total )?(text )?(bytes|tokens)|exceeds? .*context", re.IGNORECASE)
# An account without money is told so with status 400.
_SPENT = re.compile(r"credit balance is too low", re.IGNORECASE)
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
        case 402:
            return TerminalError(said, code="quota_exhausted")
        case 401 | 403:
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
            return TerminalError(said, code=_bad_code(message))
        case _:
            return RetryableError(said, code="overloaded", retry_after_s=retry_after_s(headers, now))


def _bad_code(message: str) -> str:
    if _SPENT.search(message):
        return "quota_exhausted"
    return "context_too_long" if _TOO_LONG.search(message) else "bad_request"
