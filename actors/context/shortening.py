"""What goes when a conversation has become too long: its oldest turns, whole, and the ends of huge results. Pure.

A turn is what the model said and what it was told thereupon; an exchange of a thread, prompt and answer, counts as one
too. So a use of a tool and its result go together or stay together. All is decided from recorded values: the tokens
that the provider counted in the last reply, and an estimate of what was said since.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate

import msgspec

from actors.agents.conversation import Conversation, Meter
from actors.context.policy import Context, Policy
from actors.model.message import Message, Part, Text, ToolResult
from actors.model.model import Usage
from actors.model.token_estimate import estimate_messages, estimate_text

# What goes makes room for some turns, not for one: each time the provider's cache of the conversation is void.
GOAL_SHARE = 0.6
# One result that takes more of the limit than this is cut before anything else goes.
RESULT_SHARE = 0.25
LEAST_RESULT_CHARS = 200
BYTES_A_TOKEN = 3.5
SUMMARY_SHARE = 0.125
SUMMARY_MOST_TOKENS = 1024
SUMMARY_LEAST_TOKENS = 64
# An estimate of new words is corrected by what the provider counted of the old ones, within reason.
_SCALE_LEAST, _SCALE_MOST = 0.5, 2.0


class Shortening(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One shortening as the log keeps it. ``turns``: how many of the oldest went. ``tokens_after`` is an estimate.

    ``result_chars``: results that are longer were cut to that. ``too_long``: the provider had refused the conversation.
    """

    policy: Policy
    turns: int
    tokens_before: int
    tokens_after: int
    limit_tokens: int
    result_chars: int | None = None
    summary: str = ""
    too_long: bool = False


# ---- how long it is


def tokens_of(conversation: Conversation, fixed: int) -> int:
    """How many tokens the next request has. ``fixed``: those of instructions and tools, as estimated."""
    meter = conversation.meter
    new = estimate_messages(conversation.messages[meter.messages :])
    if meter.tokens:
        return meter.tokens + math.ceil(new * min(_SCALE_MOST, max(_SCALE_LEAST, meter.scale)))
    return math.ceil((fixed + new) * meter.scale)


def counted(conversation: Conversation, usage: Usage, fixed: int, messages: int) -> Conversation:
    """Once the provider has counted the first ``messages`` of it, its last answer included."""
    estimated = fixed + estimate_messages(conversation.messages[:messages])
    if not usage.tokens or not estimated:
        return conversation
    return replace(conversation, meter=Meter(usage.tokens, messages, usage.tokens / estimated))


# ---- what goes


def plan(conversation: Conversation, fixed: int, context: Context, *, too_long: bool = False) -> Shortening | None:
    """What is to be done before the next request, None for nothing. A summary is still to be written.

    ``too_long``: the provider says that it is, so it has to become half as long, whatever was thought.
    """
    before = tokens_of(conversation, fixed)
    limit = max(1, min(context.limit_tokens or before, before) // 2) if too_long else context.limit_tokens
    if limit is None or before <= limit:
        return None
    planning = _Planning(conversation, fixed, context, limit, before)
    turns, result_chars = planning.choose()
    chosen = Shortening(
        policy=context.policy, turns=turns, tokens_before=before, tokens_after=0, limit_tokens=limit,
        result_chars=result_chars, too_long=too_long,
    )  # fmt: skip
    return finish(conversation, chosen, fixed) if turns or result_chars is not None else None


def finish(conversation: Conversation, chosen: Shortening, fixed: int) -> Shortening:
    """With the tokens that are left."""
    return msgspec.structs.replace(chosen, tokens_after=tokens_of(shorten(conversation, chosen, fixed), fixed))


class _Planning:
    """Weighs what may go. Sizes are estimates in the scale of what the provider counted."""

    def __init__(self, conversation: Conversation, fixed: int, context: Context, limit: int, before: int) -> None:
        self._conversation = conversation
        self._fixed = fixed
        self._limit = limit
        self._scale = before / max(1, fixed + estimate_messages(conversation.messages))
        self._spans = list(_turns(conversation))
        has_own = bool(self._spans) and self._spans[-1].start > conversation.prompt_at
        self._most = len(self._spans) - has_own
        self._gentle = max(0, min(self._most, len(self._spans) - context.keep_turns))
        self._summary = summary_tokens(limit) if context.policy == "summarise" else 0

    def choose(self) -> tuple[int, int | None]:
        """How many turns go, and to how many characters results are cut, if any are longer."""
        chars = max(LEAST_RESULT_CHARS, int(self._limit * RESULT_SHARE * BYTES_A_TOKEN / self._scale))
        sizes = self._sizes(chars)
        goal = self._limit * GOAL_SHARE
        gentle = next((turns for turns in range(self._gentle + 1) if sizes[turns] <= goal), self._gentle)
        turns = next((turns for turns in range(gentle, self._most + 1) if sizes[turns] <= self._limit), self._most)
        chars = chars if sizes[turns] <= self._limit else self._fitting(turns, chars)
        kept = _without(self._conversation.messages, self._spans[:turns])
        return turns, None if _cut_all(kept, chars) == kept else chars

    def _sizes(self, chars: int) -> list[float]:
        """The whole request in tokens after none, one, two ... of the oldest turns have gone."""
        messages = _cut_all(self._conversation.messages, chars)
        each = [estimate_messages(messages[span.start : span.stop]) for span in self._spans]
        whole = self._fixed + estimate_messages(messages)
        return [
            (whole - gone) * self._scale + (self._note_tokens(turns) if turns else 0)
            for turns, gone in enumerate(accumulate(each, initial=0))
        ]

    def _note_tokens(self, turns: int) -> float:
        left_out = self._conversation.left_out + turns
        return (estimate_text(_note(left_out, "") + _SUMMED_UP) + self._summary) * self._scale

    def _fitting(self, turns: int, chars: int) -> int:
        """The most characters of a result with which it fits; the least if none do."""
        least, most = LEAST_RESULT_CHARS, chars
        while least < most:
            middle = (least + most + 1) // 2
            if self._sizes(middle)[turns] <= self._limit:
                least = middle
            else:
                most = middle - 1
        return least


def summary_tokens(limit: int) -> int:
    """How long a summary may be."""
    return max(SUMMARY_LEAST_TOKENS, min(SUMMARY_MOST_TOKENS, int(limit * SUMMARY_SHARE)))


# ---- doing it


def shorten(conversation: Conversation, done: Shortening, fixed: int) -> Conversation:
    """The conversation that goes on, from what is on record."""
    gone = list(_turns(conversation))[: done.turns]
    scale = done.tokens_before / max(1, fixed + estimate_messages(conversation.messages))
    messages = _cut_all(_without(conversation.messages, gone), done.result_chars)
    prompt_at = conversation.prompt_at - sum(len(span) for span in gone if span.start < conversation.prompt_at)
    left_out = conversation.left_out + (0 if done.summary else done.turns)
    summary = done.summary or conversation.summary
    left = replace(conversation, messages=messages, prompt_at=prompt_at, meter=Meter(scale=scale))
    return noted(left, left_out, summary)


def noted(conversation: Conversation, left_out: int, summary: str) -> Conversation:
    """With a note after the prompt of what is no longer there, or was never told to this run."""
    messages, at = conversation.messages, conversation.prompt_at
    prompt = _noted(messages[at], left_out, summary)
    told = (*messages[:at], prompt, *messages[at + 1 :])
    return replace(conversation, messages=told, left_out=left_out, summary=summary)


def going(conversation: Conversation, done: Shortening) -> tuple[Message, ...]:
    """The messages that go, for a summary of them."""
    gone = list(_turns(conversation))[: done.turns]
    return tuple(message for span in gone for message in conversation.messages[span.start : span.stop])


def _turns(conversation: Conversation) -> Iterator[range]:
    """Where the turns stand, the oldest first: exchanges before the prompt, the run's own turns after it."""
    messages, prompt_at = conversation.messages, conversation.prompt_at
    yield from _spans(messages, 0, prompt_at, "user")
    yield from _spans(messages, prompt_at + 1, len(messages), "assistant")


def _spans(messages: tuple[Message, ...], start: int, stop: int, role: str) -> Iterator[range]:
    """Ranges that begin where a message of ``role`` follows one of the other's."""
    begins = [
        at for at in range(start, stop)
        if at == start or (messages[at].role == role != messages[at - 1].role and not _is_told(messages[at]))
    ]  # fmt: skip
    yield from (range(at, end) for at, end in zip(begins, [*begins, stop][1:], strict=True))


def _is_told(message: Message) -> bool:
    return any(isinstance(part, ToolResult) for part in message.parts)


def _without(messages: tuple[Message, ...], gone: list[range]) -> tuple[Message, ...]:
    places = {at for span in gone for at in span}
    return tuple(message for at, message in enumerate(messages) if at not in places)


# ---- words


_SUMMED_UP = "What was said and done before, summed up because the conversation had become too long:\n\n"


def _noted(prompt: Message, left_out: int, summary: str) -> Message:
    """The prompt of the run, with a note of what is no longer there."""
    note = _note(left_out, summary)
    return Message("user", (prompt.parts[0], Text(note))) if note else prompt


def _note(left_out: int, summary: str) -> str:
    words = f"({left_out} earlier turns were left out because the conversation had become too long.)"
    notes = [_SUMMED_UP + summary] * bool(summary) + [words] * bool(left_out)
    return "\n\n".join(notes)


def _cut_all(messages: tuple[Message, ...], chars: int | None) -> tuple[Message, ...]:
    if chars is None:
        return messages
    return tuple(Message(message.role, tuple(_cut(part, chars) for part in message.parts)) for message in messages)


def _cut(part: Part, chars: int) -> Part:
    if not isinstance(part, ToolResult):
        return part
    notice = f"\n… cut: {len(part.content):,} characters in all, and the conversation had become too long."
    if len(part.content) <= chars + len(notice):
        return part
    return msgspec.structs.replace(part, content=part.content[:chars] + notice)
