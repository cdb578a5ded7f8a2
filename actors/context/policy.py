"""How a conversation is kept under a limit of tokens: what an author says, and what models are known to take. Pure."""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

import msgspec

from bus.errors import UsageError
from supervisor.number import is_count

Policy = Literal["drop", "summarise", "fail"]
DEFAULT_KEEP_TURNS = 4

# Windows that each model of a family has without asking for more. What some have beyond that costs extra or has to be
# asked for, so it is for who says it with limit_tokens.
_WINDOWS = (
    (re.compile(r"claude"), 200_000),
    (re.compile(r"gpt-4\.1"), 1_000_000),
    (re.compile(r"gpt-4o"), 128_000),
    (re.compile(r"gpt-[5-9]"), 272_000),
    (re.compile(r"o[134](-|$)"), 200_000),
)


class Context(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is done when the next request of a run would be longer than ``limit_tokens``.

    ``drop``: the oldest turns go, and a note says so. ``summarise``: one more call of the model, on record and paid for
    like any other, sums them up. ``fail``: the run fails (``context_too_long``). The newest ``keep_turns`` turns stay
    as long as the rest makes room enough; the prompt of the run and its last turn always do.
    ``limit_tokens`` None: what the model is known to take, less ``max_tokens`` for its answer; no limit if nobody
    knows. Raises: UsageError for values that cannot be.
    """

    limit_tokens: int | None = None
    policy: Policy = "drop"
    keep_turns: int = DEFAULT_KEEP_TURNS

    def __post_init__(self) -> None:
        if self.limit_tokens is not None and not is_count(self.limit_tokens):
            raise _bad("limit_tokens", self.limit_tokens, "a whole number from 1, or None for the model's own")
        if self.policy not in get_args(Policy):
            raise _bad("policy", self.policy, "drop, summarise or fail")
        if not is_count(self.keep_turns):
            raise _bad("keep_turns", self.keep_turns, "a whole number from 1")

    def for_model(self, model: str, max_tokens: int) -> Context:
        """With the limit of that model, if there is none yet and the model is known."""
        window = window_of(model)
        if self.limit_tokens is not None or window is None:
            return self
        return msgspec.structs.replace(self, limit_tokens=max(1, window - max_tokens))


def window_of(model: str) -> int | None:
    """How many tokens of conversation and answer a model takes, None for one that nobody here knows."""
    bare = model.rpartition("/")[2]
    return next((tokens for family, tokens in _WINDOWS if family.match(bare)), None)


def _bad(name: str, value: Any, right: str) -> UsageError:
    return UsageError(f"context: {name} cannot be {value!r}", code="bad_option", path=name, hint=right)
