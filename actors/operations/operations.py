"""The durable operations of one running job: each asks the journal first, then does, then records."""

from __future__ import annotations

from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any

from actors.jobs.call_policy import CallPolicy
from actors.operations.admission import Admission
from actors.operations.approvals import Approvals
from actors.operations.branches import run_branches
from actors.operations.undos import Undos
from actors.operations.values import name_of
from actors.operations.waits import Waits


class Operations(Undos, Waits, Approvals, Admission):
    """All that ``Job`` offers; each base class is a file of its own for one concern."""

    def call(
        self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], policy: CallPolicy
    ) -> Coroutine[Any, Any, Any]:
        """See ``Job.call``. The key is taken here, before anything is awaited."""
        key = self.new_key(name_of(target))
        return self._call_whatever(key, target, args, kwargs, policy)

    async def _call_whatever(
        self, key: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], policy: CallPolicy
    ) -> Any:
        found = await self.hosting.find(target, ("tool", "agent", "job"))
        if found.kind != "tool":
            return await self._run_child(key, found, args, kwargs)
        return await self._call(key, found, args, kwargs, policy)

    def gather(self, branches: Sequence[Awaitable[Any]]) -> Coroutine[Any, Any, tuple[Any, ...]]:
        """See ``Job.gather``."""
        return self._gather(self.new_key("gather"), branches)

    async def _gather(self, key: str, branches: Sequence[Awaitable[Any]]) -> tuple[Any, ...]:
        return await run_branches(key, branches, self.turns)
