"""What was used of models, and budgets: ``callboard usage``."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import msgspec

from actors.budgets.budget import Budget, LimitName
from actors.budgets.ledger import Account, Amount, left
from actors.budgets.usage import ModelUse, Use
from actors.console.amount import ago, duration, plural
from actors.console.page import Column, Page, SheetBuilder, Span, line, one_line

_USE_COLUMNS = (
    Column("job", shrink=True), Column("workflow", shrink=True), Column("model"), Column("calls", "right"),
    Column("input", "right"), Column("cached", "right"), Column("output", "right"), Column("usd", "right"),
)  # fmt: skip


class AccountRow(msgspec.Struct, frozen=True, kw_only=True):
    """One budget, for people and programs. ``left`` has the limits that there are; dollars, tokens, turns, seconds."""

    job: str
    opened_at: datetime
    limits: Budget
    parents: tuple[str, ...]
    spent_usd: float
    spent_tokens: int
    spent_turns: int
    reserved_usd: float
    reserved_tokens: int
    under_way: int
    left: dict[LimitName, float]


def usage_page(use: Use) -> Page:
    """A row for each model of each job, children below their parent, and the sum."""
    if not use.total:
        return [line("no model was called")]
    builder = SheetBuilder(_USE_COLUMNS)
    for job in use.jobs:
        first = ["  " * job.depth + one_line(job.job), one_line(job.workflow)]
        for number, model in enumerate(job.models or (None,)):
            names = first if number == 0 else ["", ""]
            builder.add(*names, *(_cells(model) if model else [""] * 6))
    for model in use.total:
        builder.add(Span("total", "strong"), "", *_cells(model))
    return [builder.sheet(_note(use))]


def _cells(use: ModelUse) -> list[str]:
    usage = use.usage
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    cost = "?" if use.unpriced == use.calls else _usd(use.cost_usd) + (" + ?" if use.unpriced else "")
    return [one_line(use.model), f"{use.calls:,}", f"{usage.input_tokens:,}", f"{cached:,}",
            f"{usage.output_tokens:,}", cost]  # fmt: skip


def _note(use: Use) -> str:
    unknown = f"; the price of {plural(use.unpriced, 'call')} is not known" if use.unpriced else ""
    return f"${_usd(use.cost_usd)} in {plural(sum(each.calls for each in use.total), 'call')}{unknown}"


def _usd(value: float) -> str:
    return f"{value:,.4f}"


# ---- budgets


def account_rows(accounts: Mapping[str, Account], now: datetime) -> list[AccountRow]:
    """The budgets by job, the newest first."""
    return [
        AccountRow(
            job=job, opened_at=account.opened_at, limits=account.limits, parents=account.parents,
            spent_usd=account.spent.usd or 0.0, spent_tokens=account.spent.tokens, spent_turns=account.spent.turns,
            reserved_usd=held.usd or 0.0, reserved_tokens=held.tokens, under_way=len(account.reserved),
            left=left(account, now),
        )
        for job, account in sorted(accounts.items(), key=lambda pair: pair[1].opened_at, reverse=True)
        for held in (sum(account.reserved.values(), Amount()),)
    ]  # fmt: skip


def account_page(rows: list[AccountRow], now: datetime) -> Page:
    """A table of budgets."""
    if not rows:
        return [line("no job has a budget")]
    builder = SheetBuilder(
        [Column("job", shrink=True), Column("spent $", "right"), Column("tokens", "right"), Column("turns", "right"),
         Column("set aside $", "right"), Column("left"), Column("opened")]
    )  # fmt: skip
    for row in rows:
        builder.add(
            one_line(row.job), _usd(row.spent_usd), f"{row.spent_tokens:,}", f"{row.spent_turns:,}",
            _usd(row.reserved_usd) if row.under_way else "", _left(row), ago(row.opened_at, now),
        )  # fmt: skip
    return [builder.sheet(plural(len(rows), "budget"))]


def _left(row: AccountRow) -> Span:
    texts = [_rest(name, value, row.limits) for name, value in row.left.items()]
    is_over = any(value <= 0 for value in row.left.values())
    return Span(", ".join(texts) or "no limit", "warn" if is_over else "")


def _rest(name: LimitName, value: float, limits: Budget) -> str:
    if name == "seconds":
        return f"{duration(value)} of {duration(limits.seconds)}"
    if name == "usd":
        return f"${_usd(value)} of ${_usd(limits.usd or 0)}"
    return f"{value:,.0f} of {getattr(limits, name):,} {name}"
