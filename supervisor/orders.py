"""What a group of children can be asked to do. Each order carries the future that tells when it was carried out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from supervisor.child import ChildSpec


@dataclass(frozen=True, eq=False)
class StartAll:
    """Start every child, in order."""

    done: asyncio.Future[None]


@dataclass(frozen=True, eq=False)
class Restart:
    """Stop and start one child because someone asked for it; lifts a given-up group."""

    done: asyncio.Future[None]
    name: str


@dataclass(frozen=True, eq=False)
class Hold:
    """Stop these children until someone asks to start them; their siblings are left alone."""

    done: asyncio.Future[None]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Release:
    """Start those of these children that do not run; lifts a given-up group."""

    done: asyncio.Future[None]
    names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Replace:
    """Make the group's children exactly these: stop what is gone or changed, start what is new or changed."""

    done: asyncio.Future[None]
    specs: tuple[ChildSpec, ...]


@dataclass(frozen=True, eq=False)
class StopAll:
    """Stop every child and end the group."""

    done: asyncio.Future[None]


Order = StartAll | Restart | Hold | Release | Replace | StopAll
