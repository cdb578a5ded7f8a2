"""Accounts shared by all processes: bucket ``budgets``, key ``<workspace>.<job>`` of the job that opened it.

A call draws on a chain of accounts, the nearest first: that of its own agent, and those of all agents above it that
have a budget, through whatever jobs stand in between. It is given room in all of them or in none. A crash in between
leaves room set aside under the key of that try, and the same key again finds it there. An account goes 30 days after
its last use.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

import msgspec

from actors.budgets import ledger
from actors.budgets.budget import Budget
from actors.budgets.ledger import Account, Amount, Overrun
from bus import subjects
from bus.cells import Cells
from bus.connection import Bus
from bus.errors import UsageError
from bus.event import utc_now
from bus.kv import Kv
from bus.reader import read_all
from bus.streams import BUDGETS, stream_info

log = logging.getLogger("callboard.budgets")

BUCKET = "budgets"


class Granted(msgspec.Struct, frozen=True, omit_defaults=True):
    """There is room in all accounts. ``ends_at``: when the first of them runs out of time, None if none does."""

    ends_at: datetime | None = None


class Accounts:
    """One process's way to all accounts. Nothing is done until it is asked."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._cells = Cells(bus, BUCKET, Account)

    async def open(self, workspace: str, job: str, budget: Budget, parent: Sequence[str] = ()) -> tuple[str, ...]:
        """Open the account of a job, once; the chain of its calls: its own account, then ``parent``, its job's chain.

        Doing it again changes nothing, so a job that is taken up again finds what it has spent. Raises: BusError.
        """
        own = account_key(workspace, job)
        if own not in parent:
            fresh = Account(opened_at=utc_now(), limits=budget, parents=tuple(parent))
            await self._cells.change(own, lambda there: (there or fresh, None))
        return tuple(dict.fromkeys((own, *parent)))

    async def reserve(self, chain: Sequence[str], key: str, amount: Amount) -> Granted | Overrun:
        """Set ``amount`` aside in all accounts of the chain, or in none. ``key`` names one try of one call.

        The same key again is granted again and counts once. Raises: UsageError (``unknown_price``, ``no_account``),
        BusError.
        """
        ends_at: list[datetime] = []
        for place, account in enumerate(chain):
            try:
                found = await self._reserve(account, key, amount)
            except UsageError:
                await self.release(chain[:place], key)
                raise
            if isinstance(found, Overrun):
                await self.release(chain[:place], key)
                return found
            ends_at += [found.ends_at] if found.ends_at else []
        return Granted(min(ends_at, default=None))

    async def _reserve(self, name: str, key: str, amount: Amount) -> Account | Overrun:
        def step(there: Account | None) -> tuple[Account | None, Account | Overrun]:
            after = ledger.reserve(_there(name, there), key, amount, utc_now())
            if isinstance(after, Overrun):
                return there, msgspec.structs.replace(after, account=name)
            return after, after

        return await self._cells.change(name, step)

    async def settle(self, chain: Sequence[str], key: str, actual: Amount | None) -> None:
        """What the try did use up, in all accounts, in place of what it had reserved; None: nobody knows.

        Doing it again changes nothing. An account that is gone is left out. Raises: BusError.
        """
        for name in chain:
            await self._cells.change(name, lambda there: (there and ledger.settle(there, key, actual), None))

    async def release(self, chain: Sequence[str], key: str) -> None:
        """Give back what a try has reserved that never began. Raises: BusError."""
        for name in reversed(chain):
            await self._cells.change(name, lambda there: (there and ledger.release(there, key), None))

    async def raise_limits(self, name: str, to: Budget) -> Account:
        """Each limit of the account that ``to`` names becomes at least that high; doing it again changes nothing.

        Raises: UsageError (``no_account``), BusError.
        """

        def step(there: Account | None) -> tuple[Account, Account]:
            after = ledger.raise_limits(_there(name, there), to)
            return after, after

        return await self._cells.change(name, step)

    async def read(self, name: str) -> Account | None:
        """One account. Raises: BusError."""
        return await self._cells.read(name)

    async def all(self, workspace: str) -> dict[str, Account]:
        """Every account of a workspace, by the job that opened it. Raises: BusError."""
        if await stream_info(self._bus, BUDGETS) is None:  # no node has ever been here
            return {}
        kv = Kv(self._bus, BUCKET)
        entries = [kv.entry_of(stored) for stored in await read_all(self._bus, BUDGETS, f"{kv.prefix}{workspace}.*")]
        return {
            entry.key.partition(".")[2]: msgspec.json.decode(entry.value, type=Account)
            for entry in entries
            if not entry.deleted
        }


def account_key(workspace: str, job: str) -> str:
    """The key of a job's account. Raises: UsageError for what can be no name."""
    return f"{subjects.check_name(workspace, 'workspace')}.{subjects.check_job_id(job)}"


def _there(name: str, account: Account | None) -> Account:
    if account is None:
        raise UsageError(
            f"there is no account {name}", code="no_account", hint="it was never opened, or not used for 30 days"
        )
    return account
