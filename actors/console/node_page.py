"""Nodes, their actors and what these share: ``callboard ps``, ``callboard asset``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from actors.assets.sightings import Sighting
from actors.console.amount import ago, duration, plural
from actors.console.page import Column, Gap, Page, SheetBuilder, Span, Style, line, one_line
from supervisor.child import ChildStatus, GivenUp
from supervisor.heartbeat import AssetBeat, AssetState

_STYLES: dict[str, Style] = {
    "starting": "busy",
    "running": "good",
    "draining": "busy",
    "backing_off": "warn",
    "stopping": "warn",
    "stopped": "dim",
    "given_up": "bad",
}

_ASSET_STYLES: dict[AssetState, Style] = {
    "loading": "busy",
    "loaded": "good",
    "refreshing": "busy",
    "failed": "bad",
}


class NodeLike(Protocol):
    """What is shown of a node (``supervisor.node.NodeStatus``)."""

    @property
    def node(self) -> str: ...
    @property
    def pid(self) -> int: ...
    @property
    def started_at(self) -> datetime: ...
    @property
    def app(self) -> str: ...
    @property
    def healthy(self) -> bool: ...
    @property
    def draining(self) -> bool: ...
    @property
    def given_up(self) -> Sequence[GivenUp]: ...
    @property
    def actors(self) -> Sequence[ChildStatus]: ...


def node_page(nodes: Sequence[NodeLike], now: datetime) -> Page:
    """A table of all actors under their nodes, sorted by node; a node without actors has a row of its own."""
    if not nodes:
        return [
            line(Span("no node answers", "warn")),
            line(Span("next: ", "dim"), "callboard up", Span("   start a node on this machine", "dim")),
        ]
    builder, nodes = _builder(), sorted(nodes, key=lambda n: n.node)
    for node in nodes:
        name = one_line(node.node)
        builder.add(
            Span(name, "name"), "(node)", one_line(node.app), str(node.pid), _state(node), "",
            ago(node.started_at, now), "",
        )  # fmt: skip
        for actor in node.actors:
            _add_actor(builder, name, actor, now)
    actors = sum(len(node.actors) for node in nodes)
    sheet = builder.sheet(f"{plural(len(nodes), 'node')}, {plural(actors, 'actor')}")
    given_up = (block for node in nodes for one in node.given_up for block in _given_up(node.node, one))
    return [sheet, *(block for node in nodes for block in _warnings(node)), *given_up]


def actor_page(node: str, actors: Sequence[ChildStatus], now: datetime) -> Page:
    """A table of some actors of one node."""
    builder = _builder()
    for actor in actors:
        _add_actor(builder, one_line(node), actor, now)
    return [builder.sheet(plural(len(actors), "actor"))]


def _builder() -> SheetBuilder:
    return SheetBuilder(
        [
            Column("node"),
            Column("actor"),
            Column("component", shrink=True),
            Column("pid", "right"),
            Column("state"),
            Column("restarts", "right"),
            Column("since"),
            Column("doing", shrink=True),
        ]
    )


def _state(node: NodeLike) -> Span | str:
    if node.draining:
        return Span("draining", "warn")
    return "" if node.healthy else Span("not healthy", "bad")


def _warnings(node: NodeLike) -> Page:
    """What does not fit into a cell: the reason is at its end."""
    return [
        line(Span(f"{one_line(node.node)}/{one_line(actor.name)}: {one_line(warning, 600)}", "warn"))
        for actor in node.actors
        for warning in actor.warnings
    ]


def _given_up(node: str, given_up: GivenUp) -> Page:
    next_step = f"callboard supervise start {one_line(given_up.group)} --node {one_line(node)}"
    return [
        Gap(),
        line(Span(f"{one_line(node)} has given up {one_line(', '.join(given_up.actors))}", "bad")),
        line(one_line(given_up.reason, 600), indent=2),
        line(Span("next: ", "dim"), next_step, Span("   once the cause is gone", "dim"), indent=2),
    ]


def _add_actor(builder: SheetBuilder, node: str, actor: ChildStatus, now: datetime) -> None:
    doing = one_line(actor.doing)
    if actor.since is not None:
        doing += f" for {duration((now - actor.since).total_seconds())}"
    if actor.state in ("backing_off", "given_up", "stopped") and actor.last_exit:
        doing = one_line(f"ended: {actor.last_exit}")
    elif actor.assets:
        doing = f"{doing}; {asset_text(actor.assets, now)}" if doing else asset_text(actor.assets, now)
    builder.add(
        Span(node, "dim"),
        one_line(actor.name),
        one_line(actor.component),
        str(actor.pid) if actor.pid is not None else "",
        Span(actor.state.replace("_", " "), _STYLES.get(actor.state, "")),
        str(actor.restarts) if actor.restarts else "",
        ago(actor.started_at, now),
        doing,
    )


# ---- assets


def asset_page(sightings: Sequence[Sighting], now: datetime) -> Page:
    """A table of the assets, with each process that has them; errors in full below it."""
    if not sightings:
        return [line(Span("no process has assets", "dim"))]
    columns = (Column("asset"), Column("version"), Column("state"), Column("loaded"), Column("node"), Column("actor"))
    builder = SheetBuilder(list(columns))
    for one in sightings:
        beat = one.asset
        builder.add(
            Span(one_line(beat.name), "name"), one_line(beat.version), Span(beat.state, _ASSET_STYLES[beat.state]),
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
