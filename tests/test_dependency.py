"""Circuits shared by connections that stand for processes: blocks, threads, leases, clocks and outages."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

import actors.breakers.circuit
import supervisor.circuit
from actors import CircuitOpen, ToolContext
from actors.breakers.breaker_states import force
from actors.breakers.breakers import BUCKET, Breakers
from actors.breakers.circuit import Circuit, Permit
from actors.breakers.dependency import Dependency
from bus.connection import Bus, Message
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.failure import TerminalError
from bus.kv import Kv
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from supervisor.breaker import Breaker
from supervisor.circuit import Closed, ForcedOpen, HalfOpen, Open, encode_state
from supervisor.window import Outcome
from tests.waiting import wait_until

NAME = "billing-api"
KEY = f"dep.{NAME}"
POLICY = Breaker(min_calls=3, window_s=30.0, open_s=0.4)


@contextlib.asynccontextmanager
async def users(server: EmbeddedServer, *names: str) -> AsyncIterator[list[Breakers]]:
    """Breakers as that many processes would have them, each on a connection of its own."""
    async with contextlib.AsyncExitStack() as stack:
        made: list[Breakers] = []
        for name in names:
            bus = await stack.enter_async_context(await Bus.connect(ConnectOptions(servers=[server.url]), name=name))
            await ensure_streams(bus)
            breakers = Breakers(bus, Blobs(bus), name)
            await breakers.start()
            stack.push_async_callback(breakers.stop)
            made.append(breakers)
        yield made


def block(breakers: Breakers | None, **more: Callable[[], bool]) -> Dependency:
    """One use of the dependency."""
    return Dependency(breakers, NAME, POLICY, **more)


def part_of(breakers: Breakers) -> Circuit:
    """Its part in the circuit."""
    return breakers.circuit(KEY, POLICY)


async def opened(*all_users: Breakers, open_s: float | None = 0.3) -> None:
    """Open the circuit by hand, and wait until everybody knows."""
    for breakers in all_users:
        part_of(breakers)
    await force(all_users[0].bus, KEY, ForcedOpen("test", open_s=open_s))
    await wait_until(lambda: all(isinstance(b.known(KEY).state, Open) for b in all_users))


async def due(*all_users: Breakers) -> None:
    """Wait until it may be probed."""
    await wait_until(lambda: all(part_of(b).is_due for b in all_users))


async def test_one_block_probes_in_the_whole_system(nats_server: EmbeddedServer) -> None:
    """Twenty blocks of two processes at once: one is entered, and when it has succeeded all are."""
    async with users(nats_server, "ann", "bob") as (ann, bob):
        await opened(ann, bob)
        await due(ann, bob)
        inside, most, refused = 0, 0, 0
        leave = asyncio.Event()

        async def use(breakers: Breakers) -> None:
            nonlocal inside, most, refused
            try:
                async with block(breakers):
                    inside += 1
                    most = max(most, inside)
                    await leave.wait()
                    inside -= 1
            except CircuitOpen:
                refused += 1

        uses = [asyncio.create_task(use(breakers)) for breakers in (ann, bob) for _ in range(10)]
        await wait_until(lambda: refused == 19)
        leave.set()
        await asyncio.gather(*uses)
        assert most == 1
        await wait_until(lambda: all(isinstance(b.known(KEY).state, Closed) for b in (ann, bob)))
        async with block(ann), block(bob):
            pass


async def test_blocks_in_threads(nats_server: EmbeddedServer) -> None:
    """A thread asks the loop for leave when it needs to: one of six probes, and its failure opens for longer."""
    async with users(nats_server, "ann") as (ann,):
        await opened(ann)
        await due(ann)

        def use() -> str:
            try:
                with block(ann):
                    raise ConnectionError("still broken")
            except CircuitOpen as error:
                return f"{error.breaker} {(error.retry_after_s or 0) > 0}"
            except ConnectionError:
                return "entered"

        said = await asyncio.gather(*(asyncio.to_thread(use) for _ in range(6)))
        assert sorted(said) == [*[f"{KEY} True"] * 5, "entered"]
        state = await wait_until(lambda: isinstance(ann.known(KEY).state, Open) and ann.known(KEY).state)
        assert isinstance(state, Open)
        assert state.streak == 1


async def test_plain_with_on_the_loop_asks_for_the_next_block(nats_server: EmbeddedServer) -> None:
    """It cannot wait, so it is refused; the leave that it asked for is for the next block here, and for no other's."""
    async with users(nats_server, "ann", "bob") as (ann, bob):
        await opened(ann, bob)
        await due(ann, bob)
        with pytest.raises(CircuitOpen), block(ann):
            raise AssertionError("entered")
        await wait_until(lambda: part_of(ann).may_probe)
        await wait_until(lambda: isinstance(bob.known(KEY).state, HalfOpen))
        with pytest.raises(CircuitOpen):
            async with block(bob):
                raise AssertionError("entered")
        with block(ann):
            pass
        await wait_until(lambda: isinstance(bob.known(KEY).state, Closed))


async def test_a_leave_that_nobody_uses_runs_out(nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prober that is gone, or has nothing to do, is succeeded, and what it would still do counts no more."""
    for module in (actors.breakers.circuit, supervisor.circuit):
        monkeypatch.setattr(module, "LEASE_S", 0.5)
    async with users(nats_server, "ann", "bob") as (ann, bob):
        await opened(ann, bob)
        await due(ann, bob)
        part_of(ann).want()
        await wait_until(lambda: isinstance(bob.known(KEY).state, HalfOpen))
        await due(ann, bob)
        async with block(bob):
            with pytest.raises(CircuitOpen), block(ann):
                raise AssertionError("entered")
        await wait_until(lambda: isinstance(ann.known(KEY).state, Closed))


async def test_a_probe_that_takes_long_keeps_its_lease(
    nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the block runs its process renews, so nobody else probes."""
    for module in (actors.breakers.circuit, supervisor.circuit):
        monkeypatch.setattr(module, "LEASE_S", 0.4)
    async with users(nats_server, "ann", "bob") as (ann, bob):
        await opened(ann, bob)
        await due(ann)
        part_of(ann).want()
        await wait_until(lambda: isinstance(ann.known(KEY).state, HalfOpen))
        await wait_until(lambda: (part_of(ann).left_s or 0) < 0.15)
        async with block(ann):
            first = bob.known(KEY).revision
            await wait_until(lambda: bob.known(KEY).revision >= first + 4)
            with pytest.raises(CircuitOpen):
                async with block(bob):
                    raise AssertionError("entered")
        await wait_until(lambda: isinstance(bob.known(KEY).state, Closed))


@pytest.mark.parametrize(
    ("raised", "is_late", "counted"),
    [
        (None, False, "ok"),
        (OSError("broken"), False, "failed"),
        (asyncio.CancelledError(), False, None),
        (asyncio.CancelledError(), True, "failed"),
        (TerminalError("sold out"), False, None),
        (CircuitOpen("dep.other", "broken", 1.0), False, None),
    ],
)
async def test_what_a_block_says_of_its_dependency(
    nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, raised: BaseException | None, is_late: bool,
    counted: str | None,
) -> None:  # fmt: skip
    """A call that was cancelled says something only if the block took all the time that the call had."""
    outcomes: list[Outcome | None] = []

    def note(_: Circuit, __: Permit, outcome: Outcome | None) -> None:
        outcomes.append(outcome)

    monkeypatch.setattr(Circuit, "end", note)
    async with users(nats_server, "ann") as (ann,):
        with contextlib.suppress(BaseException), block(ann, is_late=lambda: is_late):
            if raised is not None:
                raise raised
    assert outcomes == [counted]


async def test_failures_are_counted_together(nats_server: EmbeddedServer) -> None:
    """Two failures here and one there make three: the circuit opens for both."""
    async with users(nats_server, "ann", "bob") as (ann, bob):
        for breakers in (ann, bob):
            await part_of(breakers).listen()
        await ann.bus.settle()
        await bob.bus.settle()
        for breakers in (ann, bob, ann):
            with contextlib.suppress(OSError):
                async with block(breakers):
                    raise OSError("broken")
        await wait_until(lambda: all(isinstance(b.known(KEY).state, Open) for b in (ann, bob)))
        state = bob.known(KEY).state
        assert isinstance(state, Open)
        assert (state.counts.calls, state.counts.failures) == (3, 3)


async def test_success_says_nothing_and_failure_little(nats_server: EmbeddedServer) -> None:
    """Hundreds of calls that succeed are no message; hundreds that fail are a few."""
    heard: list[str] = []

    def note(msg: Message) -> None:
        heard.append(msg.subject)

    async with users(nats_server, "ann", "spy") as (ann, spy):
        await spy.bus.subscribe("brk.>", note)
        await spy.bus.subscribe(f"$KV.{BUCKET}.>", note)
        await spy.bus.settle()
        circuit = ann.circuit("tool.quote.v1", Breaker(failure_share=1.0))
        for _ in range(500):
            circuit.count("ok")
        await ann.bus.settle()
        await spy.bus.settle()
        assert heard == []
        for _ in range(500):
            circuit.count("failed")
        await wait_until(lambda: len(heard) == 1)
        for _ in range(500):
            circuit.count("failed")
        await wait_until(lambda: len(heard) == 2)
        assert set(heard) == {"brk.tool.quote.v1"}


@pytest.mark.parametrize("skew", [timedelta(hours=-1), timedelta(), timedelta(hours=1), timedelta(days=4000)])
async def test_a_writer_whose_clock_is_wrong(nats_server: EmbeddedServer, skew: timedelta) -> None:
    """Who starts later has only the instants to go by; it waits no longer than the state's own length."""
    async with users(nats_server, "ann") as (ann,):
        now = datetime.now(UTC) + skew
        state = Open(since=now, until=now + timedelta(seconds=2), reason="broken", by="wrong")
        await Kv(ann.bus, BUCKET).put(KEY, encode_state(state))
        await wait_until(lambda: ann.known(KEY).state == state)
        assert 0 < (part_of(ann).left_s or 0) <= 2
        late = Breakers(ann.bus, Blobs(ann.bus), "late")
        await late.start()
        left_s = part_of(late).left_s
        assert left_s is not None
        assert left_s <= 2
        await late.stop()


async def test_nothing_is_raised_while_the_server_is_away(nats_server: EmbeddedServer) -> None:
    """The last known state holds: what is closed is entered, what is open is refused, and failures trip nothing."""
    async with users(nats_server, "ann") as (ann,):
        await force(ann.bus, "dep.other", ForcedOpen("test"))
        await wait_until(lambda: isinstance(ann.known("dep.other").state, Open))
        nats_server.kill()
        await wait_until(lambda: not ann.bus.is_online)
        for _ in range(5):
            with contextlib.suppress(OSError):
                async with block(ann):
                    raise OSError("broken")
        with pytest.raises(CircuitOpen):
            async with Dependency(ann, "other", POLICY):
                raise AssertionError("entered")
        refusal = ann.refusal("dep.other")
        assert refusal is not None
        assert (refusal.code, refusal.retryable, refusal.retry_after_s) == ("circuit_open", True, None)
        assert ann.refusal(KEY) is None
        await nats_server.restart()
        await ann.bus.settle()

        async def trips() -> bool:
            if isinstance(ann.known(KEY).state, Open):
                return True
            part_of(ann).count("failed")
            await asyncio.sleep(0.1)
            return False

        await wait_until(trips, 30)


async def test_a_context_without_an_actor_enters_every_block() -> None:
    """A tool that is called like a function, in a test, needs no bus; names are checked all the same."""
    context = ToolContext("w", "j", "c")
    with context.dependency(NAME):
        pass
    async with context.dependency(NAME, POLICY):
        pass
    with pytest.raises(UsageError, match=r"dependency 'billing.api' holds '\.'"):
        context.dependency("billing.api")
