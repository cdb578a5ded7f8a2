"""What amendments mean for the calls of a job. Pure.

The newest word on each point counts, and it outranks what the job's code and the tool say. It may be applied twice: a
host puts it into the commands that it writes, and a tool that is given a call again, or has it, applies it to the call.
A policy is no part of a key, so a replay finds the same operations whatever was changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from actors.changes.fork_plan import belongs
from actors.jobs.call_policy import CallPolicy
from bus.amendment import AddItems, AddSteps, Change, FinishMap, SetPolicy, SkipStep
from bus.errors import UsageError
from bus.messages import CallTool
from supervisor.breaker import OnOpen
from supervisor.number import is_number
from supervisor.retry import BadRetry, Retry

_RETRY_FIELDS = Retry.__struct_fields__


def concerns(change: Change, call: str, name: str) -> bool:
    """Whether a change is about the policy of that call of component ``name``."""
    return isinstance(change, SetPolicy) and (change.target == name or belongs(call, change.target))


def amended_policy(
    policy: CallPolicy, changes: Iterable[Change], call: str, name: str, own: Retry | None
) -> CallPolicy:
    """The policy of a call after ``changes``, in their order; ``own`` is how the tool itself wants to be retried."""
    for change in changes:
        if isinstance(change, SetPolicy) and concerns(change, call, name):
            retry = _changed(policy.retry or own or Retry(), change.retry) if change.retry else None
            policy = policy.but(CallPolicy(retry, change.timeout_s, _on_open(change.on_open)))
    return policy


def amended_command(command: CallTool, changes: Iterable[Change], own: Retry) -> CallTool:
    """The command with what was said of its policy since, or before its host had heard of it."""
    wanted = [change for change in changes if concerns(change, command.call, command.name)]
    if not wanted:
        return command
    policy = amended_policy(CallPolicy(_retry_of(command), command.timeout_s), wanted, command.call, command.name, own)
    retry = msgspec.to_builtins(policy.retry) if policy.retry else command.retry
    return msgspec.structs.replace(command, retry=retry, timeout_s=policy.timeout_s)


def _retry_of(command: CallTool) -> Retry | None:
    try:
        return None if command.retry is None else msgspec.convert(command.retry, Retry)
    except msgspec.ValidationError:
        return None


def _changed(retry: Retry, fields: dict[str, Any]) -> Retry:
    """The policy with these fields; what cannot be, since it came from elsewhere, changes nothing."""
    try:
        return msgspec.convert(msgspec.to_builtins(retry) | fields, Retry)
    except msgspec.ValidationError:
        return retry


def _on_open(text: str | None) -> OnOpen | None:
    return "wait" if text == "wait" else "fail" if text == "fail" else None


# ---- what may be asked for


def check_change(change: Change) -> Change:
    """``change`` if it means something. Raises: UsageError that says what is wrong with it."""
    match change:
        case SetPolicy():
            _check_policy(change)
        case AddSteps(steps=raw):
            steps = _listed(raw, "steps")
            if not all(isinstance(step, dict) and step.get("id") for step in steps):
                raise _bad(
                    "each step is an object with an id", "steps", "as in a document: {id: ..., kind: tool, run: ...}"
                )
        case AddItems(step=step, items=raw):
            _check_name(step, "step")
            _listed(raw, "items")
        case FinishMap(step=step) | SkipStep(step=step):
            _check_name(step, "step")
    return change


def _check_policy(change: SetPolicy) -> None:
    _check_name(change.target, "target")
    if change.retry is None and change.timeout_s is None and change.on_open is None:
        raise _bad("nothing is changed", "change", "retry, timeout_s or on_open")
    if unknown := (change.retry or {}).keys() - set(_RETRY_FIELDS):
        raise _bad(f"a retry policy has no {min(unknown)}", "retry", f"it has {', '.join(_RETRY_FIELDS)}")
    try:
        msgspec.convert(change.retry or {}, Retry)
    except msgspec.ValidationError as error:
        cause = error.__cause__
        raise cause if isinstance(cause, BadRetry) else _bad(str(error), "retry", "see Retry") from error
    if change.timeout_s is not None and not (is_number(change.timeout_s) and change.timeout_s > 0):
        raise _bad(f"timeout_s cannot be {change.timeout_s!r}", "timeout_s", "seconds, more than 0")
    CallPolicy(on_open=change.on_open)  # type: ignore[arg-type]  # it says itself what is wrong with it


def _listed(raw: msgspec.Raw, what: str) -> list[Any]:
    found = msgspec.json.decode(raw)
    if not isinstance(found, list) or not found:
        raise _bad(f"the {what} are no list with anything in it", what, "a JSON list")
    return found


def _check_name(text: str, what: str) -> None:
    if not text:
        raise _bad(f"no {what} is named", what, "as 'callboard show' prints it")


def _bad(message: str, path: str, hint: str) -> UsageError:
    return UsageError(message, code="bad_change", path=path, hint=hint)
