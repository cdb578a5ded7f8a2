"""A direct call: a tool runs at once, on whichever process takes the request. Nothing of it is recorded or retried."""

from __future__ import annotations

from actors.components.component import DEFAULT_TOOL_TIMEOUT_S, ComponentInfo
from bus import headers as h
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, PeerError
from bus.failure import Failure
from bus.service import ServiceFailed, ask

# A call past its time is given some seconds to yield (YIELD_GRACE_S) before its process says so.
ANSWER_GRACE_S = 5.0


async def call_directly(bus: Bus, info: ComponentInfo, body: bytes, *, timeout_s: float | None = None) -> bytes:
    """The tool's output as JSON. ``timeout_s`` is how long it may take; None: as long as the tool says.

    Raises: UsageError (the input does not fit), PeerError (the tool failed, nobody serves it, no answer), BusError.
    """
    limit_s = timeout_s or info.timeout_s or DEFAULT_TOOL_TIMEOUT_S
    subject = f"{info.kind}.{info.name}.v{info.major}.call"
    headers = {h.CALL_TIMEOUT: repr(timeout_s)} if timeout_s else None
    try:
        return await ask(bus, subject, body, timeout_s=limit_s + ANSWER_GRACE_S, headers=headers)
    except NoResponder:
        raise PeerError(_not_served(info)) from None
    except Ambiguous as error:
        message = f"no answer from {info.kind} {info.name} within {limit_s:g} s"
        raise PeerError(Failure(code="timeout", message=message, hint="it may have run")) from error
    except ServiceFailed as error:
        failure = Failure(code=error.code, message=error.message, retryable=error.retryable, hint=error.hint)
        raise PeerError(failure) from error


def _not_served(info: ComponentInfo) -> Failure:
    app = info.app or "APP"
    hint = f"start it: callboard node {app}:app --only {info.name}, with the module of app {app} in place of {app}:app"
    return Failure(code="not_served", message=f"nobody serves {info.kind} {info.name}@{info.major} now", hint=hint)
