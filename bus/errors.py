"""Errors by owner: who has to act decides the class, and attributes hold the facts.

- :class:`UsageError`: the caller asked for something that cannot be; a retry changes nothing.
- :class:`BusError`: the transport or the server; most pass by themselves.
- :class:`PeerError`: another actor answered with a failure (see ``bus.failure``).
- :class:`Bug`: we broke a promise of our own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bus.failure import Failure


class CallboardError(Exception):
    """Base of every error that this package raises on purpose."""


class HintedError(CallboardError):
    """An error that knows what to do about it: ``hint`` is a next step for people, empty if there is none."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} ({self.hint})" if self.hint else text


class UsageError(HintedError):
    """Wrong use: says what, where (``path``) and what would be right (``hint``)."""

    def __init__(self, message: str, *, code: str = "bad_usage", path: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.code = code
        self.path = path


class BusError(CallboardError):
    """The bus or its server could not do what was asked of it."""


class BusUnreachable(HintedError, BusError):
    """No connection: wrong address, server away, or refused credentials."""


class BusRefused(BusUnreachable):
    """Something answers at the address and does not let us in: refused credentials, or it is no NATS server."""


class OutboxError(HintedError):
    """The outbox on this machine's disk cannot do what was asked; ``hint`` says what would be right."""


class OutboxFull(OutboxError):
    """No room for one more message: at the outbox's own limit, or on the disk."""


class BusClosed(BusUnreachable):
    """The client gave up for good; the process has to end and be started anew."""


class ServerUnsuitable(HintedError, BusError):
    """The server is reachable but too old, without JetStream, or set up in a way that cannot work."""


class StreamConflict(ServerUnsuitable):
    """An existing stream or consumer differs from ours in a way that we will not change silently."""

    def __init__(self, stream: str, differences: list[str]) -> None:
        super().__init__(
            f"stream {stream} exists with another configuration: {'; '.join(differences)}",
            hint="use another NATS account, or move the old stream away",
        )
        self.stream = stream
        self.differences = differences


class PermissionRefused(BusError):
    """The server refuses this user a subject."""

    def __init__(self, message: str, *, subject: str = "") -> None:
        super().__init__(message)
        self.subject = subject


class Fenced(BusError):
    """An append was refused since another host owns the job, or the expected sequence has moved on."""

    def __init__(self, subject: str, *, expected: int) -> None:
        super().__init__(f"{subject}: expected sequence {expected} is no longer the last one")
        self.subject = subject
        self.expected = expected


class Contended(Fenced):
    """On a replicated stream another write under the same condition is under way: refused before anybody has won.

    Nothing is stored. Asked again once the other is stored, the answer is a sequence, or that the condition does not
    hold.
    """


class StreamFull(BusError):
    """The stream or the account is at its limit: backpressure, not an outage."""

    def __init__(self, subject: str, description: str) -> None:
        super().__init__(f"{subject}: {description}")
        self.subject = subject
        self.description = description


class NoResponder(BusError):
    """Nobody answers at this subject: no such stream or service, or it has no leader at the moment."""

    def __init__(self, subject: str) -> None:
        super().__init__(f"nobody answers at {subject}")
        self.subject = subject


class ApiError(BusError):
    """The JetStream API refused a request; ``err_code`` is the server's."""

    def __init__(self, subject: str, code: int, err_code: int, description: str) -> None:
        super().__init__(f"{subject}: {description} (error {err_code})")
        self.code = code
        self.err_code = err_code
        self.description = description


class Ambiguous(BusError):
    """No answer came in time: the append may or may not have happened; read back to know."""


class TooLarge(UsageError):
    """A body over a limit, in bytes."""

    def __init__(self, what: str, *, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{what} has {size_bytes:,} bytes, the limit is {limit_bytes:,}",
            code="too_large",
            hint="put the data in an artifact and pass its name",
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class Unreadable(CallboardError):
    """A message that is no event or request of ours: what it was, where it stands, and why it cannot be read."""

    def __init__(self, subject: str, sequence: int, reason: str) -> None:
        super().__init__(f"{subject} (seq {sequence}): {reason}")
        self.subject = subject
        self.sequence = sequence
        self.reason = reason


class PeerError(CallboardError):
    """A tool, agent or job answered with a failure; ``failure`` holds it as it crossed the wire."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.code}: {failure.message}")
        self.failure = failure


class Bug(CallboardError):
    """A promise of our own is broken; the message says which."""
