"""How each thing that the machine asks for is done with the durable operations of a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, assert_never

from actors.interpreter.asks import Approve, Call, Clock, Emit, Lock, Sleep, Unlock, WaitSignal, What
from actors.jobs.call_policy import CallPolicy
from actors.jobs.operations import Operations
from bus.errors import UsageError


async def do(ops: Operations, what: What) -> Any:
    """Do one thing, in the branch that is current. Raises: CallFailed, TimeoutError, UsageError, ..."""
    match what:
        case Call():
            return await _call(ops, what)
        case Sleep(seconds):
            return await ops.sleep(seconds)
        case WaitSignal(signal, timeout_s, fresh):
            return await ops.wait_for(signal, timeout_s, fresh=fresh)
        case Emit(event, data):
            return await ops.emit(event, data)
        case Clock():
            return await ops.record("now", _now)
        case Lock(name):
            return await _take(ops, name)
        case Unlock(key):
            return await ops.leave(key, raised=False)
        case Approve():
            raise UsageError(f"{type(what).__name__} cannot be done yet", code="not_supported")
    assert_never(what)


async def _take(ops: Operations, name: str) -> str:
    """Take a lock; the key that it is given back under."""
    lock = ops.lock(name, 1, None)
    await ops.take(lock.key, "lock", name, 1, None)
    return lock.key


def _now() -> str:
    return datetime.now(UTC).isoformat()


async def _call(ops: Operations, call: Call) -> Any:
    if call.kind == "job":
        return await ops.run_plainly(call.run, call.input, call.priority, waits=call.waits)
    policy = CallPolicy(call.retry, call.timeout_s, call.on_open)
    if call.cache_s is None:
        return await ops.call_plainly(call.kind, call.run, call.input, policy)
    about = call.input if call.cache_key is None else call.cache_key
    return await ops.call_cached(call.kind, call.run, call.input, policy, about, call.cache_s)
