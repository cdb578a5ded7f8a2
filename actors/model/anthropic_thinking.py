"""What Claude's generations take: how they think, whether they know a temperature, whether they may be forced. Pure.

A name that is none of Claude's is that of another server's model, which does as the API did at first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from actors.model.message import RedactedThinking, Thinking
from actors.model.model import ModelRequest
from bus.failure import TerminalError

LEAST_THINKING_TOKENS = 1024
# Models up to 4.5 think within a budget of tokens only; from 4.6 on they choose for themselves how much they think.
_BUDGETED = re.compile(r"claude-(3|instant|2)|claude-(opus|sonnet|haiku)-4(-[0-5])?(-\d{8}|-latest)?$")
# Models up to 4.6 take a temperature, from the older version of the API. Newer ones take none from any version.
_TEMPERATE = re.compile(_BUDGETED.pattern + r"|claude-(opus|sonnet|haiku)-4-6")
# From Fable 5.1 and Opus 5.5 on nobody is made to use a tool, and thoughts are sealed with all that was before them.
_STRICT = re.compile(r"claude-(fable|mythos)-5-\d(?!\d)|claude-[a-z]+-5-[5-9](?!\d)|claude-[a-z]+-([6-9]|\d\d)(?!\d)")
_THOUGHTS = ("thinking", "redacted_thinking")
_EFFORTS = ((2048, "low"), (8192, "medium"))


def takes_temperature(model: str) -> bool:
    """Whether the model knows a temperature."""
    return not model.startswith("claude") or bool(_TEMPERATE.match(model))


def may_be_forced(model: str) -> bool:
    """Whether the model may be made to use a tool. The newest may only be asked to."""
    return not _STRICT.match(model)


def thinking_params(
    request: ModelRequest, said: Sequence[dict[str, Any]], *, asks_tool: bool = False
) -> dict[str, Any]:
    """What is said about thinking: nothing if the model is made to use a tool, since the API refuses both at once.

    ``said``: the conversation in the API's words. ``asks_tool``: the answer is asked for by a tool.
    Raises: TerminalError with code ``bad_request`` for thoughts that do not fit into the answer.
    """
    is_forced = (asks_tool or request.tool_choice not in ("auto", "none")) and may_be_forced(request.model)
    if request.model.startswith("claude") and not _BUDGETED.match(request.model):
        return {} if is_forced else _adaptive(request)
    if not request.thinking_tokens or is_forced or _began_without(said):
        return {}
    if not LEAST_THINKING_TOKENS <= request.thinking_tokens < request.max_tokens:
        raise TerminalError(
            f"{request.model}: thinking_tokens={request.thinking_tokens} has to be {LEAST_THINKING_TOKENS} at least, "
            f"and less than max_tokens={request.max_tokens}, which is for thoughts and answer together",
            code="bad_request",
        )
    return {"thinking": {"type": "enabled", "budget_tokens": request.thinking_tokens}}


def _adaptive(request: ModelRequest) -> dict[str, Any]:
    # Newer models seal their thoughts and show nothing of them, unless they are asked to.
    shown = {"display": "summarized"} if request.thinking_tokens else {}
    effort = next((word for most, word in _EFFORTS if request.thinking_tokens <= most), "high")
    said = {"output_config": {"effort": effort}} if request.thinking_tokens else {}
    # Where an agent has dropped or summed up what was before them, the API leaves thoughts out; else it would refuse.
    bound = {"block_binding": {"prefix_mismatch_behavior": "drop_block"}} if _has_bound_thoughts(request) else {}
    return {"thinking": {"type": "adaptive", **shown, **bound}, **said} if shown or bound else {}


def _has_bound_thoughts(request: ModelRequest) -> bool:
    parts = (part for message in request.messages for part in message.parts)
    return bool(_STRICT.match(request.model)) and any(isinstance(part, Thinking | RedactedThinking) for part in parts)


def _began_without(said: Sequence[dict[str, Any]]) -> bool:
    """A model with a budget that began to use tools without a thought goes on so until it has ended its turn.

    Asked of what is sent: messages of ours that say nothing, or that follow one of their own role, are none there.
    """
    *before, last = said
    if not before or last["content"][0]["type"] != "tool_result":
        return False
    return before[-1]["content"][0]["type"] not in _THOUGHTS
