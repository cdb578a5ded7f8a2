"""The floor's subjects and bodies: those of DESIGN.md, for one workflow and one tool.

    jobs.default.order                         a request; header ``Job-Id``
    log.default.<job>.job.submitted            expected sequence 0: a job starts once
    log.default.<job>.job.owned                expected sequence 0; the sequence it gets is the epoch
    log.default.<job>.call.tool.quote.v1       fenced by the epoch
    log.default.<job>.reply.completed          by the tool
    log.default.<job>.job.completed            fenced by the epoch
    events.default.<job>.…                     the same, republished by the server once stored

Bodies are JSON by msgspec; ``type``, ``job`` and ``at`` always.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

REQUEST = "jobs.default.order"
JOB_ID_HEADER = "Job-Id"
CALL_KIND = "call.tool.quote.v1"
REPLIES = "events.*.*.reply.*"
ENDS = "events.*.*.job.completed"

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
MUST_BE_FIRST = {EXPECTED: "0"}


class Order(msgspec.Struct, frozen=True):
    """Input of the job: ``steps`` quotes in a row, for ``qty``, ``qty + 1``, … pieces of ``sku``."""

    sku: str
    qty: int
    steps: int = 1


class Piece(msgspec.Struct, frozen=True):
    """Input of the tool."""

    sku: str
    qty: int


class Quote(msgspec.Struct, frozen=True):
    """Output of the tool, and of the job as the sum over its steps."""

    sku: str
    total: int


class Submitted(msgspec.Struct, frozen=True, tag="job.submitted"):
    job: str
    at: datetime
    workflow: str
    input: Order


class Owned(msgspec.Struct, frozen=True, tag="job.owned"):
    job: str
    at: datetime
    host: str


class Called(msgspec.Struct, frozen=True, tag=CALL_KIND):
    job: str
    at: datetime
    call: str
    attempt: int
    input: Piece


class Replied(msgspec.Struct, frozen=True, tag="reply.completed"):
    job: str
    at: datetime
    call: str
    attempt: int
    output: Quote


class Completed(msgspec.Struct, frozen=True, tag="job.completed"):
    job: str
    at: datetime
    output: Quote


encode = msgspec.json.Encoder().encode
decode_order = msgspec.json.Decoder(Order).decode
decode_called = msgspec.json.Decoder(Called).decode
decode_replied = msgspec.json.Decoder(Replied).decode
decode_completed = msgspec.json.Decoder(Completed).decode


def now() -> datetime:
    """The instant that an event carries as ``at``."""
    return datetime.now(UTC)


def log_of(job: str) -> str:
    """The prefix of everything that is written for one job."""
    return f"log.default.{job}"


def fenced_by(log: str, epoch: int) -> dict[str, str]:
    """Headers that have the server refuse an append once another host owns the job."""
    return {EXPECTED: str(epoch), EXPECTED_SUBJECT: f"{log}.job.owned"}


def price(sku: str, qty: int) -> Quote:
    """What the tool answers; the submitter computes it too, to know that every job ended right."""
    return Quote(sku, 7 * qty)


def expected_total(qty: int, steps: int) -> int:
    """The total that a right run of the job ends with."""
    return sum(price("", qty + step).total for step in range(steps))
