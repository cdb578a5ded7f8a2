"""Before a job's function begins: a slot if only so many may run at once, and its turn if only so many may begin.

Both are operations of the job like any other, so it is parked while it waits, and does not wait again when it is
resumed. A job that began before its workflow had the limit goes on without.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from actors.components.component import Component
from actors.components.limit_key import limit_name
from actors.locks.claim import LockName
from actors.operations.locks import Locks, key_name
from supervisor.rate import Rate

# What the keys of these operations begin with.
ADMISSIONS = ("slot-", "rate-")


class Admission(Locks):
    """``admit``, which the host asks for before it calls the function."""

    async def admit(self, component: Component[..., Any], arguments: Mapping[str, Any]) -> None:
        """Until the job may begin."""
        if (at_once := component.at_once) is not None:
            name = limit_name(component.name, at_once.key, arguments)
            if self._may_ask(f"{key_name('slot', name)}:1/asked"):
                await self.slot(name, at_once.limit)
        if (rate := component.rate) is not None:
            name = limit_name(component.name, rate.key, arguments)
            if self._may_ask(f"{key_name('rate', name)}:1"):
                await self._await_turn(self.new_key(key_name("rate", name)), name, rate)

    def _may_ask(self, key: str) -> bool:
        """Whether the job has done nothing yet but to be admitted, or has asked for this before."""
        known = self.journal.entries
        return key in known or all(call.startswith(ADMISSIONS) for call in known)

    async def _await_turn(self, key: str, name: str, rate: Rate) -> None:
        turn = partial(self._reserve, LockName(self.workspace, "rate", name), rate)
        due_at = datetime.fromisoformat(await self._record(key, "timer", key_name("rate", name), turn))
        while datetime.now(UTC) < due_at:
            await self._wait(key, due_at)

    async def _reserve(self, name: LockName, rate: Rate) -> str:
        at_s = await self.hosting.rates.reserve(name, rate)
        return datetime.fromtimestamp(at_s, UTC).isoformat()
