"""One account: what may be used up, what was, and what is set aside for calls that are under way. Pure.

A call reserves the most that it may cost before it begins, and settles what it did cost afterwards. So what is spent
and set aside never grows beyond a limit by a reservation, however many calls run at once; only a call that takes more
than it had reserved can bring it there. What a call that died had
reserved stays set aside for good: nobody knows what it cost.

Each try of a call has a key of its own. The same key again, after a crash or a lost answer, counts once. Money is kept
as whole billionths of a dollar, so that sums do not depend on the order of adding.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import Any

import msgspec

from actors.budgets.budget import Budget, LimitName, OnOverrun, raised
from bus.errors import UsageError
from bus.failure import TerminalError

NANO = 1_000_000_000
OVERRUN = "budget_exceeded"
# So many settled keys are known as such: 21 KB, written with each change. One that comes again after
# more than that is counted again: too much, and never too little.
SETTLED_KEPT = 1_000
_DIGEST_BYTES = 9


class Amount(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a call uses up. ``nano_usd`` is None if nobody knows the model's price."""

    nano_usd: int | None = 0
    tokens: int = 0
    turns: int = 0

    def __add__(self, other: Amount) -> Amount:
        nano = (self.nano_usd or 0) + (other.nano_usd or 0)
        return Amount(nano, self.tokens + other.tokens, self.turns + other.turns)

    @property
    def usd(self) -> float | None:
        """The same in dollars."""
        return None if self.nano_usd is None else self.nano_usd / NANO


def amount_of(usd: float | None, tokens: int, turns: int = 1) -> Amount:
    """An amount with its money in dollars."""
    return Amount(None if usd is None else round(usd * NANO), tokens, turns)


class Account(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """``parents`` are the accounts that pay as well, the nearest first; ``settled`` holds digests of keys."""

    opened_at: datetime
    limits: Budget
    parents: tuple[str, ...] = ()
    spent: Amount = Amount()
    reserved: dict[str, Amount] = {}
    settled: tuple[str, ...] = ()

    @property
    def used(self) -> Amount:
        """What is spent and what is set aside."""
        return sum(self.reserved.values(), self.spent)

    @property
    def ends_at(self) -> datetime | None:
        """When the time is over, if it is limited."""
        seconds = self.limits.seconds
        return None if seconds is None else self.opened_at + timedelta(seconds=seconds)


class Overrun(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that does not fit: the account and its limit that refused, how much was ``wanted`` and is ``left``.

    ``set_aside`` is what other calls hold that have not been settled.
    For ``seconds`` there is nothing left, and ``wanted`` is how long ago the time was over.
    """

    limit: LimitName
    wanted: float
    left: float
    of: float
    account: str = ""
    on_overrun: OnOverrun = "fail"
    set_aside: float = 0.0

    @property
    def may_pass(self) -> bool:
        """Whether there would be room if the calls that are under way cost nothing: it is worth to wait for them."""
        return 0 < self.set_aside >= self.wanted - self.left

    @property
    def text(self) -> str:
        """The same for people."""
        where = f" of {self.account}" if self.account else ""
        if self.limit == "seconds":
            return f"the budget{where} is over: its {self.of:g} s ended {self.wanted:.1f} s ago"
        wanted, left, of = (_shown(self.limit, value) for value in (self.wanted, self.left, self.of))
        others = f", while other calls hold {_shown(self.limit, self.set_aside)}" if self.set_aside else ""
        return f"the budget{where} is too small: the next call may take {wanted}, and {left} of {of} are left{others}"

    def error(self) -> TerminalError:
        """The failure of what cannot go on."""
        return TerminalError(self.text, code=OVERRUN, details=msgspec.to_builtins(self))


def _shown(limit: LimitName, value: float) -> str:
    return f"${value:,.4f}" if limit == "usd" else f"{value:,.0f} {limit}"


def reserve(account: Account, key: str, amount: Amount, now: datetime) -> Account | Overrun:
    """Set ``amount`` aside for the try ``key``, all of it or nothing.

    Raises: UsageError (``unknown_price``) if money is limited and the amount of it is not known.
    """
    if key in account.reserved or _digest(key) in account.settled:
        return account
    if account.limits.usd is not None and amount.nano_usd is None:
        raise UsageError(
            "a budget in usd needs the price of the model, and it is not known", code="unknown_price",
            hint="name it in the file of CALLBOARD_MODEL_PRICES, or limit tokens instead",
        )  # fmt: skip
    overrun = _late(account, now) or _too_much(account, amount)
    if overrun is not None:
        return overrun
    return msgspec.structs.replace(account, reserved={**account.reserved, key: amount})


def settle(account: Account, key: str, actual: Amount | None) -> Account:
    """What the try did use up, in place of what it had reserved; None: nobody knows, so it counts as that.

    A try that has reserved nothing here is counted too, since what was spent is spent.
    """
    digest = _digest(key)
    if digest in account.settled:
        return account
    reserved = dict(account.reserved)
    held = reserved.pop(key, Amount())
    amount = held if actual is None else actual
    if amount.nano_usd is None and held.nano_usd is not None:
        amount = msgspec.structs.replace(amount, nano_usd=held.nano_usd)
    settled = (*account.settled, digest)[-SETTLED_KEPT:]
    return msgspec.structs.replace(account, spent=account.spent + amount, reserved=reserved, settled=settled)


def release(account: Account, key: str) -> Account:
    """Give back what a try has reserved that never began; it may reserve again."""
    if key not in account.reserved:
        return account
    return msgspec.structs.replace(account, reserved={k: v for k, v in account.reserved.items() if k != key})


def raise_limits(account: Account, to: Budget) -> Account:
    """Each limit that ``to`` names becomes at least that high; doing it twice changes nothing."""
    limits = raised(account.limits, to)
    return account if limits == account.limits else msgspec.structs.replace(account, limits=limits)


def left(account: Account, now: datetime) -> dict[LimitName, float]:
    """What is left of each limit that there is, 0 at least."""
    used, limits = account.used, account.limits
    found: dict[LimitName, float] = {}
    if limits.usd is not None:
        found["usd"] = max(0, round(limits.usd * NANO) - (used.nano_usd or 0)) / NANO
    if limits.tokens is not None:
        found["tokens"] = max(0, limits.tokens - used.tokens)
    if limits.turns is not None:
        found["turns"] = max(0, limits.turns - used.turns)
    if account.ends_at is not None:
        found["seconds"] = max(0.0, (account.ends_at - now).total_seconds())
    return found


def _late(account: Account, now: datetime) -> Overrun | None:
    if account.ends_at is None or now < account.ends_at:
        return None
    return _overrun(account, "seconds", (now - account.ends_at).total_seconds(), 0.0)


def _too_much(account: Account, amount: Amount) -> Overrun | None:
    """The first limit that the amount does not fit into. What costs nothing fits also where too much was spent."""
    used, limits = account.used, account.limits
    parts: list[tuple[LimitName, int | None, int, int, float]] = [
        ("usd", None if limits.usd is None else round(limits.usd * NANO), used.nano_usd or 0, amount.nano_usd or 0,
         NANO),
        ("tokens", limits.tokens, used.tokens, amount.tokens, 1),
        ("turns", limits.turns, used.turns, amount.turns, 1),
    ]  # fmt: skip
    for name, limit, so_far, wanted, unit in parts:
        if limit is not None and wanted and so_far + wanted > limit:
            return _overrun(account, name, wanted / unit, max(0, limit - so_far) / unit)
    return None


def _overrun(account: Account, limit: LimitName, wanted: float, rest: float) -> Overrun:
    of: Any = getattr(account.limits, limit)
    held = sum(account.reserved.values(), Amount())
    set_aside = {"usd": held.usd or 0.0, "tokens": held.tokens, "turns": held.turns}.get(limit, 0.0)
    return Overrun(
        limit=limit, wanted=wanted, left=rest, of=of, on_overrun=account.limits.on_overrun, set_aside=set_aside
    )  # fmt: skip


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=_DIGEST_BYTES).hexdigest()
