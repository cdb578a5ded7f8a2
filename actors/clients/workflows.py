"""Published workflows for a client: publish, look up, deprecate.

    done = await client.workflows.publish("order.yaml", params={"limit": 50})
    for each in await client.workflows.list(category="shop"): ...

What is published is for all workspaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from actors.components.component import ComponentInfo
from actors.components.registry import Registry
from actors.workflow_versions.definition import Definition, Listed
from actors.workflow_versions.definitions import Definitions
from actors.workflow_versions.publishing import Published
from bus.connection import Bus
from bus.errors import UsageError
from bus.streams import REGISTRY, WORKFLOWS, ensure_streams, stream_info

if TYPE_CHECKING:
    from actors.workflow.document import Document
    from actors.workflow.extension import Bases
    from actors.workflow.source import Source
    from actors.workflow_versions.batch import Batch

Read = Callable[[str], bytes]


class Workflows:
    """What is published, loaded when it is first asked for and followed from then on."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._definitions: Definitions | None = None

    async def close(self) -> None:
        """Follow it no more."""
        if self._definitions is not None:
            await self._definitions.stop()
            self._definitions = None

    async def publish(
        self,
        document: Document | Mapping[str, Any] | str | Path,
        *,
        params: Mapping[str, Any] | None = None,
        by: str = "",
        force: bool = False,
    ) -> Published:
        """Check a document (or the file at a path) against the live registry, and make it known to all nodes.

        ``params`` become the defaults of its parameters. The same again is nothing new. ``force``: although it breaks
        who uses the version before it. Raises: UsageError (``bad_workflow`` with all findings, or the code of the one;
        ``version_taken``, ``breaking_change``, ``name_taken``), PermissionRefused, BusError.
        """
        read = (lambda file: Path(file).read_bytes()) if isinstance(document, str | Path) else None
        batch = await self.prepare([_source_of(document)], params or {}, force=force, read=read)
        batch.raise_findings()
        return (await self.publish_batch(batch, by=by, force=force))[0]

    async def list(
        self, text: str = "", *, category: str = "", labels: Mapping[str, str] | None = None
    ) -> Sequence[Listed]:
        """All versions of those in which each word of ``text`` is found, by name, the newest version first."""
        return (await self.definitions()).search(text, category=category, labels=labels)

    async def get(self, name: str, version: str = "") -> Definition:
        """That version, or the one that new jobs take. Its document is ``.read()``. Raises: UsageError."""
        return (await self.definitions()).named(f"{name}@{version}" if version else name)

    async def deprecate(self, name: str, version: str, message: str = "", on: date | None = None) -> Definition:
        """Say that a version shall not be used; new jobs are refused from the day ``on`` (UTC). Raises: UsageError."""
        return await (await self.definitions()).deprecate(name, version, message, on)

    async def undeprecate(self, name: str, version: str) -> Definition:
        """Take the word back. Raises: UsageError."""
        return await (await self.definitions()).undeprecate(name, version)

    # ---- in parts, for who shows what goes on

    async def definitions(self) -> Definitions:
        """What is published up to now; empty where nothing ever was. Raises: BusError."""
        if self._definitions is None:
            found = Definitions(self._bus)
            if await stream_info(self._bus, WORKFLOWS) is None:
                return found
            await found.start()
            self._definitions = found
        else:
            await self._definitions.refresh()
        return self._definitions

    async def prepare(
        self, sources: Sequence[Source], params: Mapping[str, Any], *, force: bool, read: Read | None = None
    ) -> Batch:
        """Check documents that are to be published in one go; ``read`` gives the content of files that they extend.

        Raises: UsageError ``unknown_param``, BusError.
        """
        from actors.workflow_versions.batch import read_batch

        if await stream_info(self._bus, WORKFLOWS) is None:  # the first node makes it; here there was none yet
            await ensure_streams(self._bus)
        definitions = await self.definitions()
        return read_batch(
            sources, await self.components(), params,
            lambda document, beside: definitions.check(document, force=force, beside=beside), await self.bases(read),
        )  # fmt: skip

    async def components(self) -> Sequence[ComponentInfo]:
        """What documents may run: the registry, and what is published. Raises: BusError."""
        from actors.workflow_versions.batch import described

        definitions, registry = await self.definitions(), Registry(self._bus)
        if await stream_info(self._bus, REGISTRY) is not None:
            await registry.start()
            await registry.stop()
        published = [described(document) for each in definitions.all() if (document := _readable(each))]
        return [*registry.all(), *published]

    async def bases(self, read: Read | None) -> Bases:
        """Where documents are that others extend: in files, and published. Raises: BusError."""
        from actors.workflow.extension import Bases

        return Bases(read, (await self.definitions()).base)

    async def publish_batch(self, batch: Batch, *, by: str = "", force: bool = False) -> Sequence[Published]:
        """Publish what was checked, older versions first. Raises: UsageError if somebody was faster, BusError."""
        return [await self.publish_checked(document, by=by, force=force) for _, document in batch.ready]

    async def publish_checked(self, document: Document, *, by: str = "", force: bool = False) -> Published:
        """Publish a document that was checked, and register it as a component. Raises: UsageError, BusError."""
        from actors.interpreter.component import workflow_component

        definitions = await self.definitions()
        done = await definitions.publish(document, by=by, force=force)
        if (found := definitions.get(done.name, done.version)) is not None:
            await Registry(self._bus).register(workflow_component(found.read(), app=found.app).info())
        return done


def _readable(definition: Definition) -> Document | None:
    try:
        return definition.read()
    except UsageError:
        return None


def _source_of(document: Document | Mapping[str, Any] | str | Path) -> Source:
    """Raises: UsageError if there is no such file."""
    from actors.workflow.document_file import read_file
    from actors.workflow.source import read_source

    if isinstance(document, str | Path):
        return read_source(str(document), read_file(Path(document)))
    return read_source("the document", msgspec.json.encode(document), "json")
