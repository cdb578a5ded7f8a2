"""Keeps the conversation of one run under its limit: decided from what is on record, done, and on record itself."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from actors.agents.conversation import Conversation
from actors.agents.model_caller import ModelCaller
from actors.context.policy import Context
from actors.context.shortening import Shortening, finish, plan, shorten
from actors.context.summary import summary_request
from actors.operations.operations import Operations
from bus.failure import CallFailed, Failure

CONTEXT = "context"
SUMMARY = "summary"
TOO_LONG = "context_too_long"


class ContextKeeper:
    """``fixed``: the tokens of instructions and tools, as estimated; ``model`` writes summaries too."""

    def __init__(self, ops: Operations, caller: ModelCaller, context: Context, model: str, fixed: int) -> None:
        self._ops = ops
        self._caller = caller
        self._context = context
        self._model = model
        self._fixed = fixed

    async def keep(self, conversation: Conversation) -> Conversation:
        """The conversation that the next request may have. Raises: CallFailed with code ``context_too_long``."""
        planned = plan(conversation, self._fixed, self._context)
        if planned is None:
            return conversation
        if self._context.policy == "fail":
            raise CallFailed(_failure(planned))
        return await self._shortened(conversation, planned)

    async def relieve(self, conversation: Conversation, error: CallFailed) -> Conversation:
        """A shorter one after the provider has refused this one. Raises: ``error``, if it was for another reason or
        nothing can go.
        """
        if error.failure.code != TOO_LONG or self._context.policy == "fail":
            raise error
        planned = plan(conversation, self._fixed, self._context, too_long=True)
        if planned is None:
            raise error
        return await self._shortened(conversation, planned)

    async def _shortened(self, conversation: Conversation, planned: Shortening) -> Conversation:
        if planned.policy == "summarise" and planned.turns:
            conversation, planned = await self._summed_up(conversation, planned)
        elif planned.policy == "summarise":  # only results are cut: there is nothing to sum up
            planned = msgspec.structs.replace(planned, policy="drop")
        record = await self._ops.record(CONTEXT, lambda: planned, op=CONTEXT)
        return shorten(conversation, msgspec.convert(record, Shortening), self._fixed)

    async def _summed_up(self, conversation: Conversation, planned: Shortening) -> tuple[Conversation, Shortening]:
        """With a summary; if the model cannot write one, the turns go without."""
        try:
            step = await self._caller.ask(summary_request(conversation, planned, self._model), SUMMARY)
        except CallFailed as error:
            if error.failure.code != TOO_LONG:
                raise
            return conversation, msgspec.structs.replace(planned, policy="drop")
        paid = replace(
            conversation, usage=conversation.usage + step.usage,
            cost_usd=conversation.cost_usd + (step.cost_usd or 0.0),
        )  # fmt: skip
        words = "" if step.reply.stop == "refusal" else step.reply.message.text.strip()
        told = msgspec.structs.replace(planned, summary=words, policy="summarise" if words else "drop")
        return paid, finish(conversation, told, self._fixed)


def _failure(planned: Shortening) -> Failure:
    message = f"the conversation has {planned.tokens_before:,} tokens, its limit is {planned.limit_tokens:,}"
    hint = "raise limit_tokens, or let its context have the policy drop or summarise"
    return Failure(code=TOO_LONG, message=message, retryable=False, hint=hint)
