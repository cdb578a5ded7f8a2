"""One run of an agent as a conversation: what was said, and what follows from the model's latest words. Pure.

ReAct (Yao et al., 2022): the model thinks and asks for tools, sees what came of them, and so on until it answers. All
that is decided here is decided from what the log holds, so a host that takes the job over decides the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import msgspec

from actors.agents.answer import Answer
from actors.components.codec import InvalidOutput
from actors.model.message import Message, Text, ToolResult, ToolUse, user
from actors.model.model import ModelReply, Usage
from bus.failure import Failure


class ModelStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of a model as the log keeps it. ``cost_usd`` is None where no price is known."""

    reply: ModelReply
    provider: str
    model: str
    usage: Usage = Usage()
    cost_usd: float | None = None
    duration_s: float = 0.0


@dataclass(frozen=True)
class Meter:
    """How long a conversation is: ``tokens`` that a provider counted for the first ``messages`` of it.

    ``scale``: what was counted for each token that had been estimated.
    """

    tokens: int = 0
    messages: int = 0
    scale: float = 1.0


@dataclass(frozen=True)
class Conversation:
    """What was said so far, how often the model was asked, and how many of its last words had to be mended.

    The run's own prompt is the message at ``prompt_at``; what stands before it was said in earlier runs. ``left_out``
    counts the turns that are no longer there, ``summary`` says what was in those that were summed up.
    """

    messages: tuple[Message, ...]
    turns: int = 0
    wrong: int = 0
    usage: Usage = field(default_factory=Usage)
    cost_usd: float = 0.0
    prompt_at: int = 0
    left_out: int = 0
    summary: str = ""
    meter: Meter = Meter()

    def say(self, *parts: Text | ToolResult) -> Conversation:
        """With words of the user's side at its end."""
        return replace(self, messages=(*self.messages, Message("user", parts)))


@dataclass(frozen=True)
class UseTools:
    """The model asks for tools, to be used side by side."""

    uses: tuple[ToolUse, ...]


@dataclass(frozen=True)
class AskAgain:
    """The conversation goes on without anything to do in between."""


@dataclass(frozen=True)
class Done:
    """The run gives ``value``."""

    value: Any


@dataclass(frozen=True)
class GiveUp:
    """The run fails."""

    failure: Failure


Next = UseTools | AskAgain | Done | GiveUp


@dataclass(frozen=True)
class Rules:
    """The limits of a run, and what it has to give."""

    answer: Answer
    turns: int
    mendings: int


def begin(prompt: str, earlier: tuple[Message, ...] = ()) -> Conversation:
    """A conversation that goes on from ``earlier`` with the user's words."""
    return Conversation((*earlier, user(prompt)), prompt_at=len(earlier))


def heard(conversation: Conversation, step: ModelStep, rules: Rules) -> tuple[Conversation, Next]:
    """What follows from what the model said."""
    said = step.reply.message
    conversation = replace(
        conversation, messages=(*conversation.messages, said) if said.parts else conversation.messages,
        turns=conversation.turns + 1, usage=conversation.usage + step.usage,
        cost_usd=conversation.cost_usd + (step.cost_usd or 0.0),
    )  # fmt: skip
    return _limited(*_follows(conversation, step.reply, rules), rules)


def _follows(conversation: Conversation, reply: ModelReply, rules: Rules) -> tuple[Conversation, Next]:
    match reply.stop:
        case "refusal":
            message = f"the model refused to answer: {reply.message.text[:500]}".rstrip(": ")
            return conversation, _failed("refused", message)
        case "pause_turn":
            return conversation, AskAgain()
        case _ if uses := reply.message.tool_uses:
            return conversation, UseTools(uses)
        case "max_tokens":
            return _mend(conversation, "Your answer was cut off at the limit of tokens. Give a shorter one.", rules)
        case "end_turn" | "stop_sequence" | "tool_use":
            return _answered(conversation, reply.message.text, rules)
    assert_never(reply.stop)


def _answered(conversation: Conversation, text: str, rules: Rules) -> tuple[Conversation, Next]:
    if not text.strip():
        return _mend(conversation, "You said nothing. Give your answer.", rules)
    try:
        return conversation, Done(rules.answer.read(text))
    except InvalidOutput as error:
        return _mend(conversation, f"Your answer does not fit: {error}. Answer with JSON of the schema alone.", rules)


def _mend(conversation: Conversation, words: str, rules: Rules) -> tuple[Conversation, Next]:
    """Tell the model what is wrong, unless it was told too often."""
    return told_wrong(conversation.say(Text(words)), words, rules)


def told_wrong(conversation: Conversation, words: str, rules: Rules) -> tuple[Conversation, Next]:
    """One more thing in a row that the model has to mend."""
    conversation = replace(conversation, wrong=conversation.wrong + 1)
    if conversation.wrong > rules.mendings:
        return conversation, _failed("unmended", f"wrong {conversation.wrong} times in a row; the last: {words}")
    return conversation, AskAgain()


def observed(
    conversation: Conversation, results: tuple[ToolResult, ...], wrong: str, rules: Rules
) -> tuple[Conversation, Next]:
    """What the tools gave. ``wrong`` says what the model has to mend if all that it asked for was wrong, else empty."""
    conversation = conversation.say(*results)
    if wrong:
        return _limited(*told_wrong(conversation, wrong, rules), rules)
    return _limited(replace(conversation, wrong=0), AskAgain(), rules)


def _limited(conversation: Conversation, following: Next, rules: Rules) -> tuple[Conversation, Next]:
    """The turn after the last is not taken; tools are not used for a model that will not hear of it."""
    if conversation.turns >= rules.turns and not isinstance(following, Done | GiveUp):
        return conversation, _failed("turns_spent", f"no answer after {rules.turns} turns")
    return conversation, following


def _failed(code: str, message: str) -> GiveUp:
    return GiveUp(Failure(code=code, message=message, retryable=False))
