"""A published version of a workflow, as its bucket holds it. Pure.

The document is kept with its keys in the author's order. Its sha256 is that of one canonical form, so that it says
whether two are the same, however they were written.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, date, datetime
from functools import cached_property

import msgspec

from actors.components.version import Version, parse_version
from actors.workflow.document import Document
from bus.errors import UsageError
from bus.subjects import check_name

_SORTED = msgspec.json.Encoder(order="sorted")
_read_document = msgspec.json.Decoder(Document).decode


class Deprecation(msgspec.Struct, frozen=True, omit_defaults=True):
    """A word to who uses this version. From the day ``on`` (UTC) new jobs are refused; without one they only warn."""

    message: str = ""
    on: date | None = None

    def is_over(self, now: datetime | None = None) -> bool:
        """Whether new jobs are refused."""
        return self.on is not None and (now or datetime.now(UTC)).astimezone(UTC).date() >= self.on

    def warning(self, name: str, version: str) -> str:
        """In a sentence."""
        until = f"; new jobs are refused from {self.on.isoformat()}" if self.on else ""
        return f"workflow {name} {version} is deprecated{until}{': ' if self.message else ''}{self.message}"


class Head(msgspec.Struct, frozen=True):
    """What is said of a document in a list."""

    name: str
    version: str
    description: str = ""
    category: str = ""
    labels: dict[str, str] = {}


class Definition(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, dict=True):
    """The value of a key: ``app`` is the one that it was shipped with, if any."""

    document: msgspec.Raw
    sha256: str
    published_at: datetime
    by: str = ""
    app: str = ""
    deprecated: Deprecation | None = None

    @cached_property
    def head(self) -> Head:
        """Name, version and words, without the steps."""
        return msgspec.json.decode(self.document, type=Head)

    @property
    def name(self) -> str:
        """The workflow's name."""
        return self.head.name

    @property
    def version(self) -> str:
        """Its version."""
        return self.head.version

    def read(self) -> Document:
        """The document. Raises: UsageError ``unreadable_definition`` if it has what this Callboard does not know."""
        try:
            return _read_document(self.document)
        except (msgspec.DecodeError, RecursionError) as error:
            raise UsageError(
                f"workflow {self.name} {self.version} cannot be read: {error}", code="unreadable_definition",
                hint="it was published by another version of Callboard",
            ) from error  # fmt: skip


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A definition in a list; ``newest``: new jobs take this one."""

    name: str
    version: str
    newest: bool
    description: str
    category: str
    labels: dict[str, str]
    published_at: datetime
    by: str
    app: str
    sha256: str
    deprecated: Deprecation | None


def listed(definition: Definition, *, newest: bool) -> Listed:
    """One line of a list."""
    head = definition.head
    return Listed(
        name=head.name, version=head.version, newest=newest, description=head.description, category=head.category,
        labels=head.labels, published_at=definition.published_at, by=definition.by, app=definition.app,
        sha256=definition.sha256, deprecated=definition.deprecated,
    )  # fmt: skip


def canonical(document: Document) -> bytes:
    """The one form of a document; ``$schema`` is for editors and does not count."""
    return _SORTED.encode(msgspec.structs.replace(document, schema=None))


def sha256_of(document: Document) -> str:
    """The digest of the canonical form, in hex."""
    return hashlib.sha256(canonical(document)).hexdigest()


def define(document: Document, *, by: str = "", app: str = "") -> Definition:
    """What is published of a document, now."""
    raw = msgspec.json.encode(msgspec.structs.replace(document, schema=None))
    return Definition(
        document=msgspec.Raw(raw), sha256=sha256_of(document), published_at=datetime.now(UTC), by=by, app=app
    )


def key_of(name: str, version: str) -> str:
    """The key of one version; ``+`` of build metadata is no character of a key, and ``=`` is none of a version."""
    return f"{name}.{version.replace('+', '=')}"


def parse_key(key: str) -> tuple[str, Version] | None:
    """Name and version of a key; None if it is none of ours."""
    name, _, version = key.partition(".")
    try:
        return check_name(name, "name"), parse_version(version.replace("=", "+"), "version")
    except UsageError:
        return None


def parse_reference(text: str) -> tuple[str, str]:
    """(name, version or "") of ``order`` or ``order@1.2.0``. Raises: UsageError."""
    name, _, version = text.partition("@")
    check_name(name, "name of the workflow")
    if "@" in text:
        parse_version(version, f"version in {text}")
    return name, version


def parse_day(text: str) -> date:
    """A day such as 2027-01-31. Raises: UsageError."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is no day", code="bad_date", path="on", hint="such as 2027-01-31") from error
