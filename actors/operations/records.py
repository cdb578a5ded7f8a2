"""What the host itself records: small functions, the clock, random numbers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from actors.jobs.journal import Pending
from actors.operations.operation_core import OperationCore
from actors.operations.values import raw_of, to_json
from bus.failure import CallFailed, failure_of
from bus.messages import Emitted, ReplyFailed
from bus.subjects import check_name


class Records(OperationCore):
    """Run once, recorded, and answered from the log from then on."""

    def local(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        """See ``Job.local``."""
        name = getattr(fn, "__name__", "local").strip("<>")
        return self._record(self.new_key(name), "local", name, lambda: fn(*args, **kwargs))

    def record(self, name: str, fn: Callable[[], Any], *, op: str = "local") -> Coroutine[Any, Any, Any]:
        """A recorded value under a name of ours (now, uuid, random, model)."""
        return self._record(self.new_key(name), op, name, fn)

    def step(self, op: str, name: str, make: Callable[[str], Any]) -> Coroutine[Any, Any, Any]:
        """As :meth:`record`, of kind ``op``; ``make`` is given the key that it will stand under."""
        key = self.new_key(name)
        return self._record(key, op, name, lambda: make(key))

    def emit(self, name: str, data: Any) -> Coroutine[Any, Any, None]:
        """See ``Job.emit``."""
        return self._emit(self.new_key(f"emit-{check_name(name, 'event')}"), name, data)

    async def _emit(self, key: str, name: str, data: Any) -> None:
        self.check_running()
        entry = self.journal.recall(key, "emit", f"emit-{name}")
        if entry is not None and not isinstance(entry.outcome, Pending):
            await self._take_up(entry.sequence)
            return
        raw = msgspec.Raw(to_json(data, name))
        await self._may_begin()
        await self._append_note(Emitted(job=self.job, name=name, call=key, data=raw))

    async def _record(self, key: str, op: str, name: str, fn: Callable[[], Any]) -> Any:
        self.check_running()
        entry = self.journal.recall(key, op, name.rpartition("/")[2])
        if entry is not None and not isinstance(entry.outcome, Pending):
            await self._take_up(entry.sequence)
            return msgspec.json.decode(raw_of(entry))
        await self._may_begin()
        self.busy += 1
        try:
            return await self._record_now(key, op, name, fn)
        finally:
            self.rest()

    async def _record_now(self, key: str, op: str, name: str, fn: Callable[[], Any]) -> Any:
        """Run it. What it raises is recorded too: code that catches it has to see the same on a replay."""
        try:
            value = fn()
            if inspect.isawaitable(value):
                value = await value
            raw = to_json(value, name)
        except Exception as error:
            failure = failure_of(error)
            await self._append_note(ReplyFailed(job=self.job, call=key, op=op, failure=failure))
            raise CallFailed(failure) from error
        await self._note(key, op, raw)
        return msgspec.json.decode(raw)
