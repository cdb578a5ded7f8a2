"""The entry of every child process of a node: ``python -m actors.node.process [--name N] ROLE TARGET …``.

It begins with the tether, before any code of the user's is imported, and ends in order on SIGTERM: stop taking, finish
or hand back, close. Exit codes say to the supervisor what happened.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from actors.assets.failure import AssetFailed
from actors.components.app import App
from actors.components.loading import load_app
from actors.node.heart import Beat, Heart, starting
from actors.toolbox.kit import asking_anew
from bus.connection import Bus
from bus.courier import deliver_inherited
from bus.errors import BusError, UsageError
from bus.leases import LeaseBook
from bus.mailbox import hand_back_inherited
from bus.objects import Blobs
from bus.options import ConnectOptions, resolve_options
from bus.outbox import CLIENT, Outbox, outbox_path
from bus.paths import data_dir
from supervisor.tether import hold_tether

log = logging.getLogger("callboard.process")

CONNECT_VARIABLE = "CALLBOARD_CONNECT"
NODE_VARIABLE = "CALLBOARD_NODE"
STOP_GRACE_S = 6.0
LEAVE_S = 0.5

EXIT_CONFIG = 78
EXIT_IMPORT = 1
EXIT_STUCK = 75
EXIT_BUS_CLOSED = 69


@dataclass
class Actor:
    """This process as it runs: its name, its bus, and how it is asked to end."""

    name: str
    node: str
    bus: Bus
    blobs: Blobs
    leases: LeaseBook
    outbox: Outbox
    heartbeat: Beat = starting
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    drain: Callable[[], Coroutine[Any, Any, object]] | None = None
    exit_code: int = 0

    def end(self, code: int) -> None:
        """Ask for the end of this process, with that exit code."""
        self.exit_code = self.exit_code or code
        self.stop.set()


def connect_options() -> ConnectOptions:
    """How to connect: what the node handed down, else the environment and contexts. Raises: UsageError."""
    handed_down = os.environ.get(CONNECT_VARIABLE)
    return msgspec.json.decode(handed_down, type=ConnectOptions) if handed_down else resolve_options()


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m actors.node.process", description=__doc__)
    parser.add_argument("--name", default="")
    roles = parser.add_subparsers(dest="role", required=True)
    tool = roles.add_parser("tool", help="serve the calls of one tool")
    tool.add_argument("target")
    tool.add_argument("component")
    tool.add_argument("major", type=int)
    host = roles.add_parser("host", help="run workflows")
    host.add_argument("--capacity", type=int, default=0)
    host.add_argument("target")
    host.add_argument("workflows", nargs="+")
    gateway = roles.add_parser("gateway", help="serve the api.* services")
    gateway.add_argument("target", nargs="?", default="")
    roles.add_parser("workflows", help="run published workflows")
    describe = roles.add_parser("describe", help="print the app's components as JSON")
    describe.add_argument("target")
    verify = roles.add_parser("verify", help="re-run a job's function against its recorded history")
    verify.add_argument("--at", type=int)
    verify.add_argument("--limit", type=float, default=60.0, help="seconds")
    verify.add_argument("target")
    verify.add_argument("snapshot", type=Path)
    verify.add_argument("verdict", type=Path)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Run one role until it is stopped; the exit code."""
    hold_tether()
    arguments = _arguments(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=os.environ.get("CALLBOARD_LOG", "INFO"), format="%(levelname)s %(name)s: %(message)s")
    for client in ("httpx", "httpx2"):  # a line for each call of a model, and URLs may hold what is nobody's business
        logging.getLogger(client).setLevel(logging.WARNING)
    try:
        if arguments.role == "describe":
            with asking_anew():
                app = load_app(arguments.target)
            return _describe(app)
        if arguments.role == "verify":
            return _verify(arguments)
        return _run(_role(arguments), arguments.name or arguments.role)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_IMPORT if error.code == "import_raised" else EXIT_CONFIG
    except AssetFailed as error:  # as an import that raised, it may pass
        sys.stderr.write(f"error: {error}\n")
        return EXIT_IMPORT
    except BusError as error:
        sys.stderr.write(f"error: {error}\n")
        return EXIT_BUS_CLOSED


def _describe(app: App) -> int:
    app.check_assets()
    components = [app.info_of(c) for c in app.components]
    payload = {"app": app.name, "version": app.version, "groups": app.groups, "components": components,
               "documents": app.documents}  # fmt: skip
    sys.stdout.buffer.write(b"\n" + msgspec.json.encode(payload) + b"\n")
    sys.stdout.flush()
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    """The verdict goes to a file: what the user's code prints must not come between."""
    from actors.replays.verdict import judge
    from store.snapshot import decode_snapshot

    # Who started us ends us sooner, unless it is gone by then: the kernel's alarm also ends code that blocks.
    signal.setitimer(signal.ITIMER_REAL, arguments.limit + LEAVE_S)
    snapshot = decode_snapshot(arguments.snapshot.read_bytes(), str(arguments.snapshot))
    verdict = asyncio.run(judge(_app_to_verify(arguments.target), snapshot, arguments.at))
    arguments.verdict.write_bytes(msgspec.json.encode(verdict))
    return 0


def _app_to_verify(target: str) -> App:
    """A document by itself stands for an app that has nothing else."""
    from actors.workflow.document_file import DOCUMENT_SUFFIXES

    if not target.endswith(DOCUMENT_SUFFIXES):
        return load_app(target)
    app = App("document")
    app.workflow(Path(target).resolve())
    return app


Role = Callable[[Actor], Awaitable[Callable[[], Awaitable[None]]]]


def _role(arguments: argparse.Namespace) -> Role:
    """The role's starter, which returns its stopper. The user's module is loaded here, before anything is taken."""
    from actors.node import roles

    match arguments.role:
        case "tool":
            app = load_app(arguments.target)
            return lambda actor: roles.serve_tool(actor, app, arguments.component, arguments.major)
        case "host":
            app = load_app(arguments.target)
            return lambda actor: roles.host_jobs(actor, app, arguments.workflows, arguments.capacity)
        case "workflows":
            from actors.node.published_role import host_published

            return host_published
        case _:
            return roles.serve_gateway


def _run(role: Role, name: str) -> int:
    import uvloop

    return uvloop.run(_live(role, name))


async def _live(role: Role, name: str) -> int:
    node = os.environ.get(NODE_VARIABLE, "")
    bus = await Bus.connect(connect_options(), name=f"callboard {node}/{name}", timeout_s=float("inf"))
    actor = Actor(name, node, bus, Blobs(bus), LeaseBook(_lease_path(node, name)), _outbox(node))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, actor.stop.set)
    loop.add_signal_handler(signal.SIGUSR1, actor.draining.set)
    heart = Heart(bus, node, name, lambda: actor.heartbeat())  # noqa: PLW0108 - its role gives it another one
    beating = asyncio.create_task(heart.keep_beating())
    try:
        await deliver_inherited(bus, actor.outbox.path, f"{node}/{name}")
        await hand_back_inherited(bus, actor.leases)
        stop = await role(actor)
        await heart.beat()  # it serves from now on, and people wait to see that
        _ease_collector()
        await _until_end(actor)
        await _drain(actor)
        await _stop(stop)
    finally:
        beating.cancel()
        actor.leases.close()
        await actor.outbox.close()
        await bus.close()
    _leave_within(LEAVE_S, actor.exit_code)
    return actor.exit_code


async def _stop(stop: Callable[[], Awaitable[None]]) -> None:
    try:
        async with asyncio.timeout(STOP_GRACE_S + 2):
            await stop()
    except TimeoutError:
        log.warning("not stopped in order within %g s: what is in flight goes to others later", STOP_GRACE_S + 2)


def _leave_within(limit_s: float, code: int) -> None:
    """The interpreter waits for every thread before it ends, also for one of a tool's that does not yield."""
    timer = threading.Timer(limit_s, os._exit, (code,))
    timer.daemon = True
    timer.start()


def _ease_collector() -> None:
    """Leave what was imported out of garbage collection, and collect less often.

    A job in flight is some hundred objects that die by reference count; with the default thresholds a sixth of a busy
    host's time went into walking those that are still alive.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


async def _until_end(actor: Actor) -> None:
    await _first(actor.stop.wait(), actor.draining.wait(), actor.bus.closed.wait())
    if actor.bus.closed.is_set():
        actor.exit_code = EXIT_BUS_CLOSED


async def _drain(actor: Actor) -> None:
    """Finish what was begun, for as long as it takes; SIGTERM, a stuck call or a closed connection cut it short."""
    if actor.drain is not None and not (actor.stop.is_set() or actor.bus.closed.is_set()):
        await _first(actor.drain(), actor.stop.wait(), actor.bus.closed.wait())


async def _first(*ways: Coroutine[Any, Any, object]) -> None:
    """Until one of these is over; the others are called off."""
    tasks = {asyncio.create_task(way) for way in ways}
    ended, others = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in others:
        task.cancel()
    await asyncio.gather(*ended, return_exceptions=True)


def _outbox(node: str) -> Outbox:
    return Outbox(outbox_path(os.environ, node or CLIENT))


def _lease_path(node: str, name: str) -> Path:
    return data_dir(os.environ) / "leases" / (node or f"pid-{os.getpid()}") / f"{name}.log"


if __name__ == "__main__":
    sys.exit(main())
