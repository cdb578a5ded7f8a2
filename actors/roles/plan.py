"""What a planner gives: a task taken apart into smaller ones, each for one role. Pure data."""

from __future__ import annotations

import msgspec


class PlannedTask(msgspec.Struct, frozen=True, omit_defaults=True):
    """One piece of work. ``needs`` are the ids of those whose results it builds on."""

    id: str
    role: str
    task: str
    needs: tuple[str, ...] = ()


class Plan(msgspec.Struct, frozen=True, omit_defaults=True):
    """All pieces, and in ``reason`` why it is done so."""

    tasks: tuple[PlannedTask, ...]
    reason: str = ""
