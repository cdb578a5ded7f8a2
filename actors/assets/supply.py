"""What a component of a process is lent for each call: the assets that its parameters name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from actors.assets.shelf import Loan, Shelf


class _Nothing:
    """A loan of nothing, for the many components that name no asset."""

    def __enter__(self) -> dict[str, object]:
        return {}

    def __exit__(self, *_: object) -> None:
        """There is nothing to give back."""


_NOTHING = _Nothing()


class Supply:
    """``wires``: parameter to asset, all of which are on the shelf. Without a shelf nothing is lent."""

    def __init__(self, shelf: Shelf | None = None, wires: Mapping[str, str] | None = None) -> None:
        self._shelf = shelf
        self._wires = wires or {}

    def lend(self) -> Loan | _Nothing:
        """``with supply.lend() as assets:`` the arguments to add; they stay loaded for as long as that lasts."""
        return self._shelf.lend(self._wires) if self._shelf is not None and self._wires else _NOTHING
