"""The command ``callboard``: parses, calls, prints. The composition root; everything heavy is imported when it is used.

Exit codes: 0 done, 1 the job failed (or the doctor found a fault), 2 wrong use, 3 the bus cannot be reached, 4 the job
goes on, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.commands import agent as agent_commands
from actors.commands import amend as amend_commands
from actors.commands import approvals as approval_commands
from actors.commands import artifacts as artifact_commands
from actors.commands import assets as asset_commands
from actors.commands import breakers as breaker_commands
from actors.commands import call as call_commands
from actors.commands import control
from actors.commands import dead as dead_commands
from actors.commands import fork as fork_commands
from actors.commands import history as history_commands
from actors.commands import locks as lock_commands
from actors.commands import look as look_commands
from actors.commands import outbox as outbox_commands
from actors.commands import roles as role_commands
from actors.commands import schedules as schedule_commands
from actors.commands import submit as submit_commands
from actors.commands import supervise as supervise_commands
from actors.commands import threads as thread_commands
from actors.commands import trace as trace_commands
from actors.commands import usage as usage_commands
from actors.commands.default_group import DefaultGroup
from actors.commands.options import (
    Context,
    Nats,
    NoColor,
    defaults,
    make_session,
    option_names,
    run,
)
from actors.workflow_commands import workflow as workflow_commands
from actors.workflow_commands import workflow_registry

if TYPE_CHECKING:
    from actors.node.crew import Crew
    from actors.node.roster import Choice
    from bus.connection import Bus
    from bus.options import ConnectOptions

app = typer.Typer(
    name="callboard",
    help="Actors for AI agents, tools and durable workflow jobs, over NATS.",
    epilog="Start with: callboard up examples.shop:app, then: callboard submit order sku=A1 qty:=2 --wait",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Only = Annotated[
    list[str] | None, typer.Option("--only", metavar="NAME", help="Run this component alone (repeatable).")
]
Except = Annotated[list[str] | None, typer.Option("--except", metavar="NAME", help="Leave this one out (repeatable).")]
Replicas = Annotated[
    list[str] | None, typer.Option("--replicas", metavar="NAME=N", help="How many processes for a component.")
]


@app.callback()
def everywhere(
    ctx: typer.Context,
    nats: Nats = None,
    context: Context = None,
    workspace: Annotated[str | None, typer.Option("--workspace", "-w", help="The workspace of the jobs.")] = None,
    no_color: NoColor = False,
) -> None:
    """Options that may stand before a command as well as after it; after it they weigh more."""
    given = {"nats": nats, "context": context, "workspace": workspace, "no_color": no_color or None}
    given = {name: value for name, value in given.items() if value is not None}
    group: Any = ctx.command
    command = group.get_command(ctx, ctx.invoked_subcommand or "")
    if command is None:
        return
    if foreign := given.keys() - option_names(command):
        ctx.fail(f"'{command.name}' has no option --{min(foreign).replace('_', '-')}")
    if workspace is not None:
        os.environ["CALLBOARD_WORKSPACE"] = workspace  # which outranks the map of defaults
    ctx.default_map = {command.name: defaults(command, given)}


# ---- run


@app.command()
def up(
    target: Annotated[str, typer.Argument(help="The app: module:app or file.py:app.")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the server on this machine.")] = 4222,
    data_dir: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Where the server keeps its data [default: the user's data directory]."),
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the node [default: the host's name].")] = "",
    only: Only = None,
    without: Except = None,
    replicas: Replicas = None,
) -> None:
    """Run an app on this machine. Starts a NATS server, or takes the one that runs, and a node.

    Example: callboard up examples.shop:app
    """
    from bus.paths import DATA_DIR_VARIABLE

    if data_dir:
        os.environ[DATA_DIR_VARIABLE] = data_dir  # for the server, and for what the actors keep on disk
    run(_up(target, port, name, only, without, replicas))


node_app = typer.Typer(
    cls=DefaultGroup,
    help=(
        "Run an app as a node of a cluster, or drain one.\n\n"
        "Start as many as you like, on any machines.\n\n"
        "Example: callboard node shop:app --name n1 --nats nats://host:4222 --only quote --replicas quote=4\n\n"
        "Example: callboard node drain n1"
    ),
    subcommand_metavar="TARGET | drain NAME",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@node_app.command("run", hidden=True)
def node(
    target: Annotated[str, typer.Argument(help="The app: module:app or file.py:app.")],
    name: Annotated[str, typer.Option(help="Name of the node [default: the host's name].")] = "",
    nats: Nats = None,
    context: Context = None,
    only: Only = None,
    without: Except = None,
    replicas: Replicas = None,
    gateway: Annotated[bool, typer.Option(help="Serve the api.* services too.")] = True,
    workflows: Annotated[bool, typer.Option(help="Run published workflows too.")] = False,
    metrics: Annotated[
        str, typer.Option(metavar="[HOST:]PORT", help="Serve Prometheus metrics there; port 0 is any free one.")
    ] = "",
) -> None:
    """Run an app as one node of a cluster. Start as many as you like, on any machines.

    Example: callboard node shop:app --name n1 --nats nats://host:4222 --only quote --replicas quote=4
    """
    choice_of = _choice_of(only, without, replicas, gateway=gateway, workflows=workflows)
    run(_node(make_session(nats, context).options, target, name, choice_of, metrics))


node_app.command("drain")(supervise_commands.drain)
app.add_typer(node_app, name="node")
app.add_typer(supervise_commands.app, name="supervise")


def _choice_of(
    only: list[str] | None,
    without: list[str] | None,
    replicas: list[str] | None,
    *,
    gateway: bool = True,
    workflows: bool,
) -> Any:
    """A function that makes the choice, so that what is wrong in it is reported like any other wrong use."""

    def make() -> Choice:
        from actors.command_bodies.arguments import parse_counts
        from actors.node.roster import Choice, default_stall_s

        return Choice(
            tuple(only or ()),
            tuple(without or ()),
            parse_counts(replicas or ()),
            gateway,
            default_stall_s(os.environ),
            workflows,
        )

    return make


async def _up(
    target: str, port: int, name: str, only: list[str] | None, without: list[str] | None, replicas: list[str] | None
) -> int:
    from bus.embedded import EmbeddedServer
    from bus.local_server import local_server
    from bus.options import resolve_options
    from bus.server_keeper import kept

    server = await local_server(port=port)
    started = isinstance(server, EmbeddedServer)
    _say(f"nats-server at {server.url} ({'started' if started else 'it was running already'})")
    choice_of = _choice_of(only, without, replicas, workflows=True)
    async with kept(server, _say) if isinstance(server, EmbeddedServer) else server:
        return await _node(lambda: resolve_options(server.url), target, name, choice_of)


async def _node(options_of: Any, target: str, name: str, choice_of: Any, metrics: str = "") -> int:
    from actors.command_bodies.arguments import default_node_name
    from actors.command_bodies.describe import describe
    from actors.node.crew import Crew
    from actors.node.shipping import ship
    from bus.connection import Bus
    from bus.streams import wait_for_streams
    from bus.subjects import check_name

    name = check_name(name or default_node_name(), "name of the node")
    options, choice = _own_inbox(options_of(), name), choice_of()
    described = await describe(target)
    crew = Crew(target, described, choice, node=name, options=options)
    async with await Bus.connect(options, name=f"callboard {name}", timeout_s=10) as bus:
        for done in await wait_for_streams(bus):
            _say(done)
        for shipped in await ship(bus, described):
            if not shipped.existing:
                _say(f"workflow {shipped.name} {shipped.version}: published")
        return await _supervise(bus, name, crew, metrics)


async def _supervise(bus: Bus, name: str, crew: Crew, metrics: str) -> int:
    import contextlib
    import logging

    from supervisor.node import Node

    logging.basicConfig(level=os.environ.get("CALLBOARD_LOG", "INFO"), format="[node] %(message)s")
    running = Node(bus, name, crew.specs, app=crew.app, groups=crew.groups, scaled=crew.scaled)
    _say(f"node {name} runs {', '.join(spec.name for spec in crew.specs) or 'nothing'}")
    _say("watch: nats sub 'events.>' or callboard tail; look: callboard ps; stop: Ctrl-C")
    async with contextlib.AsyncExitStack() as stack:
        if metrics:
            _say(f"metrics at {await stack.enter_async_context(running.metrics(metrics))}")
        return 1 if await running.run() == "given_up" else 0


def _own_inbox(options: ConnectOptions, name: str) -> ConnectOptions:
    """Each node answers to an inbox of its own, so that permissions can keep nodes from each other's answers."""
    from msgspec.structs import replace

    return options if options.inbox_prefix else replace(options, inbox_prefix=f"_INBOX.{name}")


def _say(text: str) -> None:
    sys.stderr.write(f"[callboard] {text}\n")


# ---- jobs


for _command in (
    submit_commands.submit,
    submit_commands.result,
    call_commands.call,
    control.signal,
    control.pause,
    control.resume,
    control.cancel,
    control.terminate,
    control.retry,
    approval_commands.approvals,
    approval_commands.approve,
    approval_commands.reject,
    fork_commands.fork,
    look_commands.tail,
    look_commands.show,
    trace_commands.trace,
    history_commands.replay,
    history_commands.snapshot,
    artifact_commands.artifacts,
    look_commands.ps,
    look_commands.components,
    look_commands.doctor,
    lock_commands.locks,
    call_commands.mcp,
    usage_commands.usage,
):
    app.command()(_command)
app.add_typer(amend_commands.app, name="amend")
app.add_typer(breaker_commands.app, name="breakers")
app.add_typer(asset_commands.app, name="asset")
app.add_typer(dead_commands.app, name="dead")
app.add_typer(outbox_commands.app, name="outbox")
app.add_typer(schedule_commands.app, name="schedules")
app.add_typer(thread_commands.app, name="threads")
workflow_registry.add_to(workflow_commands.app)
app.add_typer(workflow_commands.app, name="workflow")
app.add_typer(agent_commands.app, name="agent")
app.add_typer(role_commands.app, name="roles")


@app.command()
def version() -> None:
    """Print the version."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        typer.echo(f"callboard {installed('callboard')}")
    except PackageNotFoundError:
        typer.echo("callboard, run from a checkout that is not installed")


def main() -> None:
    """The entry point of the command."""
    app(prog_name="callboard")  # also when it runs as `python -m cli`


if __name__ == "__main__":
    main()
