"""Compensation of a job that is a function: how to undo what it did is put into its log as it goes on.

So whoever ends the job knows it, also a host that has never run the function: when the job fails or is cancelled, each
is called, the last first (the saga pattern: Garcia-Molina and Salem, Sagas, 1987). A job that is terminated undoes
nothing.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import msgspec

from actors.jobs.call_policy import CallPolicy
from actors.jobs.journal import Entry, Journal, Succeeded
from actors.operations.hosting import Target
from actors.operations.plain_calls import PlainCalls
from actors.operations.values import bind, name_of
from bus.errors import UsageError
from bus.failure import CallFailed
from bus.subjects import CallKind
from supervisor.breaker import OnOpen
from supervisor.retry import Retry

UNDO = "undo"


class _Undo(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is to be called, as it is recorded."""

    kind: CallKind
    name: str
    major: int
    input: dict[str, Any]
    retry: Retry | None = None
    timeout_s: float | None = None
    on_open: OnOpen | None = None


class Undos(PlainCalls):
    """``undo_with``, and the undoing."""

    def undo_with(
        self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], policy: CallPolicy
    ) -> Coroutine[Any, Any, None]:
        """See ``Job.undo_with``. The key is taken here, before anything is awaited."""
        return self._undo_with(self.new_key(f"{UNDO}-{name_of(target)}"), target, args, kwargs, policy)

    async def _undo_with(
        self, key: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], policy: CallPolicy
    ) -> None:
        found = await self.hosting.find(target, ("tool", "agent", "job"))
        values = msgspec.json.decode(bind(found, args, kwargs))
        undo = _Undo(found.kind, found.name, found.major, values, policy.retry, policy.timeout_s, policy.on_open)
        await self._record(key, UNDO, f"{UNDO}-{found.name}", lambda: msgspec.to_builtins(undo))

    async def undo_all(self) -> tuple[str, ...]:
        """Undo all that is on record, the last first; the keys of what could not be undone."""
        failed = []
        for entry in reversed(registered(self.journal)):
            assert isinstance(entry.outcome, Succeeded)
            undo = msgspec.json.decode(entry.outcome.output, type=_Undo)
            try:
                await self._undo(f"{entry.call}/{UNDO}/{undo.name}:1", undo)
            except (CallFailed, UsageError):
                failed.append(entry.call)
        return tuple(failed)

    async def _undo(self, key: str, undo: _Undo) -> None:
        target = Target(undo.kind, undo.name, undo.major)
        if undo.kind != "tool":
            await self._run_child(key, target, (), undo.input)
        else:
            await self._call(key, target, (), undo.input, CallPolicy(undo.retry, undo.timeout_s, undo.on_open))


def registered(journal: Journal) -> list[Entry]:
    """What would have to be undone, in the log's order."""
    found = [entry for entry in journal.entries.values() if entry.op == UNDO and isinstance(entry.outcome, Succeeded)]
    return sorted(found, key=lambda entry: entry.sequence)
