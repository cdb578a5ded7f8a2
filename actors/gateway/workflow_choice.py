"""Which version a new job runs on: of published workflows what is asked for, of an app's functions the newest."""

from __future__ import annotations

from typing import NamedTuple

from actors.components.component import ComponentInfo
from actors.components.newest import newest_workflow
from actors.components.registry import Registry, exact_version, parse_ref
from actors.workflow_versions.batch import described
from actors.workflow_versions.definitions import Definitions
from bus.errors import UsageError


class Chosen(NamedTuple):
    """``version`` goes along with the request, if one was asked for; ``warning`` is for people."""

    info: ComponentInfo
    version: str = ""
    warning: str = ""


class WorkflowChoice:
    """Looks into the registry and the published workflows, both of which have to be started."""

    def __init__(self, registry: Registry, definitions: Definitions) -> None:
        self._registry = registry
        self._definitions = definitions
        self._infos: dict[str, ComponentInfo] = {}

    async def choose(self, ref: str, wanted: str | int | None) -> Chosen:
        """``ref`` is ``[app.]name[@major]``, ``wanted`` a major or a whole version.

        Raises: UsageError ``unknown_workflow``, ``unknown_version``, ``deprecated_version``, ``old_version``.
        """
        app, name, major = parse_ref(ref)
        asked = exact_version(ref) or ("" if major is None else str(major))
        version = str(wanted if wanted is not None else asked)
        if name not in self._definitions and self._registry.find("job", name) is None:
            await self._definitions.refresh()  # it may have come a moment ago
        if name in self._definitions:
            return await self._published(app, name, version)
        return Chosen(await newest_workflow(self._registry, ref, wanted))

    async def _published(self, app: str, name: str, version: str) -> Chosen:
        try:
            found = self._definitions.choose(name, version)
        except UsageError as error:
            if error.code != "unknown_version":
                raise
            await self._definitions.refresh()
            found = self._definitions.choose(name, version)
        if app not in ("", found.app):
            hint = f"it was shipped with {found.app}" if found.app else "it belongs to no app"
            raise UsageError(f"app {app} has no workflow {name!r}", code="unknown_workflow", path="workflow", hint=hint)
        info = self._infos.get(found.sha256)
        if info is None:
            info = self._infos[found.sha256] = described(found.read(), found.app)
        warning = found.deprecated.warning(name, found.version) if found.deprecated else ""
        return Chosen(info, version, warning)
