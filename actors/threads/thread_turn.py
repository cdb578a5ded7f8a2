"""The part that one run has in a thread: it begins with what was said before, and adds its own exchange, once."""

from __future__ import annotations

from actors.agents.conversation import Conversation
from actors.model.message import Message, Text, user
from actors.operations.operations import Operations
from actors.threads.thread import Earlier, Exchange, Summary
from actors.threads.thread_store import ThreadStore
from bus.event import utc_now

THREAD = "thread"
SAVED = "thread-saved"


class ThreadTurn:
    """``name`` is the thread's, ``agent`` who speaks. Whoever has one holds the thread's lock."""

    def __init__(self, ops: Operations, name: str, agent: str) -> None:
        self._ops = ops
        self._name = name
        self._agent = agent

    async def earlier(self) -> Earlier:
        """What was said before, for the record of the run's beginning. Raises: BusError."""
        return await self._store().earlier(self._name)

    async def save(self, earlier: Earlier, prompt: str, conversation: Conversation) -> None:
        """Add prompt and answer, on record. A crash in between does it again, which changes nothing.

        Raises: CallFailed if the thread cannot be written.
        """
        summary, answer = new_summary(earlier, conversation), conversation.messages[-1].text

        async def save(key: str) -> int:
            ops = self._ops
            exchange = Exchange(
                id=f"{ops.job}/{key}", job=ops.job, agent=self._agent, at=utc_now(), prompt=prompt, answer=answer
            )
            return await self._store().add(self._name, exchange, summary)

        await self._ops.step(THREAD, SAVED, save)

    def _store(self) -> ThreadStore:
        hosting = self._ops.hosting
        return ThreadStore(hosting.bus, hosting.blobs, self._ops.workspace)


def messages_of(earlier: Earlier) -> tuple[Message, ...]:
    """What was said before, as messages."""
    pairs = ((user(prompt), Message("assistant", (Text(answer),))) for prompt, answer in earlier.exchanges)
    return tuple(message for pair in pairs for message in pair)


def new_summary(earlier: Earlier, conversation: Conversation) -> Summary | None:
    """What stands for the oldest exchanges from now on, if the run has summed any up."""
    gone = len(earlier.exchanges) - conversation.prompt_at // 2
    if conversation.summary in ("", earlier.summary) or not gone:
        return None
    return Summary(conversation.summary, earlier.first + gone)
