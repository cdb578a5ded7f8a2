"""How many jobs of a workflow, or calls of a tool, may run at once: all, or those whose inputs agree in a field."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from bus.errors import UsageError
from supervisor.number import is_count

LIMIT_MOST = 10_000


class BadAtOnce(UsageError, ValueError):
    """A limit that cannot be. Also a ValueError, so that msgspec turns it into a ValidationError on decoding."""


class AtOnce(msgspec.Struct, frozen=True, omit_defaults=True):
    """At most ``limit`` jobs of a workflow run at once in a workspace; the others wait, first come first served.
    For a tool: calls, of all workspaces and replicas together, in no certain order.

    ``key`` is a field of the input, such as ``"customer"`` or ``"order.customer"``: then each of its values has a limit
    of its own. Empty: one limit for all.
    Raises: BadAtOnce (a UsageError) with the path of the wrong field.
    """

    limit: int
    key: str = ""

    def __post_init__(self) -> None:
        if not is_count(self.limit) or self.limit > LIMIT_MOST:
            raise _bad("limit", self.limit, f"a whole number from 1 to {LIMIT_MOST}")
        check_key(self.key, _bad)


def check_key(key: object, bad: Callable[[str, object, str], UsageError]) -> None:
    """Raises: what ``bad`` makes, if ``key`` is no path of fields."""
    if not isinstance(key, str) or (key and not all(part for part in key.split("."))):
        raise bad("key", key, "a field of the input, such as 'customer' or 'order.customer'")


def _bad(field: str, value: object, right: str) -> BadAtOnce:
    return BadAtOnce(f"{field} of AtOnce cannot be {value!r}", code="bad_at_once", path=field, hint=right)
