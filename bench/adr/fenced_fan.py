"""ADR 011: what a replicated log does with parallel appends under one fence.

python -m bench.adr.fenced_fan nats://127.0.0.1:4222,nats://127.0.0.1:4322,nats://127.0.0.1:4422 --replicas 3

The servers must hold no streams of ours yet, or have them with as many replicas.
"""

from __future__ import annotations

import argparse
import asyncio
import time

from bus import jobid
from bus.connection import Bus
from bus.errors import Contended
from bus.messages import CallTool, JobOwned, JobSubmitted
from bus.objects import Blobs
from bus.options import resolve_options
from bus.streams import Limits, ensure_streams
from store.log import JobLog


async def _fan(bus: Bus, width: int) -> tuple[int, float]:
    """How many of ``width`` parallel appends the server refuses at first, and seconds until all are stored."""
    log = JobLog(bus, Blobs(bus), "default", job := jobid.new())
    await log.create(JobSubmitted(job=job, workflow="w", version="1.0.0"), JobOwned(job=job, host="h"))
    calls = [CallTool(job=job, call=f"x:{n}", name="x", version=1) for n in range(2 * width)]
    raw = [await log._prepare(call, _fence(log)) for call in calls[width:]]
    answers = [await append.begin() for append in raw]
    tries = await asyncio.gather(
        *(append.finish(answer, tries=0) for append, answer in zip(raw, answers, strict=True)), return_exceptions=True
    )
    begun = time.perf_counter()
    await asyncio.gather(*(log.append(call) for call in calls[:width]))
    return sum(isinstance(tried, Contended) for tried in tries), time.perf_counter() - begun


def _fence(log: JobLog) -> dict[str, str]:
    from bus import headers as h

    return {h.EXPECTED_SEQUENCE: str(log.epoch), h.EXPECTED_SUBJECT: log._owned}


async def _main(options: argparse.Namespace) -> None:
    async with await Bus.connect(resolve_options(options.url)) as bus:
        await ensure_streams(bus, Limits(replicas=options.replicas))
        fans = [await _fan(bus, options.width) for _ in range(options.rounds)]
    refused = sum(refused for refused, _ in fans) / len(fans)
    took_ms = sorted(took_s for _, took_s in fans)[len(fans) // 2] * 1000
    print(f"{refused:.1f} of {options.width} refused at first; all stored after {took_ms:.1f} ms (median)")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.adr.fenced_fan", description=__doc__)
    parser.add_argument("url", help="the servers, separated by commas")
    parser.add_argument("--replicas", type=int, default=3)
    parser.add_argument("--width", type=int, default=20, help="parallel appends")
    parser.add_argument("--rounds", type=int, default=50)
    asyncio.run(_main(parser.parse_args()))
