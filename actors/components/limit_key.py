"""The field of an input by which a limit tells one from another: ``customer``, ``order.customer``. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from bus.errors import UsageError

VALUE_LIMIT_CHARS = 80


def check_limit_key(key: str, parameters: Iterable[str], label: str) -> None:
    """Raises: UsageError if the component has no such parameter."""
    known = list(parameters)
    if key and key.split(".", maxsplit=1)[0] not in known:
        raise UsageError(f"{label}: key {key!r} begins with no parameter of it", code="bad_option", path="key",
                         hint=f"there are: {', '.join(known) or 'none'}")  # fmt: skip


def value_at(arguments: Mapping[str, Any], key: str) -> str:
    """The value of that field as text; what is not there is ``null``, like what is null."""
    value: Any = dict(arguments)
    for part in key.split("."):
        value = msgspec.to_builtins(value, str_keys=True) if not isinstance(value, dict) else value
        value = value.get(part) if isinstance(value, dict) else None
    return value if isinstance(value, str) else msgspec.json.encode(value, order="deterministic").decode()


def limit_name(component: str, key: str, arguments: Mapping[str, Any]) -> str:
    """Under which name those count together that share a limit."""
    if not key:
        return component
    value = value_at(arguments, key)
    if len(value) > VALUE_LIMIT_CHARS:
        value = hashlib.sha256(value.encode(errors="replace")).hexdigest()
    return f"{component} {key}={value}"
