"""The input of a job from what a caller gives: arguments of a component, or JSON for a workflow known by name."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.components.component import Component
from bus.errors import UsageError


def input_of(target: Component[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], given: Any) -> bytes:
    """The checked JSON input for a component. Raises: UsageError, InvalidInput."""
    if target.kind == "tool":
        hint = "submit a job that calls it: await job.call(...)"
        raise UsageError(f"{target.name} is a tool, not a job", code="bad_target", hint=hint)
    if given is None:
        return target.bind_input(args, kwargs)
    _check_only_input(args, kwargs)
    if not isinstance(given, bytes):
        return target.bind_input((), given)
    target.decode_input(given)
    return given


def plain_input(target: str, args: tuple[Any, ...], kwargs: dict[str, Any], given: Any) -> bytes:
    """The JSON input for a workflow of which only the name is known. Raises: UsageError."""
    if args:
        raise UsageError(f"the order of the inputs of {target!r} is not known here", code="bad_input",
                         hint="give them by name, or submit the component itself")  # fmt: skip
    if given is not None:
        _check_only_input(args, kwargs)
        if isinstance(given, bytes):
            return given or b"{}"
    try:
        return msgspec.json.encode(kwargs if given is None else given)
    except (TypeError, ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise UsageError(f"the input of {target!r} is no JSON: {error}", code="invalid_input", path="$") from error


def _check_only_input(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if args or kwargs:
        raise UsageError("arguments and input=", code="bad_input", path="input", hint="give one of them")
