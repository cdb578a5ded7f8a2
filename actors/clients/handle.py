"""A handle on a job that was submitted: what it returned, how it goes, and words to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from actors.clients.outcome import output_of
from actors.components.component import Component
from store.log import Recorded
from store.tail import TailItem
from store.view import JobView

if TYPE_CHECKING:
    from actors.clients.client import Client

R = TypeVar("R")

SIGNAL_WAIT_S = 5.0
FRESH_S = 0.05


class JobHandle(Generic[R]):
    """A job that was submitted: its ``id`` and ``workspace``, and what can be asked of it.

    ``held``: the server was away, and the request lies in this machine's outbox until it is back. ``warning`` is for
    people: the version of the workflow is deprecated.
    """

    def __init__(
        self,
        client: Client,
        job: str,
        component: Component[..., R] | None = None,
        *,
        since: int = 0,
        fresh: bool = False,
        held: bool = False,
        warning: str = "",
    ) -> None:
        self.id = job
        self.held = held
        self.warning = warning
        self.workspace = client.workspace
        self._client = client
        self._component = component
        self._since = since
        self._fresh_until_s = asyncio.get_running_loop().time() + FRESH_S if fresh else 0.0
        self._ended: Recorded | None = None

    def __repr__(self) -> str:
        return f"<job {self.id} in workspace {self.workspace}>"

    async def result(self, timeout_s: float | None = None) -> R:
        """What the job returned, waiting at most ``timeout_s`` seconds for it; typed if it was submitted by component.

        Raises: JobFailedError, JobCancelledError, JobRejectedError, TimeoutError (the job goes on), BusClosed.
        """
        if self._ended is None:
            fresh = asyncio.get_running_loop().time() < self._fresh_until_s
            self._ended = await self._client.wait_for_end(self.id, timeout_s=timeout_s, since=self._since, fresh=fresh)
        output = output_of(self._ended.event)
        if self._component is not None:
            return self._component.decode_output(output)
        value: R = msgspec.json.decode(output)
        return value

    async def view(self) -> JobView:
        """The job as it stands. Raises: UsageError ``unknown_job`` until a host has taken it up."""
        return await self._client.get(self.id)

    def follow(self, since_seq: int = 0) -> AsyncGenerator[TailItem, None]:
        """Its events, see :meth:`Client.follow`."""
        return self._client.follow(self.id, since_seq)

    async def signal(self, name: str, data: Any = None, *, by: str = "") -> int:
        """Give it a signal, see :meth:`Client.signal`; waits some seconds for a host to take the job up first."""
        return await self._client.signal(self.id, name, data, by=by, wait_s=SIGNAL_WAIT_S)

    async def retry(self, *, calls: Iterable[str] = (), by: str = "") -> None:
        """Let it go on from where it failed, see :meth:`Client.retry`; :meth:`result` then waits for its new end."""
        again = await self._client.retry(self.id, calls=calls, by=by)
        self._since, self._ended = again._since, None

    async def cancel(self, reason: str = "", *, by: str = "") -> int:
        """Ask it to end, see :meth:`Client.cancel`; waits some seconds for a host to take the job up first."""
        return await self._client.cancel(self.id, reason, by=by, wait_s=SIGNAL_WAIT_S)

    async def terminate(self, reason: str = "", *, by: str = "") -> int:
        """End it now, see :meth:`Client.terminate`; waits some seconds for a host to take the job up first."""
        return await self._client.terminate(self.id, reason, by=by, wait_s=SIGNAL_WAIT_S)

    async def pause(self, *, children: bool = True, by: str = "") -> int:
        """Let it begin nothing new, see :meth:`Client.pause`; waits some seconds for a host to take it up first."""
        return await self._client.pause(self.id, children=children, by=by, wait_s=SIGNAL_WAIT_S)

    async def resume(self, *, children: bool = True, by: str = "") -> int:
        """Let it go on, see :meth:`Client.resume`; waits some seconds for a host to take the job up first."""
        return await self._client.resume(self.id, children=children, by=by, wait_s=SIGNAL_WAIT_S)
