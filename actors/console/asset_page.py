"""Assets: ``callboard asset``, and what ``callboard ps`` says of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from actors.assets.sightings import Sighting
from actors.console.amount import ago, duration, plural
from actors.console.page import Column, Page, SheetBuilder, Span, Style, line, one_line
from supervisor.heartbeat import AssetBeat, AssetState

_STYLES: dict[AssetState, Style] = {"loading": "busy", "loaded": "good", "refreshing": "busy", "failed": "bad"}


def asset_page(sightings: Sequence[Sighting], now: datetime) -> Page:
    """A table of the assets, with each process that has them; errors in full below it."""
    if not sightings:
        return [line(Span("no process has assets", "dim"))]
    columns = (Column("asset"), Column("version"), Column("state"), Column("loaded"), Column("node"), Column("actor"))
    builder = SheetBuilder(list(columns))
    for one in sightings:
        beat = one.asset
        builder.add(
            Span(one_line(beat.name), "name"), one_line(beat.version), Span(beat.state, _STYLES[beat.state]),
            ago(beat.loaded_at, now), one_line(one.node), one_line(one.actor),
        )  # fmt: skip
    errors = {one.asset.error: None for one in sightings if one.asset.error}
    names = {one.asset.name for one in sightings}
    sheet = builder.sheet(
        f"{plural(len(names), 'asset')} in {plural(len({one.place for one in sightings}), 'process')}"
    )
    return [sheet, *(line(Span(one_line(error, 600), "bad")) for error in errors)]


def asset_text(assets: Sequence[AssetBeat], now: datetime) -> str:
    """One line: ``catalogue 1.0.0, loaded 12 s ago``."""
    return "; ".join(f"{one_line(one.name)} {one_line(one.version)}, {_standing(one, now)}" for one in assets)


def _standing(asset: AssetBeat, now: datetime) -> str:
    age = f"{duration((now - asset.loaded_at).total_seconds())} old" if asset.loaded_at is not None else ""
    match asset.state:
        case "loaded":
            return age
        case "failed":
            return f"{age}, its refresh failed"
        case _:
            return f"{age}, {asset.state}" if age else asset.state
