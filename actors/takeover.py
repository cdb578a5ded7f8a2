"""What to do with a request for a job that the log knows already. Pure.

The un-acked request message is the lease on a running job (DESIGN.md, section 2). So when the very message that the
last owner held comes again, that owner is gone and the job is taken over; any other request for a job that runs is a
duplicate and is dropped; a wake-up counts only while the job is parked.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from actors.journal import Journal
from bus.messages import JobSubmitted

# One crash may be anything; five in a row with nothing done in between are the job's own doing.
IN_VAIN_LIMIT = 5


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
class Refuse:
    """The id is another job's."""

    message: str


@dataclass(frozen=True)
class Poisoned:
    """It has taken its host down again and again: claim it and let it fail."""

    last_owned: int
    times: int


Decision = Start | Resume | Finish | Drop | Refuse | Poisoned


def decide(journal: Journal, *, sequence: int, wake: bool, workflow: str, body: bytes) -> Decision:
    """What a host does with the request message ``sequence`` in view of the folded log."""
    submitted = journal.submitted
    if submitted is None:
        return Drop() if wake else Start()
    mine = journal.owner is None or journal.owner.request == sequence
    if not wake and not mine and not _same(submitted, workflow, body):
        return Refuse(f"job id is taken by another job of workflow {submitted.workflow!r} with other input")
    if journal.ended:
        return Finish()
    if not mine and not (wake and journal.parked):
        return Drop()
    if journal.owned_in_vain >= IN_VAIN_LIMIT:
        return Poisoned(journal.owned_at, journal.owned_in_vain)
    return Resume(journal.owned_at)


def _same(submitted: JobSubmitted, workflow: str, body: bytes) -> bool:
    if submitted.workflow != workflow:
        return False
    try:
        return bool(msgspec.json.decode(body or b"{}") == msgspec.json.decode(submitted.input))
    except msgspec.DecodeError:
        return False
