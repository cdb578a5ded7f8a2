"""Carries a plan of faults out, and puts everything right at the end.

A fault is dealt to what there is at its time: a kind that finds nobody to hit (the node is down already) goes to
another node, or is left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.chaos.injury import Injury
from bench.chaos.link import Link
from bench.chaos.node_process import Child, NodeProcess
from bench.chaos.plan import Fault
from bus.embedded import EmbeddedServer

log = logging.getLogger("chaos")

LOOK_S = 0.2
# A node that ended by itself is started again, as the service manager of its machine would.
REVIVE_S = 1.0
LAG_S = 1.0


@dataclass(frozen=True)
class Seat:
    """A node and its link to the server; None if that cannot be hurt from here."""

    node: NodeProcess
    link: Link | None = None


class Injector:
    """Hurts ``server`` and ``seats``; ``injuries`` tells what it did."""

    def __init__(self, server: EmbeddedServer | None, seats: Sequence[Seat]) -> None:
        self.injuries: list[Injury] = []
        self.exits: list[tuple[str, int]] = []
        self._server = server
        self._seats = seats
        self._server_busy = asyncio.Lock()
        self._down: set[str] = set()
        self._hurt: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    async def carry_out(self, plan: Sequence[Fault]) -> None:
        """All faults of the plan, and then everything healed: links, stopped processes, nodes and server."""
        begun = time.monotonic()
        try:
            for fault in plan:
                await asyncio.sleep(max(0.0, begun + fault.at_s - time.monotonic()))
                self._launch(fault)
            while self._tasks:
                await asyncio.wait(self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _launch(self, fault: Fault) -> None:
        task = asyncio.create_task(self._inflict(fault), name=fault.kind)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            log.error("%s could not be carried out: %r", task.get_name(), error)

    async def revive(self) -> None:
        """For ever: start what ended by itself, and note how."""
        while True:
            await asyncio.sleep(LOOK_S)
            for seat in self._seats:
                if not seat.node.alive and seat.node.name not in self._down:
                    self.exits.append((seat.node.name, seat.node.exit_code or 0))
                    log.warning("node %s ended by itself with code %s", seat.node.name, seat.node.exit_code)
                    self._down.add(seat.node.name)
                    await asyncio.sleep(REVIVE_S)
                    seat.node.start()
                    self._down.discard(seat.node.name)

    async def watch_lag(self) -> None:
        """For ever: a machine that gives us no time gives none to the others either, which counts as a fault."""
        while True:
            before = time.time()
            await asyncio.sleep(LOOK_S)
            if time.time() - before > LOOK_S + LAG_S:
                self.injuries.append(Injury(kind="slow machine", begun_s=before, ended_s=time.time()))

    # ---- one fault

    async def _inflict(self, fault: Fault) -> None:
        match fault.kind.split():
            case ["kill", "server"]:
                await self._kill_server(fault)
            case ["kill", "node"]:
                await self._kill_node(fault)
            case ["kill", role]:
                self._kill_child(fault, role)
            case ["stop", role]:
                await self._stop_child(fault, role)
            case _:
                await self._hurt_link(fault)

    async def _kill_server(self, fault: Fault) -> None:
        if self._server is None:
            return
        async with self._server_busy:
            begun = time.time()
            self._server.kill()
            try:
                await self._server.wait()
                await asyncio.sleep(fault.length_s)
            finally:
                await self._server.restart()
            self._note(fault, begun)

    async def _kill_node(self, fault: Fault) -> None:
        seat = self._choose(fault)
        if seat is None:
            return
        self._down.add(seat.node.name)
        begun = time.time()
        try:
            pids = seat.node.kill()
            self._note(fault, begun, pids, node=seat.node.name, fatal=True)
            await asyncio.sleep(fault.length_s)
        finally:
            seat.node.start()
            self._down.discard(seat.node.name)

    def _kill_child(self, fault: Fault, role: str) -> None:
        if chosen := self._choose_child(fault, role):
            seat, child = chosen
            self._note(fault, time.time(), [child.pid], node=seat.node.name, fatal=True)
            _send(child.pid, signal.SIGKILL)

    async def _stop_child(self, fault: Fault, role: str) -> None:
        chosen = self._choose_child(fault, role)
        if chosen is None:
            return
        seat, child = chosen
        begun, reserve = time.time(), _resume_later(child.pid, fault.length_s + 1)
        _send(child.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(fault.length_s)
        finally:
            _send(child.pid, signal.SIGCONT)
            os.killpg(reserve.pid, signal.SIGKILL)
            reserve.wait()
            self._note(fault, begun, [child.pid], node=seat.node.name)

    async def _hurt_link(self, fault: Fault) -> None:
        seat = self._choose(fault)
        if seat is None or seat.link is None:
            return
        begun, pids = time.time(), [child.pid for child in seat.node.children()]
        hurt: dict[str, Callable[[], None]] = {"cut link": seat.link.cut, "stall link": seat.link.stall}
        hurt.get(fault.kind, lambda: setattr(seat.link, "delay_s", fault.delay_s))()
        self._hurt[seat.node.name] += 1
        try:
            await asyncio.sleep(fault.length_s)
        finally:
            self._hurt[seat.node.name] -= 1
            if not self._hurt[seat.node.name]:  # the last of several heals
                seat.link.heal()
            pids += [child.pid for child in seat.node.children()]
            self._note(fault, begun, sorted(set(pids)), node=seat.node.name)

    # ---- whom

    def _choose(self, fault: Fault) -> Seat | None:
        up = [seat for seat in self._seats if seat.node.alive and seat.node.name not in self._down]
        return up[int(fault.pick * len(up))] if up else None

    def _choose_child(self, fault: Fault, role: str) -> tuple[Seat, Child] | None:
        found = [(seat, child) for seat in self._seats for child in seat.node.children() if child.role == role]
        return found[int(fault.pick * len(found))] if found else None

    def _note(
        self, fault: Fault, begun_s: float, pids: Sequence[int] = (), *, node: str = "", fatal: bool = False
    ) -> None:
        self.injuries.append(
            Injury(
                kind=fault.kind, begun_s=begun_s, ended_s=time.time(), pids=tuple(pids), fatal=fatal, node=node,
                delay_s=fault.delay_s,
            )
        )  # fmt: skip
        log.info("%-11s %s %s", fault.kind, node, f"for {fault.length_s} s" if fault.length_s else "")


def _send(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _resume_later(pid: int, after_s: float) -> subprocess.Popen[bytes]:
    """Wakes ``pid`` even if we are killed meanwhile: what is stopped cannot see that its supervisor is gone."""
    script = f"sleep {after_s}; kill -CONT {pid}"
    return subprocess.Popen(["/bin/sh", "-c", script], stderr=subprocess.DEVNULL, start_new_session=True)
