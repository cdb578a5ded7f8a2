"""A node's watch over its children: hears heartbeats, asks the server about mailboxes, reads what processes use.

It only carries facts to the pure decisions (``lookout``, ``limits``) and kills whom they name. Idle, it costs one
message to itself every two seconds, and a question for each consumer whose actors here wait for work (`_ask`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping

import msgspec
import psutil

from bus import subjects
from bus.connection import Bus, Message, Subscription
from bus.errors import BusError, UsageError
from supervisor import meter
from supervisor.heartbeat import NODE_ITSELF, Heartbeat, decode, encode
from supervisor.limits import LimitWatch, Usage
from supervisor.lookout import START_S, Backlog, Consumer, Lookout, Verdict, Watched
from supervisor.tree import Supervisor

log = logging.getLogger("callboard.watch")

START_VARIABLE = "CALLBOARD_START_S"
METER_S = 0.25
ASK_TIMEOUT_S = 4.0
PENDING_KEPT_S = 20.0


class _ConsumerConfig(msgspec.Struct):
    max_ack_pending: int = 0


class _ConsumerInfo(msgspec.Struct):
    """What is read of the server's CONSUMER.INFO."""

    num_pending: int = 0
    num_waiting: int = 0
    num_ack_pending: int = 0
    paused: bool = False
    config: _ConsumerConfig = msgspec.field(default_factory=_ConsumerConfig)

    def backlog(self) -> Backlog:
        most = self.config.max_ack_pending
        return Backlog(self.num_pending, self.num_waiting, self.paused or 0 < most <= self.num_ack_pending)


class Watch:
    """Watches the children of ``supervisor`` on node ``node``; a child without ``stall_s`` and limits is left alone.

    To be made inside a running loop. Raises: UsageError if ``CALLBOARD_START_S`` is no time.
    """

    def __init__(
        self, bus: Bus, node: str, supervisor: Supervisor, *, lookout: Lookout | None = None,
        read_usage: Callable[[int], Usage | None] = meter.usage_of,
    ) -> None:  # fmt: skip
        self.lookout = lookout or Lookout(start_s=start_allowance_s(os.environ))
        self._bus = bus
        self._node = node
        self._supervisor = supervisor
        self._read_usage = read_usage
        self._pulse = encode(Heartbeat(pid=os.getpid(), doing="watching"))
        self._limit_watches: dict[int, LimitWatch] = {}
        self._has_limits = False
        self._pending: dict[Consumer, tuple[int, float]] = {}
        self._asking: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._subscription: Subscription | None = None
        self._now = asyncio.get_running_loop().time

    async def start(self) -> None:
        """Begin to watch."""
        self._subscription = await self._bus.subscribe(subjects.heartbeat(self._node, "*"), self._on_heartbeat)
        self._tasks = [asyncio.create_task(self._look()), asyncio.create_task(self._measure())]

    async def stop(self) -> None:
        """Kill nobody any more."""
        tasks = [*self._tasks, *([self._asking] if self._asking else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._subscription is not None:
            with contextlib.suppress(Exception):  # the connection may be closed already
                await self._subscription.unsubscribe()

    # ---- heartbeats

    def _on_heartbeat(self, msg: Message) -> None:
        name = msg.subject.rpartition(".")[2]
        try:
            beat = decode(msg.data)
        except msgspec.DecodeError as error:
            log.warning("%s: no heartbeat: %s", msg.subject, error)
            return
        if name == NODE_ITSELF:
            if beat.pid == os.getpid():  # somebody may have started a second node under our name
                self.lookout.pulse(self._now())
        elif self._is_heard(name, beat):
            with contextlib.suppress(UsageError):
                self._supervisor.report(
                    name, beat.doing, beat.since, beat.sequence, busy=beat.busy, assets=beat.assets,
                    warnings=beat.warnings,
                )  # fmt: skip

    def _is_heard(self, name: str, beat: Heartbeat) -> bool:
        if self.lookout.heard(name, beat, self._now()):
            return True
        # The first words of a new process may be its last, so they must not wait for the next look.
        self.lookout.know(self._running(), self._now())
        return self.lookout.heard(name, beat, self._now())

    def _running(self) -> list[Watched]:
        return [Watched(spec.name, pid, spec.stall_s) for spec, pid in self._supervisor.running()]

    async def _look(self) -> None:
        while True:
            try:
                await self._look_once()
            except Exception:
                log.exception("a look at the children failed")
            await asyncio.sleep(self.lookout.interval_s())

    async def _look_once(self) -> None:
        for verdict in self.lookout.look(self._running(), self._now()):
            self._kill(verdict)
        if not self._bus.is_online:
            return  # what is published now would come late, and say that the way was open then
        await self._bus.publish(subjects.heartbeat(self._node, NODE_ITSELF), self._pulse)
        if (self._asking is None or self._asking.done()) and (consumers := self.lookout.to_ask(self._now())):
            self._asking = asyncio.create_task(self._ask_all(consumers))

    def _kill(self, verdict: Verdict) -> None:
        with contextlib.suppress(UsageError):  # taken out of the tree meanwhile
            self._supervisor.kill(verdict.name, verdict.cause, verdict.reason)

    # ---- mailboxes

    async def _ask_all(self, consumers: list[Consumer]) -> None:
        await asyncio.gather(*(self._ask(consumer) for consumer in consumers))

    async def _ask(self, consumer: Consumer) -> None:
        stream, name = consumer
        backlog: Backlog | None = None
        try:
            answer = await self._bus.api(f"CONSUMER.INFO.{stream}.{name}", timeout_s=ASK_TIMEOUT_S)
            backlog = msgspec.convert(answer, _ConsumerInfo).backlog()
        except (BusError, msgspec.ValidationError) as error:  # no leader, no such consumer: nobody's ears are to blame
            log.debug("%s of %s: %s", name, stream, error)
        if backlog is not None:
            self._pending[consumer] = backlog.pending, self._now()
        self.lookout.told(consumer, backlog, self._now())

    @property
    def pending(self) -> dict[Consumer, int]:
        """How many messages wait, for each consumer that was asked about of late: where actors here take none."""
        since = self._now() - PENDING_KEPT_S
        self._pending = {consumer: known for consumer, known in self._pending.items() if known[1] >= since}
        return {consumer: number for consumer, (number, _) in self._pending.items()}

    # ---- limits

    async def _measure(self) -> None:
        while True:
            try:
                await self._measure_once()
            except Exception:
                log.exception("what the children use was not measured")
            await asyncio.sleep(METER_S if self._has_limits else 1.0)

    async def _measure_once(self) -> None:
        limited = {pid: spec for spec, pid in self._supervisor.running() if spec.limits}
        if not limited:
            return
        self._has_limits = True
        at = self._now()
        usages = await asyncio.to_thread(self._read_all, list(limited))
        kept = {pid: self._limit_watches.get(pid) or LimitWatch(spec.limits, at) for pid, spec in limited.items()}
        self._limit_watches = kept
        still = {pid for _, pid in self._supervisor.running()}
        for pid in usages.keys() & still:
            if excess := kept[pid].note(usages[pid], self._now()):
                self._kill_family(Verdict(limited[pid].name, pid, excess.cause, excess.reason))

    def _kill_family(self, verdict: Verdict) -> None:
        """With the process goes its group; what it has started in a session of its own would keep what it holds."""
        family = meter.descendants(verdict.pid)
        self._kill(verdict)
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()

    def _read_all(self, pids: list[int]) -> dict[int, Usage]:
        return {pid: usage for pid in pids if (usage := self._read_usage(pid)) is not None}


def start_allowance_s(environ: Mapping[str, str]) -> float:
    """How long a process may take until its first heartbeat. Raises: UsageError."""
    text = environ.get(START_VARIABLE, "")
    try:
        start_s = float(text or START_S)
    except ValueError:
        start_s = float("nan")
    if not 0 < start_s < float("inf"):
        hint = "seconds above 0 that a process may take to import its app"
        raise UsageError(f"{START_VARIABLE} is {text!r}", code="bad_start", path=START_VARIABLE, hint=hint)
    return start_s
