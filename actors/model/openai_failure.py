"""What an error of the ``openai`` package means to us: whether the call may be made again, when, and why it failed.

Its classes are told apart by their attributes, so that nothing of it is imported here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from actors.model.retry_after import retry_after_s
from bus.failure import RetryableError, TerminalError

SHOWN_CHARS = 500
# What servers say of a conversation that has outgrown the model: OpenAI, vLLM, llama.cpp and Ollama.
_TOO_LONG = re.compile(
    r"context_length_exceeded|maximum context length|context (window|length|size)|prompt is too long|max_model_len"
    r"|exceed_context_size"
)
_KEY = re.compile(r"\b(sk|key|Bearer)[-_ ][\w*.-]{6,}")
# No waiting gives a quota back.
_SPENT = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})


def status_failure(
    who: str, status: int, headers: Mapping[str, str], body: object, said: str
) -> RetryableError | TerminalError:
    """What an answer that is no success means. ``body`` is what the server sent, if that was JSON."""
    kind = error_kind(body)
    text = f"{who} answered {status}: {shown(said)}"
    if status == 429 and kind not in _SPENT:
        return RetryableError(text, retry_after_s=retry_after_s(headers, datetime.now(UTC)), code="rate_limited")
    if status in (408, 504):
        return RetryableError(text, retry_after_s=retry_after_s(headers, datetime.now(UTC)), code="timeout")
    if status in (409, 425) or status >= 500:
        return RetryableError(text, retry_after_s=retry_after_s(headers, datetime.now(UTC)), code="overloaded")
    return TerminalError(text, code=_terminal_code(status, kind, said), details={"status": status})


def _terminal_code(status: int, kind: str, said: str) -> str:
    if kind in _SPENT or status == 402:
        return "quota_exhausted"
    if status == 404:
        return "unknown_model"
    if status in (401, 403):
        return "unauthorized"
    return "context_too_long" if _TOO_LONG.search(f"{kind} {said}") else "bad_request"


def stream_failure(who: str, body: object, said: str) -> RetryableError | TerminalError:
    """What an error in the midst of a stream means: the server had begun, so most of them pass."""
    code = _number(body)
    if 400 <= code < 500:
        return status_failure(who, code, {}, body, said)
    return RetryableError(f"{who} broke its answer off: {shown(said)}", code="overloaded")


def error_kind(body: object) -> str:
    """The server's own code or type of an error, in whichever place it stands."""
    inner = body.get("error", body) if isinstance(body, Mapping) else None
    if not isinstance(inner, Mapping):
        return ""
    return next((value for key in ("code", "type") if isinstance(value := inner.get(key), str)), "")


def _number(body: object) -> int:
    code: Any = body.get("code") if isinstance(body, Mapping) else None
    return code if isinstance(code, int) else int(code) if isinstance(code, str) and code.isdecimal() else 0


def shown(said: str) -> str:
    """A server's words, cut, and without anything that looks like a key."""
    return _KEY.sub(r"\1-...", said)[:SHOWN_CHARS]
