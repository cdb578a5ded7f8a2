"""One ``agent.run``: the shell around its conversation, whose every step is on record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from actors.agents.answer import Answer
from actors.agents.conversation import (
    AskAgain,
    Conversation,
    Done,
    GiveUp,
    Next,
    Rules,
    UseTools,
    begin,
    heard,
    observed,
)
from actors.agents.model_caller import ModelCaller
from actors.agents.offer import Offered
from actors.agents.purse import Purse
from actors.agents.tool_use import MadeCall, Observation, ToolUser
from actors.context.keeper import ContextKeeper
from actors.context.policy import Context
from actors.context.shortening import counted, noted
from actors.jobs.call_policy import CallPolicy
from actors.model.model import ModelRequest
from actors.model.token_estimate import estimate_request
from actors.threads.thread import Earlier
from actors.threads.thread_turn import messages_of
from bus.failure import CallFailed

if TYPE_CHECKING:
    from actors.agents.settings import AgentSettings
    from actors.operations.operations import Operations


RUN = "run"


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run begins with, as the log keeps it: it means the same to its end, whatever the code says by then."""

    prompt: str
    model: str
    instructions: str = ""
    tools: tuple[Offered, ...] = ()
    output_schema: dict[str, Any] | None = None
    context: Context = Context()
    earlier: Earlier | None = None


class Run:
    """One run: what the conversation says is done, what came of it is said to the conversation.

    ``calls`` are those that its tools made, in their order.
    """

    def __init__(
        self, ops: Operations, settings: AgentSettings, who: str, purse: Purse, record: RunRecord, answer: Answer
    ) -> None:
        self.conversation = _beginning(record)
        self.calls: list[MadeCall] = []
        self._ops = ops
        self._settings = settings
        self._record = record
        self._rules = Rules(answer, settings.turns, settings.mendings)
        self._caller = ModelCaller(ops, settings.model, settings.retry, purse)
        self._tools = ToolUser(ops, list(record.tools), settings.approve, CallPolicy(), who)
        self._fixed = estimate_request(replace(self._request(), messages=()))
        self._keeper = ContextKeeper(ops, self._caller, record.context, record.model, self._fixed)

    async def to_its_end(self) -> Any:
        """Raises: CallFailed."""
        following: Next = AskAgain()
        while True:
            match following:
                case AskAgain():
                    following = await self._ask()
                case UseTools():
                    following = await self._use(following)
                case Done(value):
                    return value
                case GiveUp(failure):
                    raise CallFailed(failure)

    async def _ask(self) -> Next:
        self.conversation = await self._keeper.keep(self.conversation)
        try:
            step = await self._caller.ask(self._request())
        except CallFailed as error:
            self.conversation = await self._keeper.relieve(self.conversation, error)
            step = await self._caller.ask(self._request())
        asked = len(self.conversation.messages)
        conversation, following = heard(self.conversation, step, self._rules)
        self.conversation = counted(conversation, step.usage, self._fixed, asked + bool(step.reply.message.parts))
        return following

    def _request(self) -> ModelRequest:
        settings, record = self._settings, self._record
        return ModelRequest(
            model=record.model, messages=self.conversation.messages, system=record.instructions,
            tools=tuple(tool.spec for tool in record.tools), max_tokens=settings.max_tokens,
            temperature=settings.temperature, thinking_tokens=settings.thinking_tokens,
            output_schema=record.output_schema,
        )  # fmt: skip

    async def _use(self, asked: UseTools) -> Next:
        """All side by side, each in a branch of its own; the model hears of all of them at once, in its order."""
        conversation = self.conversation
        facts = {"cost_usd": conversation.cost_usd, "tokens": conversation.usage.tokens, "turn": conversation.turns}
        why = conversation.messages[-1].text
        seen: tuple[Observation, ...] = await self._ops.gather([self._tools.use(use, why, facts) for use in asked.uses])
        self.calls += [observation.made for observation in seen if observation.made]
        wrong = "; ".join(o.wrong for o in seen) if all(o.wrong for o in seen) else ""
        results = tuple(observation.result for observation in seen)
        self.conversation, following = observed(self.conversation, results, wrong, self._rules)
        return following


def _beginning(record: RunRecord) -> Conversation:
    earlier = record.earlier
    if earlier is None:
        return begin(record.prompt)
    return noted(begin(record.prompt, messages_of(earlier)), earlier.first - earlier.summed_up, earlier.summary)
