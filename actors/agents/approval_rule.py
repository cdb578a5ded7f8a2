"""Which uses of tools people have to allow: by the tool, by its arguments, by what the run has cost so far. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from actors.workflow.expression import BadExpression, parse
from bus.approval_events import Escalation
from bus.errors import UsageError

_VARIABLES = frozenset({"input", "tool", "cost_usd", "tokens", "turn"})


class RequireApproval(msgspec.Struct, frozen=True, kw_only=True):
    """People are asked before ``tool`` is used ("*": any), if ``when`` holds.

    ``when`` is a CEL expression over ``input`` (the arguments), ``tool``, ``cost_usd``, ``tokens`` and ``turn`` (of
    this run so far): ``input.amount > 100.0 || cost_usd > 0.5``. Empty: always; one that has no value for these
    arguments counts as true, since what a rule cannot judge must not slip through. Who approves may edit the
    arguments unless ``edit`` is False. ``roles``, ``quorum``, ``expires_s`` and ``escalate`` as for ``Job.approval``.
    Raises: UsageError for an expression that is none.
    """

    tool: str = "*"
    when: str = ""
    roles: tuple[str, ...] = ()
    quorum: int = 1
    expires_s: float | None = None
    escalate: tuple[Escalation, ...] = ()
    edit: bool = True

    def __post_init__(self) -> None:
        if not self.when:
            return
        found = parse(self.when)
        if isinstance(found, BadExpression):
            raise UsageError(f"when {self.when!r} {found.message}", code="bad_expression", path="when", hint=found.hint)
        if unknown := sorted(found.variables - _VARIABLES):
            raise UsageError(
                f"when {self.when!r} names {', '.join(unknown)}", code="bad_expression", path="when",
                hint=f"there is {', '.join(sorted(_VARIABLES))}",
            )  # fmt: skip

    def holds(self, facts: dict[str, Any]) -> bool:
        """Whether people have to be asked, given ``input``, ``tool``, ``cost_usd``, ``tokens`` and ``turn``."""
        if self.tool not in ("*", facts["tool"]):
            return False
        if not self.when:
            return True
        # What computes conditions is of the interpreter's room, which no other agent has to load.
        from actors.interpreter.formula import Formula, FormulaFailed, Scope

        try:
            return Formula(self.when, "when").truth(Scope(variables=facts))
        except FormulaFailed:
            return True


def rule_for(rules: Sequence[RequireApproval], facts: dict[str, Any]) -> RequireApproval | None:
    """The first rule that holds: it says who is asked."""
    return next((rule for rule in rules if rule.holds(facts)), None)


def as_rules(approve: Sequence[RequireApproval | str]) -> tuple[RequireApproval, ...]:
    """Rules as an author writes them: the name of a tool stands for a rule that always holds."""
    return tuple(RequireApproval(tool=rule) if isinstance(rule, str) else rule for rule in approve)
