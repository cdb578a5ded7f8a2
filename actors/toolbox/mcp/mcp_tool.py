"""A tool of an MCP server as a component: its input is checked against the server's schema, as plain JSON."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from actors.components.codec import InvalidInput
from actors.components.component import Component, Options, declare
from actors.components.input_check import check_fit
from actors.components.schema import digest, output_schema
from actors.toolbox.mcp.content import McpResult, pieces_of, text_of
from actors.toolbox.mcp.listing import ListedTool
from actors.toolbox.mcp.session import McpSession
from actors.tools.tool_context import ToolContext
from bus.errors import UsageError

_encode = msgspec.json.encode


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class McpTool(Component[..., McpResult]):
    """A component of kind tool that calls a tool of an MCP server."""

    def bind_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The JSON input of these keyword arguments. Raises: InvalidInput."""
        if args:
            raise UsageError(f"{self.name} is an MCP tool, so its input needs names", hint="call(tool, name=value)")
        return _encode(self._checked(msgspec.to_builtins(kwargs)))

    def decode_input(self, raw: bytes) -> dict[str, Any]:
        """The input, checked against the server's schema. Raises: InvalidInput."""
        try:
            value = msgspec.json.decode(raw if raw and not raw.isspace() else b"{}")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidInput(f"input of tool {self.name} is not JSON: {error}", code="invalid_json",
                               path="$") from error  # fmt: skip
        return {"value": self._checked(value)}

    def _checked(self, value: Any) -> Any:
        check_fit(self.input_schema, value, f"input of tool {self.name}", InvalidInput)
        return value


def mcp_tool(listed: ListedTool, session: McpSession, *, app: str, app_version: str, options: Options) -> McpTool:
    """The component of a listed tool. Raises: UsageError for a name or options that cannot be."""
    plain = declare("tool", _template, app=app, app_version=app_version, options=options)
    fields = {name: getattr(plain, name) for name in Component.__dataclass_fields__}
    takes, returns = _input_schema(listed, plain.name), _output_schema(listed)
    sha = digest(plain.name, plain.version, takes, returns)
    return McpTool(
        **fields
        | {"fn": _function(session, listed.name), "input_schema": takes, "output_schema": returns, "digest": sha}
    )


async def _template(ctx: ToolContext, value: Any = None) -> McpResult:
    """A call to an MCP server."""
    del ctx, value
    raise AssertionError("replaced for each tool")


def _function(session: McpSession, tool: str) -> Callable[..., Awaitable[McpResult]]:
    async def call(ctx: ToolContext, value: dict[str, Any]) -> McpResult:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            ctx.progress(progress, total, message or "")

        answer = await session.call(tool, value, on_progress)
        files = [await ctx.artifact(each.name, each.data, each.media_type) for each in pieces_of(answer.content)]
        return McpResult(text=text_of(answer.content), files=files, data=answer.structured_content)

    return call


def _input_schema(listed: ListedTool, name: str) -> dict[str, Any]:
    """As the server has it, and an object at the top in any case."""
    return {"type": "object", "properties": {}, **copy.deepcopy(listed.input_schema), "title": name}


def _output_schema(listed: ListedTool) -> dict[str, Any]:
    """That of every MCP tool, with the server's own for ``data``.

    A schema with references is left out: they would lead to places of another document. The SDK checks it all the same.
    """
    schema = output_schema(McpResult)
    if listed.output_schema and b'"$ref"' not in _encode(listed.output_schema):
        schema["properties"]["data"] = {"anyOf": [copy.deepcopy(listed.output_schema), {"type": "null"}]}
    return schema
