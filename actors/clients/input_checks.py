"""How the inputs of many jobs are checked before any is sent: by the component itself, or by its registered schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from actors.clients.entries import json_in
from actors.components.component import Component
from actors.components.input_check import check_input
from actors.components.registry import Registry
from bus.connection import Bus
from bus.errors import UsageError


class Checked(NamedTuple):
    """A workflow, the version that was asked for ("" if none), and what raises UsageError for a bad input."""

    workflow: str
    version: str
    check: Callable[[bytes], None]


async def check_of(bus: Bus, target: Component[..., Any] | str) -> Checked:
    """How inputs for ``target`` are checked. Raises: UsageError (a tool, an unknown workflow), BusError."""
    if isinstance(target, Component):
        return _own(target)
    from actors.gateway.workflow_choice import WorkflowChoice  # it reads documents: a fifth of what a client imports
    from actors.workflow_versions.definitions import Definitions

    registry, definitions = Registry(bus), Definitions(bus)
    await registry.start()
    try:
        await definitions.start()
        info, version, _ = await WorkflowChoice(registry, definitions).choose(target, None)
    finally:
        await definitions.stop()
        await registry.stop()
    return Checked(info.name, version, lambda body: check_input(info, json_in(body)))


def _own(component: Component[..., Any]) -> Checked:
    if component.kind == "tool":
        hint = "submit a job that calls it: await job.call(...)"
        raise UsageError(f"{component.name} is a tool, not a job", code="bad_target", hint=hint)

    def check(body: bytes) -> None:
        component.decode_input(body)

    return Checked(component.name, "", check)
