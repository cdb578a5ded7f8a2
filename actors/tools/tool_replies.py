"""What became of a call, recorded in the log of its job; then, and only then, its delivery is ended.

Here and nowhere else failed calls are retried: a failure is recorded, and the call is handed back to the server with
the delay that the policy says.
"""

from __future__ import annotations

import logging
import os
import random
from typing import assert_never

import msgspec

from actors.dead_letters.dead_letters import keep_letter
from actors.tools.held_results import HeldResults
from actors.tools.invocation import describe
from actors.tools.serving import Serving
from actors.tools.tool_call import call_letter
from actors.tools.tool_context import CallCancelled
from bus.connection import ApiError, Bus
from bus.crash import crash_point
from bus.failure import Failure
from bus.messages import CallTool, Event, ReplyCompleted, ReplyFailed, ReplyRetrying
from bus.objects import Blobs
from bus.outbox import Outbox
from store.log import prepare_kept
from supervisor.retry import Again, GiveUp, Retry, decide

log = logging.getLogger("callboard.tool")

# How the last process of this name ended, if it failed: its supervisor tells its successor.
_LAST_EXIT = os.environ.get("CALLBOARD_LAST_EXIT", "")


class ToolReplies:
    """Writes the replies of the actor ``name``. ``retry`` is the tool's own policy, for calls that bring none.

    ``inherited``: the sequences of the calls that the process of this name held when it ended.
    """

    def __init__(
        self, bus: Bus, blobs: Blobs, name: str, retry: Retry, outbox: Outbox | None = None, *,
        inherited: frozenset[int] = frozenset(),
    ) -> None:  # fmt: skip
        self.held = HeldResults(bus, outbox, name)
        self._bus = bus
        self._blobs = blobs
        self._name = name
        self._retry = retry
        self._inherited = inherited

    def policy(self, event: CallTool) -> Retry:
        """How this call is retried."""
        if event.retry is None:
            return self._retry
        try:
            return msgspec.convert(event.retry, Retry)
        except msgspec.ValidationError:
            return self._retry

    async def completed(self, serving: Serving, output: bytes, *, cached: bool = False) -> None:
        """The function returned ``output``, or another call's function did (``cached``)."""
        event = ReplyCompleted(
            job=serving.event.job, call=serving.event.call, output=msgspec.Raw(output), attempt=serving.attempt,
            duration_s=serving.duration_s, actor=self._name, cached=cached,
        )  # fmt: skip
        crash_point("tool.before_reply")
        try:
            await self._append(serving, event)
        except ApiError as error:  # such as a message size that the operator has limited
            message = f"the output of {len(output):,} bytes was refused by the log: {error.description}"
            await self._failed(serving, Failure(code="unrecordable", message=message, retryable=False))
        crash_point("tool.after_reply")
        await serving.delivery.ack()

    async def failed(self, serving: Serving, error: BaseException) -> None:
        """The function raised: the call is handed back for another attempt, or has failed."""
        if serving.cancelled:
            await self.cancelled(serving)
            return
        failure = describe(error)
        decision = decide(self.policy(serving.event), serving.attempt, failure, random.random())
        match decision:
            case GiveUp():
                await self._failed(serving, failure)
                await serving.delivery.ack()
            case Again(delay_s):
                event = self._retrying(serving, serving.attempt, failure=failure, delay_s=round(delay_s, 3))
                await self._append(serving, event)
                crash_point("tool.before_nak")
                await serving.delivery.nak(delay_s)
            case _:
                assert_never(decision)

    async def cancelled(self, serving: Serving) -> None:
        """The job was cancelled, so the call is over."""
        failure = Failure(
            code="cancelled", message="the job was cancelled", retryable=False, exception=CallCancelled.__name__
        )
        await self._failed(serving, failure)
        await serving.delivery.ack()

    async def died(self, serving: Serving) -> None:
        """The attempt before this one took its process down.

        Recorded when the next attempt begins, and not before: see ``actors.tools.past_attempts``.
        """
        await self._append(serving, self._retrying(serving, serving.attempt - 1, failure=self._death(serving)))

    async def died_for_good(self, serving: Serving) -> None:
        """The attempt before this one took its process down, and it was the last: the call is kept as a dead letter."""
        event = serving.event
        answer = ReplyFailed(job=event.job, call=event.call, failure=self._death(serving), actor=self._name)
        await keep_letter(self._bus, self._blobs, serving.workspace, call_letter(serving.delivery, answer))
        await self._failed(serving, answer.failure, attempt=serving.attempt - 1)
        await serving.delivery.ack()

    def _death(self, serving: Serving) -> Failure:
        """The end of the process that had the call, as far as it is known here."""
        message = "the process that served the call died"
        if _LAST_EXIT and serving.delivery.sequence in self._inherited:
            message += f": {_LAST_EXIT}"
        elif _LAST_EXIT:
            message += f"; the process that was {self._name} before ended with {_LAST_EXIT}"
        return Failure(code="process_died", message=message)

    async def handed_back(self, serving: Serving) -> None:
        """This delivery of the call is not to count as an attempt."""
        await self._append(serving, self._retrying(serving, serving.attempt, handed_back=True))

    async def came_early(self, serving: Serving, rest_s: float) -> None:
        """The wait before this attempt is not over: the call goes back for the rest of it, with no attempt spent."""
        await self._append(
            serving, self._retrying(serving, serving.attempt, delay_s=round(rest_s, 3), handed_back=True)
        )
        await serving.delivery.nak(rest_s)

    def _retrying(
        self, serving: Serving, attempt: int, *, failure: Failure | None = None, delay_s: float = 0.0,
        handed_back: bool = False,
    ) -> ReplyRetrying:  # fmt: skip
        return ReplyRetrying(
            job=serving.event.job, call=serving.event.call, attempt=attempt, failure=failure, delay_s=delay_s,
            handed_back=handed_back, actor=self._name,
        )  # fmt: skip

    async def _failed(self, serving: Serving, failure: Failure, *, attempt: int = 0) -> None:
        event = ReplyFailed(
            job=serving.event.job, call=serving.event.call, failure=failure, attempt=attempt or serving.attempt,
            duration_s=serving.duration_s, actor=self._name,
        )  # fmt: skip
        crash_point("tool.before_reply")
        await self._append(serving, event)
        crash_point("tool.after_reply")

    async def _append(self, serving: Serving, event: Event) -> None:
        """Record a reply. The work is done by now: what the bus cannot take at the moment is held, and tried again.

        Raises: PermissionRefused, ApiError, BusClosed.
        """
        append = prepare_kept(
            self._bus, self._blobs, serving.workspace, event, self.held, since=serving.delivery.sequence
        )
        await append.store()
