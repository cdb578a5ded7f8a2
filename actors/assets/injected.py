"""The mark of a parameter that is filled with an asset: ``async def price(sku: str, catalogue: Catalogue = INJECTED)``.

A default, and not an annotation: so a type checker lets callers leave the parameter out, and a tool's input can never
have a field of that kind by accident.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn

from bus.errors import UsageError


class _Injected:
    """Stands for an asset that nobody has passed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "INJECTED"

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # asked by inspect, copy and others that look at any object
            raise AttributeError(name)
        raise UsageError(
            f"an asset was not passed: its parameter still is INJECTED, which has no {name!r}", code="not_injected",
            hint="in a plain call the caller passes the asset itself",
        )  # fmt: skip

    def __deepcopy__(self, _: object) -> _Injected:
        return self

    def __copy__(self) -> _Injected:
        return self


INJECTED: Final[Any] = _Injected()
