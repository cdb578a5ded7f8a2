"""What stands for the assets that a replay is not given: it loads none.

What an agent's model is told is on record, so an asset that goes into that may be anything. A stand-in can therefore be
read from and written into text; whoever decides by it is told that the replay needs the asset itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from actors.components.component import Component
from actors.replays.difference import Difference
from bus.errors import UsageError


class AbsentAssets:
    """The assets of one replay: those that were given, a stand-in for each other one, and what became of these.

    Raises: UsageError for one that the component does not name.
    """

    def __init__(self, component: Component[..., Any], given: Mapping[str, Any]) -> None:
        self._label = f"{component.kind} {component.name}"
        self._used: dict[str, None] = {}
        self._decided: UsageError | None = None
        names = [name for name, _ in component.signature.assets]
        for name in given:
            if name not in names:
                raise UsageError(f"{self._label} names no asset {name!r}", code="unknown_asset", path=name,
                                 hint=f"it names: {', '.join(names) or 'none'}")  # fmt: skip
        self.values = {name: given[name] if name in given else _Absent(self, name, name) for name in names}

    def use(self, asset: str) -> None:
        """Note that its stand-in was looked at."""
        self._used[asset] = None

    def decide(self, asset: str, path: str) -> UsageError:
        """The error for who decides by it."""
        self.use(asset)
        error = self._error(f"{self._label} decides by {path}", asset)
        self._decided = self._decided or error
        return error

    def check(self, difference: Difference | None) -> None:
        """Raises: UsageError if what the replay found may come from a stand-in, whatever the function made of it."""
        if self._decided is not None:
            raise self._decided
        if difference is not None and self._used:
            raise self._error(f"{self._label} differs: {difference}", *self._used)

    def _error(self, what: str, *assets: str) -> UsageError:
        given = ", ".join(f"{name!r}: ..." for name in assets)
        return UsageError(
            f"{what}; the replay was not given {', '.join(assets)}", code="no_asset", path=assets[0],
            hint=f"replay(..., assets={{{given}}}), or decide in a function that agent.local records",
        )  # fmt: skip


class _Absent:
    """Stands for an asset, or for what was read from one."""

    __slots__ = ("_asset", "_assets", "_path")

    def __init__(self, assets: AbsentAssets, asset: str, path: str) -> None:
        self._assets, self._asset, self._path = assets, asset, path

    def __getattr__(self, name: str) -> _Absent:
        if name.startswith("__"):  # asked by inspect, copy and others that look at any object
            raise AttributeError(name)
        return self._part(f".{name}")

    def __getitem__(self, key: object) -> _Absent:
        return self._part(f"[{key!r}]")

    def __call__(self, *_: object, **__: object) -> _Absent:
        return self._part("(...)")

    def _part(self, of: str) -> _Absent:
        self._assets.use(self._asset)
        return _Absent(self._assets, self._asset, self._path + of)

    def __str__(self) -> str:
        self._assets.use(self._asset)
        return f"<asset {self._path}>"

    __repr__ = __str__

    def __format__(self, _: str) -> str:
        return str(self)

    def __add__(self, other: object) -> str:
        return f"{self}{other}"

    def __radd__(self, other: object) -> str:
        return f"{other}{self}"

    def _decide(self, *_: object) -> NoReturn:
        raise self._assets.decide(self._asset, self._path)

    __bool__ = __len__ = __iter__ = __contains__ = __hash__ = _decide
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _decide
    __int__ = __float__ = __index__ = __await__ = __enter__ = __aenter__ = __aiter__ = _decide
