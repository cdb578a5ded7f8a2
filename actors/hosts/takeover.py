"""What to do with a request for a job that the log knows already. Pure.

The un-acked request message is the lease on a running job (DESIGN.md, section 2). So when the very message that the
last owner held comes again, that owner is gone and the job is taken over; any other request for a job that runs is a
duplicate and is dropped; a wake-up counts only while the job is parked, or retried and nobody's.

A job can be left without any request: it was acked by mistake, or purged. Who finds such a job publishes the wake-up
``redrive.<sequence of its last job.owned>``, and it is resumed although it is not parked. Should its owner live after
all, or another have taken it meanwhile, the log says so: a claim on any other last owner is none.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from actors.jobs.journal import Journal
from actors.jobs.signals import CANCEL, TERMINATE
from bus.event import ForkedFrom
from bus.messages import JobSubmitted

# One crash may be anything; five in a row with nothing done in between are the job's own doing.
IN_VAIN_LIMIT = 5
# A job with a call out most likely just waits, and its hosts die of something else: of another job, or of kill -9. Not
# without limit, since a branch beside the call may be what kills.
IN_VAIN_LIMIT_WAITING = 25
REDRIVE = "redrive."


def redrive_wake(owned_at: int) -> str:
    """What to wake a job for that has no request left; ``owned_at`` is its last ``job.owned``, 0 if there is none."""
    return f"{REDRIVE}{owned_at}"


def redriven_owner(wake: str) -> int | None:
    """The ``job.owned`` that a wake-up found without a request; None for any other wake-up."""
    number = wake.removeprefix(REDRIVE) if wake.startswith(REDRIVE) else ""
    return int(number) if number.isascii() and number.isdigit() and len(number) < 20 else None


@dataclass(frozen=True)
class Start:
    """The log has no such job: create it."""


@dataclass(frozen=True)
class Resume:
    """Claim it after the ownership at ``last_owned`` and go on."""

    last_owned: int


@dataclass(frozen=True)
class Finish:
    """It has ended: make sure that the parent knows, and ack."""


@dataclass(frozen=True)
class Drop:
    """A duplicate, or a wake-up that came too late: ack."""


@dataclass(frozen=True)
class Withdraw:
    """It has not begun, and somebody has cancelled it: if it is planned, it ends here."""


@dataclass(frozen=True)
class Refuse:
    """The id is another job's."""

    message: str


@dataclass(frozen=True)
class Poisoned:
    """It has taken its host down again and again: claim it and let it fail."""

    last_owned: int
    times: int


Decision = Start | Resume | Finish | Drop | Withdraw | Refuse | Poisoned


def decide(
    journal: Journal, *, sequence: int, wake: bool, workflow: str, body: bytes, redriven: int | None = None,
    fork: ForkedFrom | None = None,
) -> Decision:  # fmt: skip
    """What a host does with the request message ``sequence`` in view of the folded log.

    ``redriven``: the ownership that was found without a request, see :func:`redriven_owner`.
    """
    submitted = journal.submitted
    if submitted is None:
        return _decide_unbegun(journal, wake=wake)
    mine = journal.owner is None or journal.owner.request == sequence
    if not wake and not mine and not _same(submitted, workflow, body, fork):
        return Refuse(f"job id is taken by another job of workflow {submitted.workflow!r} with other input")
    if journal.ended:
        return Finish()
    orphaned = redriven is not None and redriven == journal.owned_at
    if not mine and not orphaned and not (wake and journal.parked):
        return Drop()
    if journal.owned_in_vain >= (IN_VAIN_LIMIT_WAITING if journal.has_calls_out else IN_VAIN_LIMIT):
        return Poisoned(journal.owned_at, journal.owned_in_vain)
    return Resume(journal.owned_at)


def _decide_unbegun(journal: Journal, *, wake: bool) -> Decision:
    """A job that ended without having begun was planned, and cancelled; its schedule may have fired all the same."""
    if not wake:
        return Drop() if journal.ended else Start()
    is_over = journal.ended or journal.next_signal(CANCEL) or journal.next_signal(TERMINATE)
    return Withdraw() if is_over else Drop()


def _same(submitted: JobSubmitted, workflow: str, body: bytes, fork: ForkedFrom | None) -> bool:
    if submitted.workflow != workflow or submitted.forked_from != fork:
        return False
    try:
        return bool(msgspec.json.decode(body or b"{}") == msgspec.json.decode(submitted.input))
    except msgspec.DecodeError:
        return False
