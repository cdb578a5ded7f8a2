"""What one node runs of an app: its roster, for as many processes as are asked for. The one thing in it that changes is
the choice; all else was read when the node began.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from actors.command_bodies.describe import Description
from actors.node.process import CONNECT_VARIABLE, NODE_VARIABLE
from actors.node.roster import Choice, policies, rescaled, roster
from bus.options import ConnectOptions
from supervisor.child import ChildSpec
from supervisor.restart import Group


class Crew:
    """The child specs of node ``node``, whose actors connect as ``options`` say.

    Raises: UsageError for a choice that the app does not offer, or groups that cannot be.
    """

    def __init__(
        self, target: str, described: Description, choice: Choice, *, node: str, options: ConnectOptions
    ) -> None:
        self.app = described.app
        self._target = target
        self._components = described.components
        self._choice = choice
        self._env = {CONNECT_VARIABLE: msgspec.json.encode(options).decode(), NODE_VARIABLE: node}
        self.specs = self._made(choice)
        self.groups: Mapping[str, Group] = policies(described.groups, self.specs)

    def scaled(self, component: str, count: int) -> list[ChildSpec]:
        """All specs, with ``count`` processes for one component from now on. Raises: UsageError."""
        choice = rescaled(self._choice, self._components, component, count)
        self.specs, self._choice = self._made(choice), choice
        return self.specs

    def _made(self, choice: Choice) -> list[ChildSpec]:
        specs = roster(self._target, self._components, choice)
        return [msgspec.structs.replace(spec, env=spec.env | self._env) for spec in specs]
