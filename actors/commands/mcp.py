"""``callboard mcp``: the components that run, for MCP clients."""

from __future__ import annotations

from typing import Annotated

import typer

from actors.commands.options import Context, Nats, Workspace, make_session, run


def _components(incomplete: str) -> list[str]:
    from actors.command_bodies.names import component_names

    return [name for name in component_names(("tool", "agent", "job")) if name.startswith(incomplete)]


def mcp(
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="NAME", help="Serve this component alone (repeatable).",
                     autocompletion=_components),
    ] = None,
    http: Annotated[
        str, typer.Option("--http", metavar="[HOST:]PORT", help="Streamable HTTP there, in place of stdio.")
    ] = "",
    nats: Nats = None,
    context: Context = None,
    workspace: Workspace = "default",
) -> None:  # fmt: skip
    """Serve the tools, jobs and agents that run as an MCP server, over standard input and output.

    A tool is called at once. A job or an agent is submitted and waited for; its events are the progress, and cancelling
    the call cancels it.

    Example: callboard mcp --only quote --only order

    Example: callboard mcp --http 127.0.0.1:8765
    """
    from actors.command_bodies.mcp_serving import serve

    run(serve(make_session(nats, context, workspace), only or [], http))
