"""How the inputs of many jobs are checked before any is sent: by the component itself, or by its registered schema."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from actors.clients.entries import json_in
from actors.components.component import Component
from actors.components.newest import newest_workflow
from actors.components.registry import Registry
from actors.gateway.input_check import check_input
from bus.connection import Bus
from bus.errors import UsageError


async def check_of(bus: Bus, target: Component[..., Any] | str) -> tuple[str, Callable[[bytes], None]]:
    """The name of the workflow, and what raises UsageError for an input that it does not take.

    Raises: UsageError (a tool, an unknown workflow), BusError.
    """
    if isinstance(target, Component):
        return _own(target)
    registry = Registry(bus)
    await registry.start()
    try:
        info = await newest_workflow(registry, target)
    finally:
        await registry.stop()
    return info.name, lambda body: check_input(info, json_in(body))


def _own(component: Component[..., Any]) -> tuple[str, Callable[[bytes], None]]:
    if component.kind == "tool":
        hint = "submit a job that calls it: await job.call(...)"
        raise UsageError(f"{component.name} is a tool, not a job", code="bad_target", hint=hint)

    def check(body: bytes) -> None:
        component.decode_input(body)

    return component.name, check
