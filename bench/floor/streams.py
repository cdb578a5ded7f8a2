"""The two streams and two consumers of DESIGN.md, as the floor needs them."""

from __future__ import annotations

from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, RePublish, RetentionPolicy, StorageType, StreamConfig

from bench.floor import contract

REQUESTS = ("JOBS", "order-normal")
CALLS = ("EVENTS", "tool-quote-v1")
ACK_WAIT_S = 30.0
MAX_ACK_PENDING = 4_000


async def create(js: JetStreamContext) -> None:
    """Create streams and consumers on a fresh server."""
    await js.add_stream(
        StreamConfig(name="JOBS", subjects=["jobs.>"], retention=RetentionPolicy.WORK_QUEUE, storage=StorageType.FILE)
    )
    await js.add_stream(
        StreamConfig(
            name="EVENTS",
            subjects=["log.>"],
            retention=RetentionPolicy.LIMITS,
            storage=StorageType.FILE,
            allow_direct=True,
            republish=RePublish(src="log.>", dest="events.>"),
        )
    )
    await js.add_consumer(REQUESTS[0], _durable(REQUESTS[1], contract.REQUEST))
    await js.add_consumer(CALLS[0], _durable(CALLS[1], f"log.*.*.{contract.CALL_KIND}"))


def _durable(name: str, subject: str) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=name,
        filter_subject=subject,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=ACK_WAIT_S,
        max_ack_pending=MAX_ACK_PENDING,
    )
