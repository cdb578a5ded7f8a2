"""Which processes have which assets, as their nodes say; and the word to all of them to load one anew."""

from __future__ import annotations

import difflib

import msgspec

from actors.assets.refreshing import RefreshOrder
from bus import subjects
from bus.connection import Bus
from bus.errors import UsageError
from supervisor.heartbeat import AssetBeat
from supervisor.status import node_statuses


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One asset in one process."""

    node: str
    app: str
    actor: str
    asset: AssetBeat

    @property
    def place(self) -> tuple[str, str]:
        """The process."""
        return self.node, self.actor


async def sight(bus: Bus) -> list[Sighting]:
    """By asset, then by node and actor. Raises: BusError."""
    found = [
        Sighting(node=node.node, app=node.app, actor=actor.name, asset=asset)
        for node in await node_statuses(bus) for actor in node.actors for asset in actor.assets
    ]  # fmt: skip
    return sorted(found, key=lambda one: (one.asset.name, one.app, one.place))


async def ask_refresh(bus: Bus, name: str, app: str = "") -> list[Sighting]:
    """Tell every process that has the asset (of ``app``, if given) to load it anew; which ones they are.

    Raises: UsageError if no process has it, BusError.
    """
    subject, seen = subjects.asset_refresh(name), await sight(bus)
    meant = [one for one in seen if one.asset.name == name and app in ("", one.app)]
    if not meant:
        known = sorted({one.asset.name for one in seen})
        close = difflib.get_close_matches(name, known, n=1)
        of = f" of app {app}" if app else ""
        raise UsageError(
            f"no process has an asset {name!r}{of}", code="unknown_asset", path=name,
            hint=f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known) or 'none'}",
        )  # fmt: skip
    await bus.publish(subject, msgspec.json.encode(RefreshOrder(app)) if app else b"")
    await bus.settle()
    return meant
