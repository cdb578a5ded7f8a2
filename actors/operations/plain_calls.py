"""Calls with JSON in and JSON out, as a workflow document makes them: by name, typed at the far end only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from actors.jobs.call_policy import CallPolicy
from actors.jobs.journal import Entry, Pending
from actors.jobs.signals import CANCEL
from actors.operations.calls import Calls
from actors.operations.child_calls import ChildCalls
from actors.operations.children import tell_child
from actors.operations.hosting import Target
from actors.operations.output_cache import Found, OutputCache, key_of
from actors.operations.records import Records
from actors.operations.values import name_of
from bus.errors import UsageError
from bus.failure import GIVEN_UP, CallFailed, Failure, failure_of
from bus.messages import ReplyFailed
from bus.subjects import CallKind, Priority


class PlainCalls(Calls, ChildCalls, Records):
    """``call_plainly`` of tools, ``run_plainly`` of jobs and agents."""

    async def call_plainly(self, ref: str, values: dict[str, Any], policy: CallPolicy) -> Any:
        """Run a tool. Raises: CallFailed, also if there is no such component: that is on record then."""
        key = self.new_key(name_of(ref))
        target = await self._plain_target(key, "tool", ref)
        return await self._call(key, target, (), values, policy)

    async def call_cached(self, ref: str, values: dict[str, Any], policy: CallPolicy, about: Any, ttl_s: float) -> Any:
        """As :meth:`call_plainly`, or an output that was had before for the same ``about``. Raises: CallFailed."""
        key = self.new_key(name_of(ref))
        target = await self._plain_target(key, "tool", ref)
        cache, place = OutputCache(self.hosting.bus), key_of(self.workspace, target, about)
        found = msgspec.convert(await self._record(f"{key}/cache", "local", "cache", lambda: cache.look(place)), Found)
        if found.hit:
            return found.output
        is_known = key in self.journal.entries
        output = await self._call(key, target, (), values, policy)
        if not is_known:  # a replay would keep what is old by now
            await cache.keep(place, output, ttl_s)
        return output

    async def run_plainly(
        self, kind: CallKind, ref: str, values: dict[str, Any], priority: Priority | None, *, waits: bool
    ) -> Any:
        """Start a job or an agent, and with ``waits`` give its result, else its id.

        Given up, it cancels the job that it waits for. Raises: CallFailed.
        """
        key = self.new_key(name_of(ref))
        target = await self._plain_target(key, kind, ref)
        target = replace(target, priority=priority or "normal")
        try:
            child = await self._start(key, target, (), values)
            return await self._child_result(key, target) if waits else child.id
        except UsageError as error:
            raise await self._refused(key, kind, error) from error

    async def call_back(self, key: str) -> None:
        """Nobody waits any more for the answer under a key: a job is cancelled, a tool's call is answered here and now.

        Whoever runs the tool hears of that and stops. Raises: BusError.
        """
        self.check_running()
        entry = self.journal.entries.get(key)
        if entry is None or not isinstance(entry.outcome, Pending):
            return
        if entry.op in ("job", "agent"):
            await tell_child(self.hosting, self.workspace, self.job, entry, CANCEL)
        elif entry.op == "tool":
            failure = Failure(code=GIVEN_UP, message="the job does not wait for it any more", retryable=False)
            await self._append_note(ReplyFailed(job=self.job, call=key, failure=failure, actor=self.hosting.host))

    async def _plain_target(self, key: str, kind: CallKind, ref: str) -> Target:
        entry = self.journal.entries.get(key)
        if entry is not None and not isinstance(entry.outcome, Pending):
            return _recorded(entry, kind, name_of(ref))
        try:
            return replace(await self.hosting.find(ref, (kind,)), component=None)
        except UsageError as error:
            raise await self._refused(key, kind, error) from error

    async def _refused(self, key: str, kind: CallKind, error: UsageError) -> CallFailed:
        """What cannot be asked for at all is put on record: a replay must see the same, whatever there is by then."""
        self.check_running()
        failure = failure_of(error)
        await self._may_begin()
        await self._append_note(ReplyFailed(job=self.job, call=key, op=kind, failure=failure))
        return CallFailed(failure)


def _recorded(entry: Entry, kind: CallKind, name: str) -> Target:
    """The target that a call had; what is there now does not matter."""
    return Target(kind, name, entry.command.version if entry.command else 0)
