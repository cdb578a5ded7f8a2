"""Approvals: people are asked by an event, the job parks, and what they answer becomes a decision in the log.

The host decides, by the log's order: before it records a decision it reads the log on, so that no answer is left out
that was stored before an expiry, or before another answer. What is recorded is the decision, for every replay alike.
"""

from __future__ import annotations

from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import msgspec

from actors.jobs.journal import Entry, Pending
from actors.operations.question import Question
from actors.operations.records import Records
from actors.operations.values import raw_of
from bus.approval_events import ApprovalAsked, ApprovalEscalated
from store.approval import Approval, Decision
from store.log import Recorded

NAME = "approval"


class Approvals(Records):
    """``approval``."""

    def approval(self, question: Question) -> Coroutine[Any, Any, Decision]:
        """See ``Job.approval``."""
        return self._approval(self.new_key(NAME), question)

    async def _approval(self, key: str, question: Question) -> Decision:
        self.check_running()
        entry = self.journal.recall(key, NAME, NAME)
        if entry is None:
            await self._may_begin()
            entry = await self._ask_people(key, question)
        while isinstance(entry.outcome, Pending):
            await self._may_begin()
            await self._heed_approval(key, self.journal.approvals[key])
        await self._take_up(entry.sequence)
        decision = msgspec.json.decode(raw_of(entry), type=Decision)
        return decision if question.answer_type is None else _typed(decision, question.answer_type)

    async def _ask_people(self, key: str, question: Question) -> Entry:
        with self._asking():
            await self._append_own(question.asked(self.job, key))
        return self.journal.entries[key]

    async def _heed_approval(self, key: str, approval: Approval) -> None:
        """Record what is due: the decision, or the next escalation; else wait for an answer or the next instant."""
        if approval.decide(datetime.now(UTC)):
            if decision := await self._decide(approval):
                await self._note(key, NAME, msgspec.json.encode(decision))
        elif not await self._escalate(key, approval):
            await self._wait(key, approval.wakes_at())

    async def _decide(self, approval: Approval) -> Decision | None:
        self.busy += 1
        try:
            await self.read_on()
        finally:
            self.rest()
        return approval.decide(datetime.now(UTC))

    async def _escalate(self, key: str, approval: Approval) -> bool:
        """Ask the next roles if it is time for that."""
        step = approval.next_escalation()
        if step is None or datetime.now(UTC) < step[0]:
            return False
        _, level, escalation = step
        await self._append_own(ApprovalEscalated(job=self.job, call=key, level=level, roles=escalation.roles))
        return True

    async def _append_own(self, event: ApprovalAsked | ApprovalEscalated) -> None:
        self.busy += 1
        try:
            self.journal.apply(Recorded(await self.append(event), event))
        finally:
            self.rest()


def _typed(decision: Decision, answer_type: Any) -> Decision:
    """The decision with answers of that type; who rejects need not have answered."""
    answers = tuple(
        answer if answer.answer is None and not answer.approved
        else msgspec.structs.replace(answer, answer=msgspec.convert(answer.answer, answer_type))
        for answer in decision.answers
    )  # fmt: skip
    return msgspec.structs.replace(decision, answers=answers)
