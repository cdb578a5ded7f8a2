"""A model that plays a script: for demos without a key, and for users' tests.

    model = ScriptedModel([
        use("sql", {"query": "select count(*) from orders"}, text="Let me look."),
        say("There are 12 orders."),
    ])

Which turn is played follows from the conversation alone: it is the number of messages of the model's own that are
already in it. So a job that is taken over by another process goes on where it was, whoever played the turns before.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

import msgspec

from actors.model.message import Message, Part, Text, Thinking, ToolResult, ToolUse
from actors.model.model import Listen, ModelReply, ModelRequest, StopReason, Usage
from actors.model.pieces import heard
from actors.model.token_estimate import estimate_parts, estimate_request
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError

SHOWN_CHARS = 200
# A demo may run for weeks, and each request holds a whole conversation.
KEPT_REQUESTS = 1_000
_TURNS = "say(...), use(...), fail(...), a ModelReply"


class Say(msgspec.Struct, frozen=True):
    """A turn in which the model speaks, and asks for tools if ``uses`` names any, as (name, arguments)."""

    text: str = ""
    thinking: str = ""
    uses: tuple[tuple[str, dict[str, Any] | str], ...] = ()
    stop: StopReason = "end_turn"


class Fail(msgspec.Struct, frozen=True):
    """Calls that fail before the next turn is played."""

    error: RetryableError | TerminalError
    times: int = 1


Answering = Callable[[ModelRequest], "ModelReply | Say | Fail"]
Turn = Say | Fail | ModelReply | Answering


def say(answer: Any, *, thinking: str = "", stop: StopReason = "end_turn") -> Say:
    """The model says this and stops. What is no text is said as JSON, as for an ``output_schema``."""
    return Say(_text(answer), thinking, (), stop)


def use(tool: str, arguments: dict[str, Any] | str, *more: Any, text: str = "", thinking: str = "") -> Say:
    """The model asks for a tool, or for several at once: ``use("sql", {...}, "chart", {...})``.

    Arguments that are a text are what a model writes that gets its JSON wrong.

    Raises: UsageError if names and arguments do not alternate.
    """
    flat = (tool, arguments, *more)
    pairs = tuple(zip(flat[::2], flat[1::2], strict=False))
    if len(flat) % 2 or not all(isinstance(name, str) and isinstance(given, dict | str) for name, given in pairs):
        raise UsageError("use() takes a tool's name, its arguments, the next name, its arguments",
                         code="bad_script", hint='such as use("sql", {"query": "select 1"})')  # fmt: skip
    return Say(text, thinking, cast("tuple[tuple[str, dict[str, Any] | str], ...]", pairs), "tool_use")


def fail(error: RetryableError | TerminalError, *, times: int = 1) -> Fail:
    """The first ``times`` calls of this turn fail, then the next turn of the script is played.

    They are counted by this process, since a call that failed leaves no trace in the conversation: after a restart
    they fail again. At the end of a script every call fails.
    """
    return Fail(error, times)


class ScriptedModel:
    """A Model that plays ``turns``; a callable in place of them, or among them, looks at the request and answers.

    ``pause_s`` lies between two pieces of a streamed answer. ``requests`` are those that this process was asked, in
    their order, failed ones included; the last thousand.
    """

    provider = "scripted"

    def __init__(self, turns: Sequence[Turn] | Answering, name: str = "scripted", *, pause_s: float = 0.0) -> None:
        self.name = name
        self.requests: list[ModelRequest] = []
        self._answering = turns if callable(turns) else None
        self._steps = [] if callable(turns) else _steps(turns)
        self._pause_s = pause_s
        self._failed: Counter[tuple[bytes, int]] = Counter()

    async def reply(self, request: ModelRequest, listen: Listen | None = None) -> ModelReply:
        """Play the turn that is due. Raises: RetryableError and TerminalError as the script says; TerminalError with
        code ``script_ended`` if the script has no such turn.
        """
        self.requests.append(request)
        del self.requests[:-KEPT_REQUESTS]
        number = turns_played(request)
        reply = _reply(self._play(self._turn(request, number), request), request, number)
        return await heard(reply, listen, self._pause_s)

    def count_tokens(self, request: ModelRequest) -> int:
        """About how many tokens the request is."""
        return estimate_request(request)

    async def close(self) -> None:
        """Nothing is open."""

    def _turn(self, request: ModelRequest, number: int) -> Turn:
        if self._answering is not None:
            return self._answering
        if number >= len(self._steps):
            _ended(self.name, request, number, len([step for step in self._steps if step.turn is not None]))
        step = self._steps[number]
        for place, failure in enumerate(step.failures):
            if self._is_to_fail(request, place, failure) or (step.turn is None and failure is step.failures[-1]):
                raise failure.error.with_traceback(None)
        assert step.turn is not None
        return step.turn

    def _is_to_fail(self, request: ModelRequest, place: int, failure: Fail) -> bool:
        key = (hashlib.sha256(msgspec.json.encode(request.messages)).digest(), place)
        self._failed[key] += 1
        return self._failed[key] <= failure.times

    def _play(self, turn: Turn, request: ModelRequest) -> ModelReply | Say:
        if callable(turn):
            turn = turn(request)
        if isinstance(turn, Fail):
            raise turn.error.with_traceback(None)
        if isinstance(turn, ModelReply | Say):
            return turn
        raise TerminalError(
            f"the script of model {self.name!r} answered with a {type(turn).__name__}; it may with {_TURNS}",
            code="bad_script",
        )


class _Step(msgspec.Struct, frozen=True):
    """One message of the model's: the failures that come before it, and the turn. None: the script ends in failure."""

    failures: tuple[Fail, ...]
    turn: Say | ModelReply | Answering | None


def turns_played(request: ModelRequest) -> int:
    """How many turns of the model's the conversation has."""
    return sum(message.role == "assistant" for message in request.messages)


def _steps(turns: Sequence[Turn]) -> list[_Step]:
    steps: list[_Step] = []
    failures: list[Fail] = []
    for turn in turns:
        if isinstance(turn, Fail):
            failures.append(turn)
        elif isinstance(turn, Say | ModelReply) or callable(turn):
            steps.append(_Step(tuple(failures), turn))
            failures = []
        else:
            raise UsageError(f"turn {len(steps) + 1} of a script is a {type(turn).__name__}", code="bad_script",
                             hint=f"{_TURNS} or a function of the request")  # fmt: skip
    return [*steps, _Step(tuple(failures), None)] if failures else steps


def _reply(played: ModelReply | Say, request: ModelRequest, number: int) -> ModelReply:
    if isinstance(played, ModelReply):
        return played
    parts: list[Part] = [Thinking(played.thinking)] if played.thinking else []
    parts += [Text(played.text)] if played.text else []
    # Ids are of the turn, so that no two of a conversation are the same, and a repeated call gives the same ones.
    parts += [_tool_use(f"use-{number + 1}-{place}", *each) for place, each in enumerate(played.uses, 1)]
    usage = Usage(input_tokens=estimate_request(request), output_tokens=estimate_parts(parts))
    return ModelReply(message=Message("assistant", tuple(parts)), stop=played.stop, usage=usage, model=request.model,
                      id=f"scripted-{number + 1}")  # fmt: skip


def _tool_use(use_id: str, name: str, arguments: dict[str, Any] | str) -> ToolUse:
    if isinstance(arguments, str):
        return ToolUse(use_id, name, {}, malformed=arguments)
    return ToolUse(use_id, name, arguments)


def _ended(name: str, request: ModelRequest, number: int, length: int) -> NoReturn:
    said = _last_said(request)
    raise TerminalError(
        f"scripted model {name!r} was asked for turn {number + 1}, and its script has {length}; "
        f"said last: {said[:SHOWN_CHARS]!r}",
        code="script_ended",
        details={"turn": number + 1, "turns": length, "said_last": said[:SHOWN_CHARS]},
    )


def _last_said(request: ModelRequest) -> str:
    parts = [part for message in request.messages[-1:] for part in message.parts]
    said = [
        part.text if isinstance(part, Text) else part.content for part in parts if isinstance(part, Text | ToolResult)
    ]
    return "\n".join(said)


def _text(answer: Any) -> str:
    return answer if isinstance(answer, str) else msgspec.json.encode(answer).decode()
