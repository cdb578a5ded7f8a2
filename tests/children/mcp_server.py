"""A small MCP server over stdio or, with ``--http PORT``, over streamable HTTP, written with the SDK's own server.

``--silent`` never answers, ``--broken`` dies with a word on standard error, ``--log FILE`` notes what it does.
"""

from __future__ import annotations

import argparse
import base64
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

TEXT = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
SUM = {"type": "object", "properties": {"sum": {"type": "integer"}}, "required": ["sum"]}
PAIR = {
    "type": "object",
    "properties": {"a": {"type": "integer"}, "b": {"type": "integer", "default": 1}},
    "required": ["a"],
}
NOTHING: dict[str, Any] = {"type": "object"}

TOOLS = [
    types.Tool(name="echo", description="Say it again.", input_schema=TEXT),
    types.Tool(name="math.add", description="Add two numbers.", input_schema=PAIR, output_schema=SUM),
    types.Tool(name="picture", input_schema=NOTHING, title="A picture and a page"),
    types.Tool(name="fail", input_schema=NOTHING),
    types.Tool(name="slow", input_schema=NOTHING),
    types.Tool(name="die", input_schema=NOTHING),
    types.Tool(name="second_time", input_schema=NOTHING),
    types.Tool(name="environment", input_schema=NOTHING),
]


def text(*parts: str, is_error: bool = False, data: Any = None) -> types.CallToolResult:
    """An answer of texts."""
    content: list[Any] = [types.TextContent(type="text", text=part) for part in parts]
    return types.CallToolResult(content=content, is_error=is_error, structured_content=data)


def picture() -> types.CallToolResult:
    """Every kind of content but sound."""
    data = base64.b64encode(b"png").decode()
    page = types.TextResourceContents(uri="docs://page.txt", text="the page")
    blob = types.BlobResourceContents(uri="file:///tmp/../a%2Fb/data.bin", blob=data)
    return types.CallToolResult(content=[
        types.TextContent(type="text", text="look"),
        types.ImageContent(type="image", data=data, mime_type="image/png"),
        types.ImageContent(type="image", data=data, mime_type="image/png"),
        types.EmbeddedResource(type="resource", resource=page),
        types.EmbeddedResource(type="resource", resource=blob),
        types.ResourceLink(type="resource_link", name="more", uri="docs://more"),
    ])  # fmt: skip


class Tools:
    """What the server does; ``note`` writes to its log."""

    def __init__(self, log: Path | None) -> None:
        self._log = log

    def note(self, line: str) -> None:
        """One line, at once."""
        if self._log:
            with self._log.open("a") as file:
                file.write(f"{os.getpid()} {line}\n")

    async def list(self, _: Any, params: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        """Two pages."""
        if params is None or not params.cursor:
            self.note("list")
            return types.ListToolsResult(tools=TOOLS[:3], next_cursor="2")
        return types.ListToolsResult(tools=TOOLS[3:])

    async def call(self, ctx: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        """One of them."""
        given = params.arguments or {}
        self.note(f"call {params.name}")
        match params.name:
            case "echo":
                return text(given["text"])
            case "math.add":
                return text("done", data={"sum": given["a"] + given.get("b", 1)})
            case "picture":
                return picture()
            case "fail":
                return text("no such page", "try another", is_error=True)
            case "slow":
                return await self._slow(ctx)
            case "second_time":  # never answers the first of its calls
                if self._log is None or self._log.read_text().count("call second_time") < 2:
                    await anyio.sleep_forever()
                return text("at last")
            case "die":
                sys.stderr.write("going down\n")
                sys.stderr.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        headers = dict(ctx.request.headers) if ctx.request is not None else {}
        return text("ok", data={"env": dict(os.environ), "headers": headers})

    async def _slow(self, ctx: Any) -> types.CallToolResult:
        try:
            for step in range(600):
                await ctx.session.report_progress(step, 600, f"step {step}")
                await anyio.sleep(0.05)
        except anyio.get_cancelled_exc_class():
            self.note("cancelled")
            raise
        return text("at last")


async def _main(server: Server[Any], port: int) -> None:
    if port:
        import uvicorn

        config = uvicorn.Config(server.streamable_http_app(), host="127.0.0.1", port=port, log_level="warning")
        await uvicorn.Server(config).serve()
        return
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--http", type=int, default=0)
    parser.add_argument("--silent", action="store_true")
    parser.add_argument("--broken", action="store_true")
    parser.add_argument("--log", type=Path)
    arguments = parser.parse_args()
    if arguments.broken:
        sys.stderr.write(f"warming up\nerror: no licence for {os.environ.get('SECRET', 'nobody')}\n")
        sys.exit(3)
    if arguments.silent:
        sys.stderr.write("thinking\n")
        sys.stderr.flush()
        time.sleep(600)
    tools = Tools(arguments.log)
    tools.note("start")
    server: Server[Any] = Server("small", version="1.2.3", on_list_tools=tools.list, on_call_tool=tools.call,
                                 instructions="be kind")  # fmt: skip
    anyio.run(_main, server, arguments.http)


if __name__ == "__main__":
    main()
