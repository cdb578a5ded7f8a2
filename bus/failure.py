"""A failure as it crosses the wire, and its one mapping from and to exceptions.

Authors of tools decide one thing only: may this be tried again? ``RetryableError`` says yes (and when),
``TerminalError`` says no, every other exception is unknown and gets the budget of the retry policy.
"""

from __future__ import annotations

import asyncio
import traceback as tb
from pathlib import Path
from typing import Any

import msgspec

from bus.errors import CallboardError, PeerError, UsageError

# The code of a call that the job itself has answered, since it does not wait for it any more: its tool stops.
GIVEN_UP = "given_up"
TRACEBACK_LIMIT_CHARS = 8_000
_ROOT = Path(__file__).parent.parent
_OURS = frozenset(_ROOT / package for package in ("bus", "store", "supervisor", "actors"))


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong: ``code`` for programs, ``message`` for people, the rest as far as it is known.

    ``retryable`` is None when the author did not say. ``exception`` is the class name on the far side.
    """

    code: str
    message: str
    retryable: bool | None = None
    retry_after_s: float | None = None
    exception: str = ""
    bases: tuple[str, ...] = ()
    path: str = ""
    hint: str = ""
    traceback: str = ""
    details: dict[str, Any] | None = None


class RetryableError(CallboardError):
    """Raised by a tool: try again, not before ``retry_after_s`` seconds if given. ``code`` travels to the caller."""

    def __init__(self, message: str, *, retry_after_s: float | None = None, code: str = "retryable") -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.code = code


class TerminalError(CallboardError):
    """Raised by a tool or job: no further attempt can help. ``code`` and ``details`` travel to the caller."""

    def __init__(self, message: str, *, code: str = "terminal", details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class CallFailed(PeerError):
    """Raised in a job by ``await job.call(...)`` when the call's attempts are spent."""


def failure_of(error: BaseException) -> Failure:
    """The failure that describes ``error``; a peer's failure passes through unchanged."""
    if isinstance(error, PeerError):
        return error.failure
    name, bases = type(error).__name__, _bases(error)
    trace = _trace(error)
    message = str(error) or name
    match error:
        case RetryableError():
            return Failure(code=error.code, message=message, retryable=True, retry_after_s=error.retry_after_s,
                           exception=name, bases=bases, traceback=trace)  # fmt: skip
        case TerminalError():
            return Failure(code=error.code, message=message, retryable=False, exception=name, bases=bases,
                           traceback=trace, details=error.details)  # fmt: skip
        case UsageError():
            return Failure(code=error.code, message=error.args[0], retryable=False, exception=name, bases=bases,
                           path=error.path, hint=error.hint)  # fmt: skip
        case SystemExit():
            said = f"sys.exit({error.code!r}) was called"
            return Failure(code="exited", message=said, exception=name, traceback=trace)
        case TimeoutError() | asyncio.TimeoutError():
            return Failure(code="timeout", message=message, exception=name, bases=bases, traceback=trace)
        case _:
            return Failure(code="error", message=f"{name}: {error}", exception=name, bases=bases, traceback=trace)


def _trace(error: BaseException) -> str:
    """The traceback from where the user's code begins: the frames of ours that led there explain nothing."""
    frames = error.__traceback__
    while frames is not None and _is_ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    lines = tb.format_exception(type(error), error, frames or error.__traceback__)
    return "".join(lines)[-TRACEBACK_LIMIT_CHARS:]


def _is_ours(filename: str) -> bool:
    return Path(filename).parent in _OURS or "concurrent/futures" in filename or "asyncio" in filename


def _bases(error: BaseException) -> tuple[str, ...]:
    """Class names from the error's own up to, not including, ``Exception``: what ``Retry(on=...)`` matches."""
    return tuple(c.__name__ for c in type(error).__mro__ if c not in (Exception, BaseException, object))
