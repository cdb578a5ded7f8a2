"""What went wrong at E2B, as callers of a tool know it. Pure, but for the SDK's classes, which are loaded by then."""

from __future__ import annotations

import re

from bus.failure import RetryableError, TerminalError

_STATUS = re.compile(r"\A(\d{3})\b")
_SAID_LIMIT_CHARS = 500


def failure(error: Exception, secret: str) -> Exception:
    """The error to raise in place of the SDK's; one that nobody knows stays what it is.

    ``secret`` is in no message: what a server says of a refused key may hold it.
    """
    import e2b
    import httpx

    said = _said(error, secret)
    match error:
        case e2b.AuthenticationException():
            return TerminalError(f"E2B refuses the key in E2B_API_KEY: {said}", code="unauthorized")
        case e2b.RateLimitException():
            return RetryableError(f"E2B: {said}", code="rate_limited")
        case e2b.NotEnoughSpaceException():
            return TerminalError(f"the sandbox at E2B has no room for the files: {said}", code="bad_files")
        case e2b.TimeoutException() | e2b.NotFoundException():
            return lost(said)
        case e2b.SandboxException():
            return _by_status(_status(error), said)
        case httpx.TransportError() | OSError() | TimeoutError():
            return lost(said)
        case ValueError() | KeyError():  # a line of the answer that is no JSON: it was cut
            return lost(f"its answer cannot be read ({said})")
        case _ if _status(error) >= 500:
            return _by_status(_status(error), said)
        case _:
            return error


def lost(said: str) -> RetryableError:
    """The error for a sandbox that did not live to the end of its program, or that nobody can reach."""
    return RetryableError(f"the sandbox at E2B is lost: {said}", code="sandbox_lost")


def _by_status(status: int, said: str) -> Exception:
    if status == 429:
        return RetryableError(f"E2B: {said}", code="rate_limited")
    if status in (401, 403):
        return TerminalError(f"E2B refuses the key in E2B_API_KEY: {said}", code="unauthorized")
    if 400 <= status < 500 and status != 408:
        return TerminalError(f"E2B refuses what was asked: {said}", code="sandbox_refused")
    return RetryableError(f"E2B: {said}", code="sandbox_unavailable")


def _status(error: Exception) -> int:
    """Of the SDK's errors some have it as an attribute, some at the beginning of their text, some nowhere: 0."""
    status = getattr(error, "status_code", None)
    found = _STATUS.match(str(error))
    return status if isinstance(status, int) else int(found[1]) if found else 0


def _said(error: Exception, secret: str) -> str:
    text = f"{error}".strip() or type(error).__name__
    return (text.replace(secret, "***") if secret else text)[:_SAID_LIMIT_CHARS]
