"""The tools that a run offers to its model: fixed once, on record, so that a run means the same tools to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.agents.settings import ref_of
from actors.components.component import Component, ComponentInfo
from actors.components.registry import parse_ref
from actors.model.model import ToolSpec
from actors.operations.hosting import Hosting
from bus.errors import UsageError
from bus.subjects import CallKind

_KINDS: tuple[CallKind, ...] = ("tool", "agent", "job")


class Offered(msgspec.Struct, frozen=True, omit_defaults=True):
    """One tool. ``name`` is what the model calls it, ``ref`` what it is called by."""

    name: str
    ref: str
    kind: CallKind
    description: str
    input_schema: dict[str, Any]

    @property
    def spec(self) -> ToolSpec:
        """As the model is told of it."""
        return ToolSpec(self.name, self.description, self.input_schema)


async def offer(hosting: Hosting, tools: Sequence[Component[..., Any] | str], *, read_only: bool) -> list[Offered]:
    """Look the tools up. With ``read_only`` those that may change something are left out.

    Raises: UsageError for a tool that nobody has.
    """
    found = [await _info(hosting, tool) for tool in tools]
    return [_offered(info, ref) for info, ref in found if info.read_only or not read_only]


async def _info(hosting: Hosting, tool: Component[..., Any] | str) -> tuple[ComponentInfo, str]:
    if isinstance(tool, Component):
        return tool.info(), ref_of(tool)
    target = await hosting.find(tool, _KINDS)
    if target.component is not None:
        return target.component.info(), tool
    return hosting.registry.resolve(tool, _KINDS), tool


def _offered(info: ComponentInfo, ref: str) -> Offered:
    description = info.description or f"The {info.kind} {info.name}."
    return Offered(parse_ref(ref)[1], ref, info.kind, description, _object_schema(info))


def _object_schema(info: ComponentInfo) -> dict[str, Any]:
    """Models are told of objects only. Raises: UsageError for an input that is none."""
    schema = info.input_schema or {"type": "object", "properties": {}}
    if "$ref" in schema or schema.get("type") == "object":
        return schema
    hint = "an agent calls tools by named arguments"
    raise UsageError(f"{info.kind} {info.name} takes no object", code="bad_tool", path="tools", hint=hint)
