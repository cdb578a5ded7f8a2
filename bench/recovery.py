"""Seconds from a kill -9 to the first event that somebody writes afterwards.

    python -m bench.recovery PID --subject 'events.*.*.job.owned'          # a host died: who takes its jobs, and when
    python -m bench.recovery PID --subject 'events.*.*.reply.completed'    # a tool died: when is a call served again

Choose a subject that only the killed process or its successor writes to.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
from datetime import UTC, datetime

import msgspec
import nats
from nats.aio.msg import Msg

LIMIT_S = 60.0


class Stamp(msgspec.Struct):
    """What every event carries."""

    at: datetime


_decode = msgspec.json.Decoder(Stamp).decode


async def first_event_after_kill(url: str, subject: str, pid: int, limit_s: float = LIMIT_S) -> float:
    """Kill ``pid``, listen on ``subject``; events that were made before the kill and came late do not count.

    Counts to the arrival of the event here. Writer and measurer have to share a clock, that is a machine.
    Raises: TimeoutError after ``limit_s`` seconds.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Future[float] = loop.create_future()
    killed_at: datetime | None = None

    async def heard(msg: Msg) -> None:
        if killed_at is not None and _decode(msg.data).at > killed_at and not arrived.done():
            arrived.set_result(loop.time())

    async with await nats.connect(url) as nc:
        await nc.subscribe(subject, cb=heard)
        await nc.flush()
        os.kill(pid, signal.SIGKILL)
        killed_at, begin = datetime.now(UTC), loop.time()
        return await asyncio.wait_for(arrived, limit_s) - begin


async def _main(options: argparse.Namespace) -> None:
    took_s = await first_event_after_kill(options.url, options.subject, options.pid, options.limit)
    print(f"{took_s:.3f} s from kill -9 of {options.pid} to the first event on {options.subject}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.recovery", description=__doc__)
    parser.add_argument("pid", type=int, help="the process to kill; it has to be yours")
    parser.add_argument("--url", default="nats://127.0.0.1:4222")
    parser.add_argument("--subject", default="events.*.*.job.owned")
    parser.add_argument("--limit", type=float, default=LIMIT_S, help="seconds")
    asyncio.run(_main(parser.parse_args()))
