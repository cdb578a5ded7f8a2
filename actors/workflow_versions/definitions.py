"""Published workflows: KV bucket ``workflows``, held in memory, written on condition.

A key is ``<name>.<version>``, and what it holds never becomes another document: a job finds the version that it began
with until its end. Only the word that it is deprecated comes and goes. Documents are read when somebody asks for them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime

import msgspec

from actors.components.component import ComponentInfo
from actors.components.registry import BUCKET as REGISTRY_BUCKET
from actors.components.version import Version, parse_version
from actors.workflow.document import Document
from actors.workflow.finding import Fault, did_you_mean
from actors.workflow_versions.definition import (
    Definition,
    Deprecation,
    Listed,
    define,
    key_of,
    listed,
    parse_key,
    parse_reference,
)
from actors.workflow_versions.publishing import Published, judge
from bus.connection import Bus, NoResponder
from bus.errors import Ambiguous, Fenced, UsageError
from bus.kv import Entry, Kv, KvCache
from bus.reader import last_of_each
from bus.streams import REGISTRY

log = logging.getLogger("callboard.definitions")

BUCKET = "workflows"
_decode = msgspec.json.Decoder(Definition).decode

OnPublished = Callable[[str, str], None]


class Definitions:
    """All published workflows. :meth:`start` loads them, and from then on lookups are local."""

    def __init__(self, bus: Bus) -> None:
        # Each gets name and version of a definition that is new or has changed.
        self.on_change: list[OnPublished] = []
        self._bus = bus
        self._kv = Kv(bus, BUCKET)
        self._cache = KvCache(self._kv)
        self._cache.on_change.append(self._on_change)
        # Versions of each workflow, the newest first, with their keys.
        self._versions: dict[str, list[tuple[Version, str]]] = {}
        self._decoded: dict[str, Definition] = {}

    async def start(self) -> None:
        """Load all definitions and keep them live. Raises: BusError."""
        await self._cache.start()

    async def stop(self) -> None:
        """Stop following changes."""
        await self._cache.stop()

    @property
    def is_live(self) -> bool:
        """It was started, and not stopped."""
        return self._cache.is_live

    async def refresh(self) -> None:
        """Read what was published up to now; lookups otherwise trail by some milliseconds. Raises: BusError."""
        await self._cache.refresh()

    # ---- lookup

    def __contains__(self, name: str) -> bool:
        return name in self._versions

    def names(self) -> list[str]:
        """The names of all workflows, sorted."""
        return sorted(self._versions)

    def get(self, name: str, version: str) -> Definition | None:
        """Exactly that version."""
        return self._at(key_of(name, version))

    def newest(self, name: str, major: int | None = None, *, now: datetime | None = None) -> Definition | None:
        """The version that new jobs take, within ``major`` if given; None if there is none.

        The newest that is not deprecated; else the newest whose day has not come; else the newest, which is refused.
        """
        found = self._of(name, major)
        fresh = (definition for definition in found if definition.deprecated is None)
        usable = (d for d in found if d.deprecated is not None and not d.deprecated.is_over(now))
        return next(fresh, None) or next(usable, None) or next(iter(found), None)

    def versions(self, name: str) -> list[Definition]:
        """All versions of a workflow, the newest first."""
        return self._of(name)

    def choose(self, name: str, wanted: str = "", *, now: datetime | None = None) -> Definition:
        """The version that a new job takes; ``wanted`` is a major or a whole version, if one was asked for.

        Raises: UsageError ``unknown_version``, or ``deprecated_version`` from the day on.
        """
        if wanted and not _is_number(wanted):
            parse_version(wanted, "version")
            found = self.get(name, wanted)
        else:
            found = self.newest(name, int(wanted) if wanted else None, now=now)
        if found is None:
            message = f"workflow {name} has no version {wanted}"
            hint = f"there is {', '.join(each.version for each in self._of(name)) or 'none'}"
            raise UsageError(message, code="unknown_version", path="version", hint=hint)
        if found.deprecated is not None and found.deprecated.is_over(now):
            raise UsageError(
                found.deprecated.warning(name, found.version), code="deprecated_version", path="version",
                hint="jobs that run on it go on",
            )  # fmt: skip
        return found

    def named(self, reference: str) -> Definition:
        """What ``order`` (the newest) or ``order@1.2.0`` names. Raises: UsageError with what is near."""
        name, version = parse_reference(reference)
        found = self.get(name, version) if version else self.newest(name)
        if found is not None:
            return found
        versions = ", ".join(definition.version for definition in self._of(name))
        hint = f"there is {versions}" if versions else did_you_mean(name, self._versions, "publish it first")
        raise UsageError(f"no workflow {reference} is published", code="unknown_workflow", path="name", hint=hint)

    def base(self, name: str, version: str) -> Document | Fault:
        """That version, for documents that extend it; or a fault, with an empty path, that says why it is not there."""
        try:
            return self.named(f"{name}@{version}").read()
        except UsageError as error:
            return Fault("unknown_base", (), str(error.args[0]), error.hint)

    def all(self) -> list[Definition]:
        """Every workflow in every version, by name, the newest version first."""
        return [definition for name in self.names() for definition in self._of(name)]

    def search(self, text: str = "", *, category: str = "", labels: Mapping[str, str] | None = None) -> list[Listed]:
        """Those of whose name, description, category and labels each word of ``text`` is a part, in all versions."""
        words = text.casefold().split()
        return [
            listed(definition, newest=definition is self.newest(definition.name))
            for definition in self.all()
            if _matches(definition, words, category, labels or {})
        ]

    def _of(self, name: str, major: int | None = None) -> list[Definition]:
        keys = [key for version, key in self._versions.get(name, ()) if major in (None, version.major)]
        return [definition for key in keys if (definition := self._at(key))]

    def _at(self, key: str) -> Definition | None:
        if (known := self._decoded.get(key)) is not None:
            return known
        entry = self._cache.get(key)
        definition = None if entry is None else _read(entry)
        if definition is not None:
            self._decoded[key] = definition
        return definition

    # ---- following the bucket

    def _on_change(self, key: str, entry: Entry | None) -> None:
        parsed = parse_key(key)
        if parsed is None:
            log.warning("the bucket holds the key %r, which names no workflow", key)
            return
        name, version = parsed
        self._decoded.pop(key, None)
        versions = [each for each in self._versions.get(name, []) if each[1] != key]
        if entry is not None:
            versions.append((version, key))
        self._versions[name] = sorted(versions, reverse=True)
        if not versions:
            del self._versions[name]
        for hook in self.on_change:
            hook(name, key.partition(".")[2].replace("=", "+"))

    # ---- publishing

    def check(self, document: Document, *, force: bool = False, beside: Iterable[Document] = ()) -> Published:
        """What :meth:`publish` would do, as far as it is known here; ``beside`` are published in the same go.

        Raises: UsageError ``bad_name``, ``bad_version``, ``too_large``, ``missing_param``, ``version_taken``,
        ``breaking_change``.
        """
        return judge(document, self._of(document.name), beside, force=force, limit_bytes=self._bus.max_body_bytes)

    async def publish(self, document: Document, *, by: str = "", app: str = "", force: bool = False) -> Published:
        """Make a version known to all nodes; the same again is nothing new.

        ``force``: although it breaks who uses the version before it, or a job of an app has its name.
        Raises: UsageError as :meth:`check`, and ``name_taken``; BusError.
        """
        await self.refresh()
        while True:
            done = self.check(document, force=force)
            if done.existing:
                return done
            await self._check_name(document, force=force)
            if await self._create(document, by, app):
                return done
            await self.refresh()  # somebody was faster: look again

    async def _create(self, document: Document, by: str, app: str) -> bool:
        key, definition = key_of(document.name, document.version), define(document, by=by, app=app)
        entry = await self._kv.get(key)
        if entry is not None and not entry.deleted:
            await self._cache.refresh(entry.revision)
            return False
        return await self._write(key, definition, entry.revision if entry else 0)

    async def _write(self, key: str, definition: Definition, revision: int) -> bool:
        """Write if ``revision`` is still the newest one, and have it in memory; false if it may not be."""
        try:
            written = await self._kv.compare_and_set(key, msgspec.json.encode(definition), revision)
        except Fenced:
            return False
        except (Ambiguous, NoResponder) as error:
            log.warning("publishing %s: %s; looking again", key, error)
            await self._bus.settle()
            return False
        await self._cache.refresh(written)
        return True

    async def deprecate(self, name: str, version: str, message: str = "", on: date | None = None) -> Definition:
        """Say that a version shall not be used; new jobs are refused from the day ``on``. Raises: UsageError."""
        return await self._mark(name, version, Deprecation(message, on))

    async def undeprecate(self, name: str, version: str) -> Definition:
        """Take the word back. Raises: UsageError."""
        return await self._mark(name, version, None)

    async def _mark(self, name: str, version: str, deprecation: Deprecation | None) -> Definition:
        await self.refresh()
        while True:
            definition = self.named(f"{name}@{version}")
            entry = self._cache.get(key_of(name, version))
            if definition.deprecated == deprecation or entry is None:
                return definition
            await self._write(entry.key, msgspec.structs.replace(definition, deprecated=deprecation), entry.revision)
            await self.refresh()

    async def _check_name(self, document: Document, *, force: bool) -> None:
        """A job written in Python and a workflow of the same name would share requests. Raises: UsageError."""
        if force:
            return
        subject = f"$KV.{REGISTRY_BUCKET}.job.{document.name}.>"
        for stored in await last_of_each(self._bus, REGISTRY, [subject]):
            info = _component(stored.body)
            if info is not None and info.app and self.get(info.name, info.version) is None:
                raise UsageError(
                    f"app {info.app} has a job {info.name} {info.version} that is no document", code="name_taken",
                    path="$.name", hint="give the workflow another name, or publish it by force if that job is gone",
                )  # fmt: skip


# ---- pure


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _matches(definition: Definition, words: list[str], category: str, labels: Mapping[str, str]) -> bool:
    head = definition.head
    if (category and head.category != category) or any(head.labels.get(k) != v for k, v in labels.items()):
        return False
    pieces = [head.name, head.description, head.category, *(f"{k}={v}" for k, v in head.labels.items())]
    text = "\n".join(pieces).casefold()
    return all(word in text for word in words)


def _read(entry: Entry) -> Definition | None:
    try:
        definition = _decode(entry.value)
        _ = definition.head
    except msgspec.DecodeError as error:
        log.warning("the definition %s cannot be read: %s", entry.key, error)
        return None
    return definition


def _component(raw: bytes) -> ComponentInfo | None:
    try:
        return msgspec.json.decode(raw, type=ComponentInfo)
    except msgspec.DecodeError:  # a deletion, or what a newer node has written
        return None
