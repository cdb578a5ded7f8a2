"""Calls of tools: one command in the log, one answer."""

from __future__ import annotations

from typing import Any

import msgspec

from actors.changes.amendments import amended_policy
from actors.jobs.call_policy import CallPolicy
from actors.jobs.journal import Entry, Pending
from actors.operations.hosting import Target
from actors.operations.operation_core import OperationCore
from actors.operations.values import bind, value_of
from bus.messages import CallTool, ReplyFailed
from store.log import Recorded


class Calls(OperationCore):
    """The command is in the log before the answer is waited for, so it is given once."""

    async def _call(
        self, key: str, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any], policy: CallPolicy
    ) -> Any:
        self.check_running()
        entry = self.journal.recall(key, target.kind, target.name)
        if entry is None or entry.is_void:
            await self._may_begin()
        self.busy += 1
        try:
            if entry is None or entry.is_void:
                body = bind(target, args, kwargs)
                entry = entry or self.journal.begin(key, target.kind, target.name)
                with self._asking():
                    await self._ask(key, target, body, policy)
            await self._answered(key, entry)
            await self._take_up(entry.sequence)
        finally:
            self.rest()
        return value_of(entry, target.component)

    async def _ask(self, key: str, target: Target, body: bytes, policy: CallPolicy) -> None:
        """Give the command; or, if the circuit is open and the job will not wait, record that it was refused."""
        if amendments := self.journal.amendments:
            changes = [change for _, change in amendments]
            policy = amended_policy(policy, changes, key, target.name, target.retry)
        if policy.waits_for(target):
            await self._command(key, target, body, policy)
        elif failure := await self.hosting.refusal(target):
            await self._append_note(ReplyFailed(job=self.job, call=key, op=target.kind, failure=failure))
        else:
            await self._command(key, target, body, policy)

    async def _command(self, key: str, target: Target, body: bytes, policy: CallPolicy) -> None:
        if self.listen is not None:
            await self.listen()
        command = CallTool(
            job=self.job, call=key, name=target.name, version=target.major, input=msgspec.Raw(body),
            timeout_s=policy.timeout_s, retry=msgspec.to_builtins(policy.retry) if policy.retry else None,
            traceparent=self.submitted.traceparent,
        )  # fmt: skip
        sequence = await self.append(command)
        if self.journal.entries[key].is_void:
            self.journal.apply(Recorded(sequence, command))

    async def _answered(self, key: str, entry: Entry) -> None:
        """Until the entry has its outcome. The doorbell wakes us; the journal decides."""
        while isinstance(entry.outcome, Pending):
            if self.listen is not None:
                await self.listen()
            await self._woken(key)
