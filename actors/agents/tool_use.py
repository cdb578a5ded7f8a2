"""One use of a tool that a model asked for: checked, allowed by people where a rule says so, and run durably.

Whatever goes wrong is told to the model, which may mend it; what was refused before anything ran is on record too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from actors.agents.approval_rule import RequireApproval, rule_for
from actors.agents.offer import Offered
from actors.components.codec import InvalidInput
from actors.components.input_check import check_fit
from actors.jobs.call_policy import CallPolicy
from actors.model.message import ToolResult, ToolUse
from actors.operations.operations import Operations
from actors.operations.question import make_question
from bus.errors import UsageError
from bus.failure import CallFailed, Failure
from store.approval import Decision

REFUSED = "refused"
# More than this is no observation but a document: the tool should give a part, or an artifact.
RESULT_LIMIT_CHARS = 60_000
# Of these the model's own words are the cause, whoever found that out.
_MODELS_FAULT = frozenset({"invalid_input", "invalid_json"})


@dataclass(frozen=True)
class MadeCall:
    """A call of a tool that gave something. ``call`` is its key in the log; ``output`` is plain JSON values."""

    call: str
    tool: str
    input: dict[str, Any]
    output: Any


@dataclass(frozen=True)
class Observation:
    """What the model is told; ``wrong`` says what it has to mend, if the fault was its own."""

    result: ToolResult
    wrong: str = ""
    made: MadeCall | None = None


class ToolUser:
    """Uses tools for one run."""

    def __init__(
        self, ops: Operations, offered: list[Offered], rules: tuple[RequireApproval, ...], policy: CallPolicy, who: str
    ) -> None:
        self._ops = ops
        self._offered = {tool.name: tool for tool in offered}
        self._rules = rules
        self._policy = policy
        self._who = who

    async def use(self, use: ToolUse, why: str, facts: dict[str, Any]) -> Observation:
        """Do it, in a branch of its own. ``why`` are the model's words, ``facts`` what rules may go by."""
        try:
            tool = self._wanted(use)
            check_fit(tool.input_schema, use.input, f"input of {tool.name}", InvalidInput)
        except UsageError as error:
            return await self._refuse(use, str(error), wrong=True)
        values = use.input
        if rule := rule_for(self._rules, {**facts, "input": values, "tool": tool.name}):
            decision = await self._ask_people(rule, tool, use, why)
            if not decision.approved:
                return await self._refuse(use, _rejection(decision), wrong=False)
            values = decision.edited if rule.edit and decision.edited else values
            try:
                check_fit(tool.input_schema, values, f"input of {tool.name}", InvalidInput)
            except InvalidInput as error:
                return await self._refuse(use, f"who approved it edited it: {error}", wrong=False)
        return await self._run(tool, use, values)

    def _wanted(self, use: ToolUse) -> Offered:
        """Raises: UsageError for arguments that are no JSON, and a tool that there is not."""
        tool = self._offered.get(use.name)
        if tool is None:
            names = ", ".join(self._offered) or "no tools"
            raise UsageError(f"there is no tool {use.name!r}", code="unknown_tool", hint=f"you have {names}")
        if use.malformed:
            shown = use.malformed if len(use.malformed) <= 300 else f"{use.malformed[:300]}…"
            raise InvalidInput(f"the arguments of {use.name} are no JSON object: {shown}", hint="write them anew")
        return tool

    async def _refuse(self, use: ToolUse, why: str, *, wrong: bool) -> Observation:
        note = {"tool": use.name, "input": use.input, "reason": why}
        await self._ops.record(REFUSED, lambda: note)
        return Observation(ToolResult(use.id, why, is_error=True), why if wrong else "")

    async def _ask_people(self, rule: RequireApproval, tool: Offered, use: ToolUse, why: str) -> Decision:
        details = {"agent": self._who, "tool": tool.name, "input": use.input, "why": why[:2000]}
        question = make_question(
            f"{self._who} wants to use {tool.name}", details=details, answer=None, roles=rule.roles, quorum=rule.quorum,
            expires_s=rule.expires_s, escalate=rule.escalate, edit=use.input if rule.edit and use.input else None,
        )  # fmt: skip
        return await self._ops.approval(question)

    async def _run(self, tool: Offered, use: ToolUse, values: dict[str, Any]) -> Observation:
        try:
            if tool.kind == "tool":
                output = await self._ops.call_plainly(tool.ref, values, self._policy)
            else:
                output = await self._ops.run_plainly(tool.kind, tool.ref, values, None, waits=True)
        except CallFailed as error:
            words = _failure_text(error.failure)
            wrong = words if error.failure.code in _MODELS_FAULT else ""
            return Observation(ToolResult(use.id, words, is_error=True), wrong)
        made = MadeCall(self._ops.last_key(tool.name), tool.name, values, output)
        return Observation(ToolResult(use.id, _text_of(output)), made=made)


def _text_of(output: Any) -> str:
    text = output if isinstance(output, str) else msgspec.json.encode(output).decode()
    if len(text) <= RESULT_LIMIT_CHARS:
        return text
    return f"{text[:RESULT_LIMIT_CHARS]}\n… cut: {len(text):,} characters in all. Ask for less."


def _failure_text(failure: Failure) -> str:
    place = f" (at {failure.path})" if failure.path else ""
    hint = f" {failure.hint}" if failure.hint else ""
    return f"{failure.code}: {failure.message}{place}{hint}"


def _rejection(decision: Decision) -> str:
    if decision.expired:
        return "nobody allowed it in time"
    if (answer := decision.rejection) is None:
        return "it was not allowed"
    return ": ".join(filter(None, (f"{answer.by or 'somebody'} did not allow it", answer.comment)))
