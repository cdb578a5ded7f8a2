"""What goes into the operations of a job and what comes out of them: names, inputs and outputs as JSON. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, assert_never

import msgspec

from actors.components.component import Component
from actors.components.registry import parse_ref
from actors.jobs.journal import Entry, Pending, Spent, Succeeded
from actors.operations.hosting import Target
from bus.errors import UsageError
from bus.failure import CallFailed

_encode = msgspec.json.Encoder().encode


def instant_in(seconds: float) -> str:
    """The instant that many seconds from now, as it is recorded."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def name_of(target: Any) -> str:
    """The name that an operation's key begins with. Raises: UsageError for what cannot be called."""
    if isinstance(target, Component):
        return target.name
    if isinstance(target, str):
        return parse_ref(target)[1]
    raise UsageError(f"cannot call {target!r}", code="bad_target", hint="a component (@app.tool, @app.job) or its name")


def bind(target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The input as JSON. A remote component's schema is checked where it runs; its failure comes back as a reply."""
    if target.component is not None:
        return target.component.bind_input(args, kwargs)
    if args:
        raise UsageError(f"{target.name} is called by name, so its input needs names too", hint="call(ref, name=value)")
    return to_json(kwargs, target.name)


def to_json(value: Any, name: str) -> bytes:
    """``value`` as JSON. Raises: UsageError that names what it was for."""
    try:
        return _encode(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{name}: {type(value).__name__} is not JSON: {error}", code="not_json") from error


def raw_of(entry: Entry) -> msgspec.Raw:
    """The output of an operation that has its outcome. Raises: CallFailed."""
    match entry.outcome:
        case Succeeded(output):
            return output
        case Spent(failure):
            raise CallFailed(failure)
        case Pending():
            raise AssertionError(f"{entry.call} has no outcome yet")
    assert_never(entry.outcome)


def value_of(entry: Entry, component: Component[..., Any] | None) -> Any:
    """The output as the component's type, or as plain JSON values. Raises: CallFailed."""
    raw = raw_of(entry)
    return component.decode_output(bytes(raw)) if component is not None else msgspec.json.decode(raw)


def signal_data(answer: dict[str, Any], signal: str, timeout_s: float | None) -> Any:
    """The data in the record of a signal. Raises: TimeoutError if the record says that none came."""
    if answer.get("timed_out"):
        raise TimeoutError(f"no signal {signal!r} within {timeout_s} s")
    return answer["data"]
