"""Published workflows as NATS services: ``api.<workspace>.workflows.list|get|publish|deprecate``.

    nats req api.default.workflows.list '{"category": "shop"}'

They are the same in all workspaces; who may ask for what is for the broker's permissions to say.
"""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

import msgspec

from actors.clients.workflows import Workflows
from actors.workflow_versions.definition import Definition, Listed
from actors.workflow_versions.publishing import Published
from bus.connection import Bus
from bus.errors import UsageError

LIST_LIMIT = 500
# Room for the rest of an answer.
_MARGIN_BYTES = 16 * 1024


class _Body(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An unknown field is refused, since it is most likely a misspelt one."""


class ListWorkflows(_Body, frozen=True):
    """``workflows.list``; ``all_versions`` adds those that new jobs do not take."""

    text: str = ""
    category: str = ""
    labels: dict[str, str] = {}
    all_versions: bool = False
    offset: int = 0
    limit: int = LIST_LIMIT


class GetWorkflow(_Body, frozen=True):
    """``workflows.get``; without a version the one that new jobs take."""

    name: str
    version: str = ""


class PublishWorkflow(_Body, frozen=True):
    """``workflows.publish``: a ``document`` as JSON, or the ``text`` of a file in ``format``."""

    document: dict[str, Any] | None = None
    text: str = ""
    format: Literal["yaml", "json", "toml"] = "yaml"
    params: dict[str, Any] = {}
    force: bool = False
    by: str = ""


class DeprecateWorkflow(_Body, frozen=True):
    """``workflows.deprecate``; new jobs are refused from the day ``on``. ``undo`` takes the word back."""

    name: str
    version: str
    message: str = ""
    on: date | None = None
    undo: bool = False


class WorkflowService:
    """Answers for the gateway. Every method may raise UsageError and BusError."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._workflows = Workflows(bus)

    async def stop(self) -> None:
        """Follow the bucket no more."""
        await self._workflows.close()

    async def list(self, _: str, body: ListWorkflows) -> dict[str, Any]:
        """A page, cut so that it fits one message; ``next_offset`` if there is more."""
        found = await self._workflows.list(body.text, category=body.category, labels=body.labels)
        found = [each for each in found if each.newest or body.all_versions]
        offset, page, room = max(0, body.offset), list[Listed](), self._bus.max_body_bytes - _MARGIN_BYTES
        for each in found[offset : offset + max(1, body.limit)]:
            room -= len(msgspec.json.encode(each)) + 1
            if page and room < 0:
                break
            page.append(each)
        answer: dict[str, Any] = {"workflows": page, "total": len(found)}
        return answer | ({"next_offset": offset + len(page)} if offset + len(page) < len(found) else {})

    async def get(self, _: str, body: GetWorkflow) -> dict[str, Any]:
        """One version with its document."""
        return _shown(await self._workflows.get(body.name, body.version))

    async def publish(self, _: str, body: PublishWorkflow) -> Published:
        """Check it against the registry, and make it known."""
        if (body.document is None) == (not body.text):
            raise UsageError("which document?", code="bad_request", path="$.document", hint="document, or text")
        if body.document is not None:
            return await self._workflows.publish(body.document, params=body.params, by=body.by, force=body.force)
        from actors.workflow.source import read_source

        source = read_source("the text", body.text.encode(), body.format)
        batch = await self._workflows.prepare([source], body.params, force=body.force)
        batch.raise_findings()
        return (await self._workflows.publish_batch(batch, by=body.by, force=body.force))[0]

    async def deprecate(self, _: str, body: DeprecateWorkflow) -> dict[str, Any]:
        """The definition with its new word, without the document."""
        if body.undo:
            marked = await self._workflows.undeprecate(body.name, body.version)
        else:
            marked = await self._workflows.deprecate(body.name, body.version, body.message, body.on)
        return {key: value for key, value in _shown(marked).items() if key != "document"}


def _shown(definition: Definition) -> dict[str, Any]:
    return {
        "name": definition.name, "version": definition.version, "sha256": definition.sha256,
        "published_at": definition.published_at, "by": definition.by, "app": definition.app,
        "deprecated": definition.deprecated, "document": definition.document,
    }  # fmt: skip
