"""How a job ended, as its caller sees it: an output, or one of three exceptions."""

from __future__ import annotations

from bus.errors import Bug, PeerError
from bus.failure import Failure
from bus.messages import Event, JobCancelled, JobCompleted, JobFailed, JobRejected


class JobEndedError(PeerError):
    """A job ended without a result; ``job`` is its id and ``failure`` says why."""

    def __init__(self, job: str, failure: Failure) -> None:
        super().__init__(failure)
        self.job = job

    def __str__(self) -> str:
        text = f"job {self.job} {_VERBS[type(self)]}: {super().__str__()}"
        return f"{text} ({self.failure.hint})" if self.failure.hint else text


class JobFailedError(JobEndedError):
    """The job raised, or could not go on; ``failure.traceback`` is the remote one."""


class JobCancelledError(JobEndedError):
    """Somebody cancelled the job: ``by`` and ``reason`` as far as they were given."""

    def __init__(self, job: str, *, by: str = "", reason: str = "") -> None:
        super().__init__(job, Failure(code="cancelled", message=reason or "no reason was given", retryable=False))
        self.by = by
        self.reason = reason

    def __str__(self) -> str:
        who = f" by {self.by}" if self.by else ""
        return f"job {self.job} was cancelled{who}: {self.failure.message}"


class JobRejectedError(JobEndedError):
    """The request was refused, and the job never ran."""


_VERBS: dict[type[JobEndedError], str] = {
    JobEndedError: "ended",
    JobFailedError: "failed",
    JobCancelledError: "was cancelled",
    JobRejectedError: "was rejected",
}


def output_of(event: Event) -> bytes:
    """The JSON output in the event that ended a job.

    Raises: JobFailedError, JobCancelledError, JobRejectedError.
    """
    match event:
        case JobCompleted():
            return bytes(event.output)
        case JobFailed():
            raise JobFailedError(event.job, event.failure)
        case JobCancelled():
            raise JobCancelledError(event.job, by=event.by, reason=event.reason)
        case JobRejected():
            raise JobRejectedError(event.job, event.failure)
        case _:
            raise Bug(f"{event.kind} of job {event.job} does not end a job")
