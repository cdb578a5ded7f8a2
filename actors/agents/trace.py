"""What an agent did, read from its log: prompts, thoughts, uses of tools and what came of them, answers. Pure.

Only what is on record is shown, and all of it: a trace of a job that runs is what is known by now.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from actors.agents.conversation import ModelStep
from actors.agents.model_caller import MODEL
from actors.agents.run import RUN, RunRecord
from actors.agents.tool_use import REFUSED
from actors.context.keeper import CONTEXT, SUMMARY
from actors.context.shortening import Shortening
from actors.model.message import RedactedThinking, Thinking, ToolUse
from actors.model.model import StopReason, Usage
from bus.failure import Failure
from store.approval import ApprovalView
from store.view import CallView, JobState, JobView

ActionState = Literal["asked", "waiting", "running", "retrying", "completed", "failed", "refused"]
_BRANCH = re.compile(r"gather:(\d+)\.(\d+)/(.*)")


class Allowed(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who allowed a use of a tool, or did not; ``approved`` None: nobody has decided yet."""

    approved: bool | None = None
    by: tuple[str, ...] = ()
    comments: tuple[str, ...] = ()
    edited: dict[str, Any] = {}


class Action(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One use of a tool. ``input`` is what the model wrote, ``call`` the key in the log, ``child`` an agent's or job's.

    ``observation`` is what the tool gave, ``reason`` why it did not run.
    """

    tool: str
    input: dict[str, Any]
    state: ActionState = "asked"
    call: str = ""
    child: str = ""
    attempts: int = 0
    duration_s: float | None = None
    observation: Any = None
    failure: Failure | None = None
    reason: str = ""
    allowed: Allowed | None = None


class Shortened(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The conversation had become too long: what went. ``usage`` and ``cost_usd`` are those of a summary's call."""

    call: str
    done: Shortening
    usage: Usage = Usage()
    cost_usd: float | None = None


class Turn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call of the model: what it thought and said, and what it had done.

    ``failures`` came before it answered, and so did ``shortened``. ``reused``: a fork has it from its source, which
    paid for it.
    """

    call: str
    thoughts: str = ""
    words: str = ""
    stop: StopReason | None = None
    usage: Usage = Usage()
    cost_usd: float | None = None
    duration_s: float = 0.0
    failures: tuple[Failure, ...] = ()
    shortened: tuple[Shortened, ...] = ()
    actions: tuple[Action, ...] = ()
    reused: bool = False


class Run(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One ``agent.run``. It was told ``earlier`` exchanges of its ``thread``, if it went on with one."""

    call: str
    prompt: str
    model: str
    tools: tuple[str, ...] = ()
    thread: str = ""
    earlier: int = 0
    turns: tuple[Turn, ...] = ()


class Trace(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job's runs in their order, and what they took together, without its children's, and what it reused."""

    job: str
    agent: str
    state: JobState
    runs: tuple[Run, ...] = ()
    usage: Usage = Usage()
    cost_usd: float | None = None
    children: tuple[str, ...] = ()
    failure: Failure | None = None


def trace_of(view: JobView) -> Trace:
    """The trace of a job as it stands."""
    runs = tuple(_runs(view))
    turns = [turn for run in runs for turn in run.turns]
    paid: list[Turn | Shortened] = [turn for turn in turns if not turn.reused]
    paid += [each for turn in turns for each in turn.shortened]
    costs = [each.cost_usd for each in paid if each.cost_usd is not None]
    return Trace(
        job=view.job, agent=view.workflow, state=view.state, runs=runs,
        usage=sum((each.usage for each in paid), Usage()), cost_usd=sum(costs) if costs else None,
        children=tuple(call.child for call in view.calls if call.child), failure=view.failure,
    )  # fmt: skip


def _runs(view: JobView) -> Iterator[Run]:
    """Each run with the calls of its branch from its beginning to that of the next run in the same branch."""
    places = [(index, call) for index, call in enumerate(view.calls) if call.kind == RUN]
    for index, begun in places:
        if begun.state != "completed":
            continue
        branch = _branch_of(begun.call)
        others = [at for at, other in places if at > index and _branch_of(other.call) == branch]
        end = min(others, default=len(view.calls))
        calls = [call for call in view.calls[index + 1 : end] if call.call.startswith(branch)]
        record = msgspec.json.decode(begun.output, type=RunRecord)
        thread, earlier = (record.earlier.thread, len(record.earlier.exchanges)) if record.earlier else ("", 0)
        yield Run(
            call=begun.call, prompt=record.prompt, model=record.model, tools=tuple(tool.name for tool in record.tools),
            thread=thread, earlier=earlier, turns=tuple(_turns(calls, branch, view.approvals)),
        )  # fmt: skip


def _branch_of(call: str) -> str:
    """What stands before the name in a key: ``gather:1.0/`` of ``gather:1.0/model:2``."""
    return call[: call.rfind("/") + 1]


def _turns(calls: Sequence[CallView], branch: str, approvals: Sequence[ApprovalView]) -> Iterator[Turn]:
    gathers = _gathers(calls, branch)
    before = Turn(call="")
    paid: ModelStep | None = None
    for call in calls:
        if call.kind not in (MODEL, CONTEXT) or _branch_of(call.call) != branch:
            continue
        if call.state != "completed":
            before = _failed(before, call)
        elif call.kind == CONTEXT:
            before, paid = _shortened(before, call, None if call.copied else paid), None
        elif call.name == SUMMARY:
            paid = msgspec.json.decode(call.output, type=ModelStep)
        else:
            step = msgspec.json.decode(call.output, type=ModelStep)
            uses = step.reply.message.tool_uses
            branches = next(gathers, {}) if uses else {}
            yield _turn(before, call, step, tuple(_actions(uses, branches, approvals)))
            before = Turn(call="")
    if before.failures or before.shortened:
        yield before


def _failed(turn: Turn, call: CallView) -> Turn:
    failures = (*turn.failures, *([call.failure] if call.failure else []))
    return msgspec.structs.replace(turn, failures=failures)


def _shortened(turn: Turn, call: CallView, paid: ModelStep | None) -> Turn:
    done = msgspec.json.decode(call.output, type=Shortening)
    usage, cost_usd = (paid.usage, paid.cost_usd) if paid else (Usage(), None)
    found = Shortened(call=call.call, done=done, usage=usage, cost_usd=cost_usd)
    return msgspec.structs.replace(turn, shortened=(*turn.shortened, found))


def _turn(before: Turn, call: CallView, step: ModelStep, actions: tuple[Action, ...]) -> Turn:
    """``before``: what came before it answered."""
    said = step.reply.message
    thoughts = [part.thinking for part in said.parts if isinstance(part, Thinking)]
    thoughts += ["(hidden by the provider)" for part in said.parts if isinstance(part, RedactedThinking)]
    return msgspec.structs.replace(
        before, call=call.call, thoughts="\n".join(thoughts), words=said.text, stop=step.reply.stop, usage=step.usage,
        cost_usd=step.cost_usd, duration_s=step.duration_s, actions=actions, reused=call.copied,
    )  # fmt: skip


def _gathers(calls: Iterable[CallView], branch: str) -> Iterator[dict[int, list[CallView]]]:
    """What was done side by side, turn for turn: the calls of each branch."""
    found: dict[int, dict[int, list[CallView]]] = {}
    for call in calls:
        if place := _BRANCH.fullmatch(call.call[len(branch) :]):
            found.setdefault(int(place[1]), {}).setdefault(int(place[2]), []).append(call)
    yield from (found[number] for number in sorted(found))


def _actions(
    uses: Sequence[ToolUse], branches: dict[int, list[CallView]], approvals: Sequence[ApprovalView]
) -> Iterator[Action]:
    for index, use in enumerate(uses):
        yield _action(use, branches.get(index, []), approvals)


def _action(use: ToolUse, calls: Sequence[CallView], approvals: Sequence[ApprovalView]) -> Action:
    action = Action(tool=use.name, input=use.input)
    for call in calls:
        if call.kind == "approval":
            view = next((found for found in approvals if found.step == call.call), None)
            state: ActionState = "waiting" if call.ended_at is None else "asked"
            action = msgspec.structs.replace(action, allowed=_allowed(view) if view else Allowed(), state=state)
        elif call.name == REFUSED and call.kind == "local":
            reason = msgspec.json.decode(call.output)["reason"]
            action = msgspec.structs.replace(action, state="refused", reason=reason)
        elif call.kind in ("tool", "agent", "job"):
            action = _ran(action, call)
    return action


def _ran(action: Action, call: CallView) -> Action:
    return msgspec.structs.replace(
        action, call=call.call, state=call.state, child=call.child, attempts=call.attempts, duration_s=call.duration_s,
        observation=msgspec.json.decode(call.output) if call.state == "completed" else None, failure=call.failure,
    )  # fmt: skip


def _allowed(view: ApprovalView) -> Allowed:
    approved = {"approved": True, "rejected": False, "expired": False}.get(view.state)
    answers = view.answers
    edited: dict[str, Any] = {}
    for answer in answers:
        edited |= answer.edited
    return Allowed(
        approved, tuple(answer.by for answer in answers), tuple(a.comment for a in answers if a.comment), edited
    )
