"""``callboard supervise``: orders to the supervisors of nodes; and ``callboard node drain``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, make_session, run

if TYPE_CHECKING:
    from actors.command_bodies.session import Session
    from bus.connection import Bus
    from supervisor.demand import ActorDemand, DrainDemand, ScaleDemand
    from supervisor.status import NodeStatus

app = typer.Typer(
    help="Restart, stop, start and scale actors that run.\n\nExample: callboard supervise restart quote-1",
    no_args_is_help=True,
    rich_markup_mode=None,
)

# How often the progress of a drain is looked at, and how long its end may take beside the drain itself.
LOOK_S = 0.5
END_S = 60.0
GONE_S = 2.0


def _actors(incomplete: str) -> list[str]:
    from actors.command_bodies.names import actor_names

    return [name for name in actor_names() if name.startswith(incomplete)]


def _nodes(incomplete: str) -> list[str]:
    from actors.command_bodies.names import node_names

    return [name for name in node_names() if name.startswith(incomplete)]


Actor = Annotated[
    str, typer.Argument(help="An actor, or a component or group: all of its actors.", autocompletion=_actors)
]
OnNode = Annotated[
    str, typer.Option("--node", metavar="NAME", help="The node, if the name is on several.", autocompletion=_nodes)
]
NodeName = Annotated[str, typer.Argument(metavar="NAME", help="The node's name.", autocompletion=_nodes)]


@app.command()
def restart(
    actor: Actor, node: OnNode = "", nats: Nats = None, context: Context = None, as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:  # fmt: skip
    """Stop actors in order and start them, one after the other. What was given up is started.

    Example: callboard supervise restart quote --node n1
    """
    run(_to_actors(make_session(nats, context, "default", as_json, no_color), "restart", actor, node))


@app.command()
def stop(
    actor: Actor, node: OnNode = "", nats: Nats = None, context: Context = None, as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:  # fmt: skip
    """Stop actors in order, until somebody starts them. What they have not finished goes to others.

    Example: callboard supervise stop quote-1
    """
    run(_to_actors(make_session(nats, context, "default", as_json, no_color), "stop", actor, node))


@app.command()
def start(
    actor: Actor, node: OnNode = "", nats: Nats = None, context: Context = None, as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:  # fmt: skip
    """Start actors that were stopped, have ended or were given up.

    Example: callboard supervise start quote
    """
    run(_to_actors(make_session(nats, context, "default", as_json, no_color), "start", actor, node))


@app.command()
def scale(
    component: Annotated[str, typer.Argument(help="A component, or host.", autocompletion=_actors)],
    replicas: Annotated[int, typer.Argument(min=0, help="How many processes of it.")],
    node: OnNode = "",
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Run a component in more or fewer processes, until the node ends. Jobs that share a host share its number.

    Example: callboard supervise scale quote 4 --node n1
    """
    run(_scale(make_session(nats, context, "default", as_json, no_color), component, replicas, node))


def drain(
    name: NodeName,
    timeout: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="How long calls may take to end.")] = 300.0,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Hand everything back, let calls end, then end the node. Its work goes on elsewhere.

    Jobs are handed to other nodes at once, calls that run are run to their end, nothing new is taken. Nothing is lost
    or done twice, so this is how to replace nodes one by one.

    Example: callboard node drain n1 --timeout 60
    """
    run(_drain(make_session(nats, context, "default", as_json, no_color), name, timeout))


# ---- orders


async def _to_actors(session: Session, order: str, actor: str, node: str) -> int:
    from supervisor.demand import WAIT_LIMIT_S, ActorDemand

    return await _order(session, order, actor, node, ActorDemand(actor, WAIT_LIMIT_S))


async def _scale(session: Session, component: str, replicas: int, node: str) -> int:
    from supervisor.demand import WAIT_LIMIT_S, ScaleDemand

    return await _order(session, "scale", component, node, ScaleDemand(component, replicas, WAIT_LIMIT_S))


async def _order(session: Session, order: str, name: str, node: str, demand: ActorDemand | ScaleDemand) -> int:
    from datetime import UTC, datetime

    import msgspec

    from actors.console.node_page import actor_page
    from supervisor.demand import DemandAnswer

    screen = session.screen()
    async with await session.client() as client:
        there = await _node_with(client.bus, name, node, can_be_new=order == "scale")
        raw = await _ask(client.bus, there, order, demand)
    answer = msgspec.json.decode(raw, type=DemandAnswer)
    if session.json:
        screen.show_json(answer)
    else:
        screen.show(actor_page(answer.node, answer.actors, datetime.now(UTC)))
        if not answer.done:
            session.notes().json_line("it goes on; look: callboard ps")
    return 0


async def _ask(bus: Bus, node: str, order: str, demand: ActorDemand | ScaleDemand | DrainDemand) -> bytes:
    import msgspec

    from bus import subjects
    from bus.service import ask

    patience_s = getattr(demand, "wait_s", 0.0) + 10.0
    return await ask(bus, subjects.control(node, order), msgspec.json.encode(demand), timeout_s=patience_s)


async def _node_with(bus: Bus, name: str, node: str, *, can_be_new: bool) -> str:
    """The one node that has what ``name`` stands for. Raises: UsageError that says which there are.

    ``can_be_new``: a component that was scaled to nothing has no actors; then its node has to be named.
    """
    from bus.errors import UsageError
    from supervisor.status import actors_named, known_names, no_actor, node_statuses

    nodes = await node_statuses(bus)
    if node:
        found = [_find(nodes, node)]
        if can_be_new or actors_named(found[0].actors, name):
            return node
        raise no_actor(name, known_names(found[0].actors), f"node {node}")
    having = [each.node for each in nodes if actors_named(each.actors, name)]
    if len(having) > 1:
        raise UsageError(
            f"{name} is on {len(having)} nodes: {', '.join(having)}", code="ambiguous", path="--node",
            hint=f"say which: --node {having[0]}",
        )  # fmt: skip
    if not having:
        raise no_actor(name, known_names([actor for each in nodes for actor in each.actors]), "no node that answers")
    return having[0]


def _find(nodes: list[NodeStatus], name: str) -> NodeStatus:
    from difflib import get_close_matches

    from bus.errors import UsageError

    for node in nodes:
        if node.node == name:
            return node
    known = [node.node for node in nodes]
    near = get_close_matches(name, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(known) or 'none'}"
    raise UsageError(f"no node {name!r} answers", code="unknown_node", path=name, hint=hint)


# ---- drain


async def _drain(session: Session, name: str, timeout_s: float) -> int:
    from actors.command_bodies.jobs import user_name
    from actors.command_bodies.session import EXIT_JOB_FAILED
    from bus import subjects
    from supervisor.demand import DrainDemand
    from supervisor.status import node_statuses

    screen = session.screen()
    async with await session.client() as client:
        _find(await node_statuses(client.bus), name)
        ended = asyncio.Event()
        subject = subjects.live(subjects.SYSTEM_WORKSPACE, name, "node.stopped")
        await client.bus.subscribe(subject, lambda _: ended.set())
        await _ask(client.bus, name, "drain", DrainDemand(timeout_s, user_name()))
        is_gone = await _follow(session, client.bus, name, timeout_s, ended)
        in_order = is_gone and await _heard(ended)
    if session.json:
        screen.show_json({"node": name, "drained": in_order})
    else:
        screen.json_line(f"{name} {_outcome(is_gone, in_order)}")
    return 0 if in_order else EXIT_JOB_FAILED


def _outcome(is_gone: bool, in_order: bool) -> str:
    if in_order:
        return "is drained and has ended"
    return (
        "is gone without a word: it was killed" if is_gone else "did not end in time: callboard ps shows what it does"
    )


async def _heard(ended: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(GONE_S):
            await ended.wait()
    except TimeoutError:
        return False
    return True


async def _follow(session: Session, bus: Bus, name: str, timeout_s: float, ended: asyncio.Event) -> bool:
    """Show what is left until the node is gone or has said its last word; False if it does not go."""
    import msgspec

    from bus import subjects
    from bus.connection import NoResponder
    from bus.errors import BusError
    from bus.service import ask
    from supervisor.status import NodeStatus

    notes, shown = session.notes(), ""
    deadline = asyncio.get_running_loop().time() + timeout_s + END_S
    while asyncio.get_running_loop().time() < deadline and not ended.is_set():  # `callboard up` takes its server along
        try:
            raw = await ask(bus, subjects.control(name, "ps"), timeout_s=GONE_S)
        except NoResponder:
            return True
        except BusError:  # it is busy, or the server is away: the next look may see more
            continue
        left = _what_is_left(msgspec.json.decode(raw, type=NodeStatus))
        if left != shown:
            notes.json_line(f"{name}: {left}")
            shown = left
        await asyncio.sleep(LOOK_S)
    return ended.is_set()


def _what_is_left(status: NodeStatus) -> str:
    from actors.console.amount import plural

    running = [actor for actor in status.actors if actor.pid is not None]
    names = f" ({', '.join(actor.name for actor in running)})" if running else ""
    calls = sum(actor.busy for actor in running)
    return f"{plural(calls, 'call')} and {plural(len(running), 'actor')} left{names}"
