"""``callboard call|mcp``: what runs, called without a job: from the shell, and by MCP clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, Workspace, make_session, run

if TYPE_CHECKING:
    from actors.command_bodies.session import Session


def tool_names(incomplete: str) -> list[str]:
    """Names of tools for the shell's completion."""
    from actors.command_bodies.names import component_names

    return [name for name in component_names(("tool",)) if name.startswith(incomplete)]


def call(
    tool: Annotated[str, typer.Argument(help="Name of the tool: [app.]name[@major].", autocompletion=tool_names)],
    inputs: Annotated[list[str] | None, typer.Argument(help="name=text or name:=JSON.")] = None,
    whole: Annotated[str | None, typer.Option("--input", metavar="JSON", help="The input: JSON, @file or -.")] = None,
    timeout: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=0.001, help="How long it may take [default: the tool's own].")
    ] = None,
    save: Annotated[str, typer.Option(metavar="DIR", help="Write the artifacts of the output there.")] = "",
    here: Annotated[
        bool, typer.Option("--here", help="Run it in this process, without a server: a tool of the standard toolbox.")
    ] = False,
    target: Annotated[
        str, typer.Option("--app", metavar="TARGET", help="Run it in this process, without a server: a tool of an app.")
    ] = "",
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Call one tool and print what it returned. Nothing is recorded, and nothing is tried again.

    Example: callboard call quote sku=A1 qty:=2

    Example: callboard call sql --here url=sqlite:///shop.db query="select count(*) from orders"

    Example: callboard call chart --app desk:app --input @chart.json --save out
    """
    session = make_session(nats, context, json=as_json, no_color=no_color)
    run(_call(session, tool, inputs or [], whole, here=here, target=target, timeout_s=timeout, save=save))


async def _call(
    session: Session, tool: str, inputs: list[str], whole: str | None, *, here: bool, target: str,
    timeout_s: float | None, save: str,
) -> int:  # fmt: skip
    from actors.command_bodies import calling
    from actors.command_bodies.arguments import json_hint, parse_inputs
    from bus.errors import UsageError

    values = parse_inputs(inputs, whole)
    try:
        if here or target:
            return await calling.call_here(session, tool, values, target=target, timeout_s=timeout_s, save=save)
        return await calling.call(session, tool, values, timeout_s=timeout_s, save=save)
    except UsageError as error:
        if hint := json_hint(inputs, error.path):
            raise UsageError(error.args[0], code=error.code, path=error.path, hint=hint) from error
        raise


# ---- MCP


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
