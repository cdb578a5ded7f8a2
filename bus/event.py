"""What every event of the log has in common: the job it belongs to, its instant, and its claim check if it is big."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

NULL = msgspec.Raw(b"null")


def utc_now() -> datetime:
    """The present instant, aware, in UTC."""
    return datetime.now(UTC)


class BlobRef(msgspec.Struct, frozen=True):
    """A claim check: the whole event lies in the object store under its sha256 (hex)."""

    sha256: str
    size_bytes: int


class Parent(msgspec.Struct, frozen=True, omit_defaults=True):
    """The call of another job that this job answers. ``depth``: how many jobs are above this one.

    ``budgets`` are the accounts that pay for what it does, the nearest first: keys of bucket ``budgets``.
    """

    workspace: str
    job: str
    call: str
    workflow: str
    depth: int = 1
    budgets: tuple[str, ...] = ()


class ForkedFrom(msgspec.Struct, frozen=True):
    """Where a fork leaves its source: what the log of ``job`` had recorded before ``sequence`` is the fork's too.

    ``step`` is the operation, or the step of a document, that stands there.
    """

    workspace: str
    job: str
    sequence: int
    step: str


class BaseEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type"):
    """One event; ``type`` in its JSON is its tag. A reader ignores fields that it does not know."""

    job: str
    at: datetime = msgspec.field(default_factory=utc_now)
    blob: BlobRef | None = None

    @property
    def kind(self) -> str:
        """The kind's tokens in the subject; the tag itself unless a name is part of it."""
        return str(self.__struct_config__.tag)
