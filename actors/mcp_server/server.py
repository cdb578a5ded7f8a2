"""The MCP server itself: the SDK's, over standard input and output or over streamable HTTP."""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from actors.mcp_server.offer import Offer
from actors.mcp_server.stagehand import OnProgress, Stagehand
from bus.errors import BusError, UsageError

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

log = logging.getLogger("callboard.mcp")

TOKEN_VARIABLE = "CALLBOARD_MCP_TOKEN"  # noqa: S105 - its name
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_INSTRUCTIONS = "Tools, jobs and agents of a Callboard deployment. Jobs and agents are durable; cancelling ends them."

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


def check_sdk() -> None:
    """Raises: UsageError if the SDK is not installed."""
    try:
        import mcp.server  # noqa: F401
    except ImportError as error:
        raise UsageError("the MCP SDK is not installed", code="missing_extra",
                         hint="pip install 'callboard[mcp]'") from error  # fmt: skip


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of ``[HOST:]PORT``; this machine without a host. Raises: UsageError."""
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) < 65536:
        raise UsageError(f"{text!r} is no address", code="bad_argument", path="--http", hint="HOST:PORT, or PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


async def serve_stdio(stagehand: Stagehand) -> None:
    """Serve one client until it closes our standard input. The SDK keeps all else away from standard output."""
    from mcp.server.stdio import stdio_server

    server = _server(stagehand)
    async with stdio_server() as (read, write):
        await server.run(read, write, server.create_initialization_options())


async def serve_http(stagehand: Stagehand, host: str, port: int, token: str) -> None:
    """Serve clients at ``http://HOST:PORT/mcp`` until SIGINT or SIGTERM.

    Raises: UsageError if others than this machine could call without a token.
    """
    import uvicorn

    if host not in _LOOPBACK and not token:
        raise UsageError(
            f"{host} can be reached by other machines, and nobody would be asked who he is", code="no_token",
            path="--http", hint=f"set {TOKEN_VARIABLE} to what clients have to send as a bearer token",
        )  # fmt: skip
    app: Any = _server(stagehand).streamable_http_app(host=host)
    config = uvicorn.Config(guarded(app, token) if token else app, host=host, port=port, log_level="warning")
    log.info("serving at http://%s:%d/mcp", host, port)
    await uvicorn.Server(config).serve()


def guarded(app: App, token: str) -> App:
    """The application behind a bearer token: 401 for a request without it."""
    wanted = f"Bearer {token}".encode()

    async def guard(scope: dict[str, Any], receive: Any, send: Any) -> None:
        given = dict(scope.get("headers") or ()).get(b"authorization", b"")
        if scope["type"] != "lifespan" and not hmac.compare_digest(given, wanted):
            await send({"type": "http.response.start", "status": 401, "headers": [(b"www-authenticate", b"Bearer")]})
            await send({"type": "http.response.body", "body": b"a bearer token is wanted"})
            return
        await app(scope, receive, send)

    return guard


# ---- the SDK's server


def _server(stagehand: Stagehand) -> Server[Any]:
    import mcp_types as types
    from mcp import MCPError
    from mcp.server.lowlevel import Server

    async def on_list(_: Any, __: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        try:
            return types.ListToolsResult(tools=[_tool(offer) for offer in await stagehand.offers()])
        except BusError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error)) from error

    async def on_call(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        try:
            result = await stagehand.call(params.name, params.arguments or {}, _progress(context))
        except BusError as error:
            raise MCPError(types.INTERNAL_ERROR, str(error)) from error
        if result is None:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name!r} now; list the tools again")
        return result

    return Server("callboard", version=_own_version(), instructions=_INSTRUCTIONS, on_list_tools=on_list,
                  on_call_tool=on_call)  # fmt: skip


def _progress(context: Any) -> OnProgress | None:
    """How to tell the client how far the call is; None if it did not ask."""
    if not (context.meta or {}).get("progress_token"):
        return None

    async def report(number: float, said: str) -> None:
        await context.session.report_progress(number, None, said)

    return report


def _tool(offer: Offer) -> Any:
    from mcp_types import Tool, ToolAnnotations

    reads = ToolAnnotations(read_only_hint=True) if offer.info.read_only else None
    return Tool(
        name=offer.name, description=offer.description, input_schema=offer.info.input_schema,
        output_schema=offer.output_schema, annotations=reads,
    )  # fmt: skip


def _own_version() -> str:
    try:
        return version("callboard")
    except PackageNotFoundError:
        return "0"
