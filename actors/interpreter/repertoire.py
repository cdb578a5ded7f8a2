"""Published workflows as what a host can run: the version that a new job takes, and the one that a job began with."""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Any

from actors.components.component import Component
from actors.interpreter.component import workflow_component
from actors.workflow_versions.definition import Definition
from actors.workflow_versions.definitions import Definitions
from bus.errors import UsageError

log = logging.getLogger("callboard.repertoire")

# Plans of documents that are kept; a job that runs holds its own.
KEPT = 256


class Repertoire:
    """What is published, compiled when it is first asked for."""

    def __init__(self, definitions: Definitions) -> None:
        self.definitions = definitions
        self._components: OrderedDict[tuple[str, str], Component[..., Any]] = OrderedDict()

    def __contains__(self, name: str) -> bool:
        return name in self.definitions

    def newest(self, name: str, wanted: str = "") -> Component[..., Any]:
        """What a new job runs on, see :meth:`Definitions.choose`. Raises: UsageError."""
        return self._component(self.definitions.choose(name, wanted))

    def exact(self, name: str, version: str) -> Component[..., Any] | None:
        """That version, deprecated or not; None if it is not published, or this Callboard cannot read it."""
        definition = self.definitions.get(name, version)
        if definition is None:
            return None
        try:
            return self._component(definition)
        except UsageError as error:
            log.warning("%s", error)
            return None

    def _component(self, definition: Definition) -> Component[..., Any]:
        """What is published under a version never changes, so it may be kept."""
        key = definition.name, definition.version
        found = self._components.get(key)
        if found is None:
            found = self._components[key] = workflow_component(definition.read(), app=definition.app)
            if len(self._components) > KEPT:
                self._components.popitem(last=False)
        else:
            self._components.move_to_end(key)
        return found
