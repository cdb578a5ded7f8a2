"""How each thing that the machine asks for is done with the durable operations of a job."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, assert_never

import msgspec

from actors.interpreter.asks import Approve, Call, Clock, Emit, Lock, Sleep, Unlock, WaitSignal, What
from actors.jobs.call_policy import CallPolicy
from actors.operations.operations import Operations
from actors.operations.question import make_question
from bus.approval_events import Escalation
from bus.failure import CallFailed, Failure
from store.approval import Decision


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
            return await _approve(ops, what)
    assert_never(what)


async def _approve(ops: Operations, ask: Approve) -> Any:
    """The decision as plain values. Raises: CallFailed if it is no, or none came in time, and the step says so."""
    step = ask.step
    question = make_question(
        ask.title, details=ask.details or None, answer=step.answer or None, roles=step.roles, quorum=step.quorum,
        expires_s=step.expires_s, escalate=[Escalation(after_s=e.after_s, roles=e.roles) for e in step.escalate],
        edit=ask.edit or None,
    )  # fmt: skip
    decision = await ops.approval(question)
    plain = msgspec.to_builtins(decision)
    if decision.approved or step.on_reject == "continue":
        return plain
    code, message = ("expired", "nobody decided in time") if decision.expired else ("rejected", _rejection(decision))
    raise CallFailed(Failure(code=code, message=message, retryable=False, details={"decision": plain}))


def _rejection(decision: Decision) -> str:
    if (answer := decision.rejection) is None:
        return "it was rejected"
    return ": ".join(filter(None, (f"rejected by {answer.by or 'somebody'}", answer.comment)))


async def _take(ops: Operations, name: str) -> str:
    """Take a lock; the key that it is given back under."""
    lock = ops.lock(name, 1, None)
    await ops.take(lock.key, "lock", name, 1, None)
    return lock.key


def _now() -> str:
    return datetime.now(UTC).isoformat()


async def _call(ops: Operations, call: Call) -> Any:
    if call.kind != "tool":
        return await ops.run_plainly(call.kind, call.run, call.input, call.priority, waits=call.waits)
    policy = CallPolicy(call.retry, call.timeout_s, call.on_open)
    if call.cache_s is None:
        return await ops.call_plainly(call.run, call.input, policy)
    about = call.input if call.cache_key is None else call.cache_key
    return await ops.call_cached(call.run, call.input, policy, about, call.cache_s)
