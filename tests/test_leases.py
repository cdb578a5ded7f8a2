"""The lease book: what a killed process held is known to its successor, and to nobody too late."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from bus import leases as leases_module
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.leases import FRESH_S, LeaseBook
from bus.mailbox import Delivery, Mailbox, hand_back_inherited
from bus.options import ConnectOptions
from bus.streams import JOBS, ensure_consumer, ensure_streams
from tests.waiting import wait_until

SUBJECT = "jobs.default.leased"


def reply(n: int) -> str:
    return f"$JS.ACK.JOBS.box.1.{n}.{n}.1700000000000000000.0"


steps = st.lists(st.tuples(st.sampled_from(("hold", "release", "flush")), st.integers(0, 6)), max_size=60)


@settings(deadline=None, max_examples=60)
@given(steps, st.integers(60, 400))
def test_successor_knows_what_was_held(tmp_path_factory: object, steps: list[tuple[str, int]], limit: int) -> None:
    """After any work, compacted or not, the book of a killed process says what it held at its last turn of the loop."""

    async def work(path: Path) -> set[str]:
        book, held, flushed = LeaseBook(path), set[str](), set[str]()
        for step, n in steps:
            if step == "hold":
                book.hold(reply(n))
                held.add(reply(n))
            elif step == "release":
                book.release(reply(n))
                held.discard(reply(n))
            else:
                await asyncio.sleep(0)
                flushed = set(held)
        os.close(book._fd)  # as a kill does: nothing more is written
        book._fd = -1
        await asyncio.sleep(0)
        return flushed

    path = tmp_path_factory.mktemp("book") / "host.log"  # type: ignore[attr-defined]
    before, leases_module.COMPACT_BYTES = leases_module.COMPACT_BYTES, limit
    try:
        assert set(asyncio.run(work(path))) == set(leases_module._read(path))
    finally:
        leases_module.COMPACT_BYTES = before


async def test_a_second_crash_finds_them_too(tmp_path: Path) -> None:
    """A successor that dies before it has handed back anything leaves the same book."""
    path = tmp_path / "host.log"
    LeaseBook(path).hold(reply(1))
    await asyncio.sleep(0)
    assert LeaseBook(path).inherited == [reply(1)]
    third = LeaseBook(path)
    assert third.inherited == [reply(1)]
    third.release(reply(1))
    third.close()
    third.release(reply(2))
    await asyncio.sleep(0)
    assert LeaseBook(path).inherited == []


async def test_damaged_book_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    """Half a line, binary rubbish or foreign text hold nothing up."""
    path = tmp_path / "host.log"
    path.write_bytes(b"+" + reply(1).encode() + b"\n\xff\xfe+rubbish\n+_INBOX.x\n-" + reply(9).encode() + b"\n+$JS.AC")
    assert LeaseBook(path).inherited == [reply(1)]


async def test_old_book_hands_back_nothing(tmp_path: Path) -> None:
    """Once the leases must have run out others may hold the messages, and a nak would take them away."""
    path = tmp_path / "host.log"
    book = LeaseBook(path)
    book.hold(reply(1))
    book.close()
    old_s = time.time() - FRESH_S - 1
    os.utime(path, (old_s, old_s))
    assert LeaseBook(path).inherited == []


async def test_touch_keeps_a_quiet_book_fresh(tmp_path: Path) -> None:
    """A process that works on one message for long still has a book of use."""
    path = tmp_path / "host.log"
    book = LeaseBook(path)
    book.hold(reply(1))
    await asyncio.sleep(0)
    os.utime(path, (0, 0))
    book.touch()
    assert LeaseBook(path).inherited == [reply(1)]


async def _nobody_waits(bus: Bus) -> bool:
    return bool((await bus.api(f"CONSUMER.INFO.{JOBS}.leased"))["num_waiting"] == 0)


async def test_killed_process_hands_back_by_its_successor(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What a connection that is gone held is with the next worker long before the ack time-out."""
    options = ConnectOptions(servers=[nats_server.url])
    path = tmp_path / "host.log"

    async def mailbox(bus: Bus, book: LeaseBook, take: Callable[[Delivery], None]) -> Mailbox:
        made = Mailbox(
            bus, JOBS, "leased", take, capacity=100, leases=book,
            rebuild=lambda: ensure_consumer(bus, JOBS, "leased", [SUBJECT], ack_wait_s=60),
        )  # fmt: skip
        await made.start()
        return made

    first, second = list[Delivery](), list[Delivery]()
    async with await Bus.connect(options) as bus:
        await ensure_streams(bus)
        dead = await Bus.connect(options)
        dying = await mailbox(dead, LeaseBook(path), first.append)
        await asyncio.gather(*(bus.append(SUBJECT, b"%d" % n) for n in range(10)))
        await wait_until(lambda: len(first) == 10)
        await first[0].ack()
        await dying.keep_leases()
        await dead.close()
        book = LeaseBook(path)
        assert len(book.inherited) == 9
        # Else the server may give what is handed back to the connection whose end it has not seen yet.
        await wait_until(lambda: _nobody_waits(bus), what="the server knows that the connection is gone")
        assert await hand_back_inherited(bus, book) == 9
        heir = await mailbox(bus, book, second.append)
        await wait_until(lambda: len(second) == 9, 30, what="long before the lease of 60 s is over")
        assert {d.body for d in second} == {d.body for d in first[1:]}
        assert {d.attempt for d in second} == {2}
        await heir.stop_taking()
        if dying._loop_task:
            dying._loop_task.cancel()
