"""What pays for the calls of one run: accounts from which each call reserves before it is made, and settles after.

The reservation is on record, so a replay makes none. A crash between a call's record and its settling leaves the
reservation standing; the next fresh step of the run settles it.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from actors.budgets.budget import Budget
from actors.budgets.ledger import Amount, Overrun
from actors.operations.operations import Operations
from actors.operations.question import make_question
from bus.errors import BusError
from bus.failure import CallFailed, Failure, failure_of

log = logging.getLogger("callboard.budgets")

BUDGET = "budget"
# Somebody who is asked for more is offered half as much again, and may say another number.
_MORE = 1.5
# Most answers take less; a reservation that a dead call left behind is never given back.
_WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0, *(15.0,) * 7)

MakeAmount = Callable[[], Awaitable[Amount | None]]


class Reserved(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record of one reservation: the key that it has in the accounts, or why there was none."""

    key: str
    overrun: Overrun | None = None


class Purse:
    """The chain of accounts that pays for one job, the nearest first; an empty one pays for everything."""

    def __init__(self, ops: Operations, who: str) -> None:
        self._ops = ops
        self._who = who
        self._late: dict[str, MakeAmount] = {}
        self._held: dict[str, str] = {}  # what was reserved in this life of the run, and the key that it has now

    @property
    def _chain(self) -> tuple[str, ...]:
        return self._ops.budgets

    async def open(self, budget: Budget) -> None:
        """Open the job's own account, once, on record. A fork's first records are of its source's account."""
        ops = self._ops
        own, *parents = ops.budgets

        async def make() -> str:
            await ops.hosting.models.accounts.open(ops.workspace, ops.job, budget, parents)
            return own

        while await ops.record("budget-opened", make, op=BUDGET) != own:
            pass

    async def reserve(self, most: Callable[[], Awaitable[Amount]]) -> str:
        """Set aside what a call may cost at most; the key to settle it by, empty if nobody keeps accounts.

        What other calls hold for the moment is waited for, durably, for two minutes or so. Raises: CallFailed
        (``budget_exceeded``) if there is no room and nobody makes any.
        """
        waits_s = iter(_WAITS_S)
        while self._chain:
            record = await self._ops.step(BUDGET, "budget-reserved", lambda key: self._reserve(key, most))
            reserved = msgspec.convert(record, Reserved)
            if reserved.overrun is None:
                return reserved.key
            if reserved.overrun.may_pass and (wait_s := next(waits_s, None)):
                await self._ops.sleep(wait_s)
            else:
                await self._overrun(reserved.overrun)
        return ""

    async def _reserve(self, key: str, most: Callable[[], Awaitable[Amount]]) -> Reserved:
        await self._settle_late()
        accounts, whole = self._ops.hosting.models.accounts, f"{self._ops.workspace}.{self._ops.job}/{key}"
        found = await accounts.reserve(self._chain, whole, await most())
        if isinstance(found, Overrun):
            return Reserved(whole, found)
        self._held[whole] = whole
        return Reserved(whole)

    async def hold(self, key: str, most: Callable[[], Awaitable[Amount]]) -> None:
        """Before the call itself: a reservation of an earlier life may have been used up by a call that nobody knows
        of, so it stays as spent, and this call has one of its own. Raises: CallFailed (``budget_exceeded``).
        """
        if not key or key in self._held:
            return
        again = f"{key}+{secrets.token_hex(4)}"
        found = await self._ops.hosting.models.accounts.reserve(self._chain, again, await most())
        if isinstance(found, Overrun):
            raise CallFailed(failure_of(found.error()))
        self._held[key] = again

    async def settle(self, key: str, actual: MakeAmount) -> None:
        """What the call did cost. Of a call that an earlier life recorded, that has most likely settled it."""
        if not key:
            return
        if key not in self._held:
            self._late[key] = actual
            return
        try:
            await self._ops.hosting.models.accounts.settle(self._chain, self._held[key], await actual())
        except BusError as error:
            log.warning("%s: %s; what it reserved counts as spent until the run's next step", key, error)
            self._late[self._held[key]] = actual

    async def close(self) -> None:
        """The run is over: what is still open is settled, on record."""
        if self._chain:
            await self._ops.record("budget-settled", self._settle_late, op=BUDGET)

    async def _settle_late(self) -> None:
        late, self._late = self._late, {}
        if not late:
            return
        accounts = self._ops.hosting.models.accounts
        account = await accounts.read(self._chain[0])
        for key, actual in late.items():
            if account is not None and key in account.reserved:
                await accounts.settle(self._chain, key, await actual())

    # ---- no room

    async def _overrun(self, overrun: Overrun) -> None:
        """Fail, or ask people for more. Raises: CallFailed."""
        if overrun.on_overrun == "fail":
            raise CallFailed(failure_of(overrun.error()))
        question = make_question(
            f"{self._who} needs a larger budget", details=msgspec.to_builtins(overrun), answer=None, roles=(), quorum=1,
            expires_s=None, escalate=(), edit={overrun.limit: _suggested(overrun)},
        )  # fmt: skip
        decision = await self._ops.approval(question)
        if not decision.approved:
            failure = failure_of(overrun.error())
            message = f"{failure.message}, and nobody allowed more"
            raise CallFailed(msgspec.structs.replace(failure, message=message))
        limits = _limits(overrun, decision.edited)
        accounts = self._ops.hosting.models.accounts
        await self._ops.record("budget-raised", lambda: accounts.raise_limits(overrun.account, limits), op=BUDGET)


def _suggested(overrun: Overrun) -> float:
    """A limit under which the call would fit, with some room."""
    limit = (overrun.of - overrun.left + overrun.wanted) * _MORE
    return int(limit) + 1 if overrun.limit in ("tokens", "turns") else round(limit, 4)


def _limits(overrun: Overrun, edited: dict[str, Any]) -> Budget:
    """Raises: CallFailed for a number that can be no limit."""
    try:
        return msgspec.convert({overrun.limit: edited.get(overrun.limit, _suggested(overrun))}, Budget)
    except msgspec.ValidationError as error:
        message = f"the larger budget cannot be: {error}"
        raise CallFailed(Failure(code="bad_budget", message=message, retryable=False)) from error
