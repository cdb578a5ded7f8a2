"""The ledger of one account: reservations keep within the limits, and nothing is settled twice or lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Budget
from actors.budgets import ledger
from actors.budgets.ledger import Account, Amount, Overrun, amount_of
from bus.errors import UsageError

NOW = datetime(2026, 11, 1, tzinfo=UTC)
keys = st.sampled_from([f"job/model:{n}" for n in range(1, 9)])
amounts = st.builds(Amount, st.integers(0, 900), st.integers(0, 900), st.integers(0, 2))
budgets = st.builds(
    Budget, st.none() | st.integers(1, 2_000).map(lambda n: n / ledger.NANO), st.none() | st.integers(1, 2_000),
    st.none() | st.integers(1, 6),
)  # fmt: skip
steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), keys, amounts),
        st.tuples(st.just("settle"), keys, st.none() | amounts),
        st.tuples(st.just("release"), keys, st.none()),
    ),
    max_size=40,
)


def opened(budget: Budget) -> Account:
    """A fresh account."""
    return Account(opened_at=NOW, limits=budget)


def again(account: Account) -> Account:
    """What another process reads of it."""
    return msgspec.json.decode(msgspec.json.encode(account), type=Account)


def fits(account: Account, before: Account) -> bool:
    """Whether what is used keeps within each limit, or is no more than it was."""
    pairs = zip(_rests(account), _rests(before), strict=True)
    return all(rest >= 0 or rest == rest_before for rest, rest_before in pairs)


def _rests(account: Account) -> list[float]:
    used, limits = account.used, account.limits
    pairs = [(limits.tokens, used.tokens), (limits.turns, used.turns)]
    pairs.append((None if limits.usd is None else round(limits.usd * ledger.NANO), used.nano_usd or 0))
    return [limit - so_far for limit, so_far in pairs if limit is not None]


@given(budgets, steps)
def test_accounting(budget: Budget, done: list[tuple[str, str, Any]]) -> None:
    """Whatever is done, twice each time: a reservation leaves the limits kept, what is spent is the sum of what was
    settled first under each key, and what is set aside is what was reserved and neither settled nor given back."""
    account = opened(budget)
    held: dict[str, Amount] = {}
    settled: dict[str, Amount] = {}
    for verb, key, amount in done:
        if verb == "reserve":
            after = ledger.reserve(account, key, amount, NOW)
            if isinstance(after, Overrun):
                assert after.wanted > after.left
                continue
            assert fits(after, account)
            assert ledger.reserve(after, key, Amount(10**9, 10**9, 9), NOW) == after
            if key not in settled:
                held.setdefault(key, amount)
        elif verb == "settle":
            after = ledger.settle(account, key, amount)
            assert ledger.settle(after, key, Amount(10**9)) == after
            if key not in settled:
                before = held.pop(key, Amount())
                settled[key] = before if amount is None else amount
        else:
            after = ledger.release(account, key)
            held.pop(key, None)
        account = again(after)
        assert account == after
        assert account.spent == sum(settled.values(), Amount())
        assert account.reserved == held


@given(st.dictionaries(keys, st.tuples(amounts, st.none() | amounts), min_size=1), st.randoms(use_true_random=False))
def test_the_order_of_settling_is_no_matter(tries: dict[str, tuple[Amount, Amount | None]], shuffle: Any) -> None:
    """Whoever is done first, the same is spent and the same is left."""
    account = opened(Budget())
    for key, (reserved, _) in tries.items():
        after = ledger.reserve(account, key, reserved, NOW)
        assert isinstance(after, Account)
        account = after
    ends = []
    for _ in range(2):
        order = list(tries)
        shuffle.shuffle(order)
        end = account
        for key in order:
            end = ledger.settle(end, key, tries[key][1])
        ends.append((end.spent, end.reserved, set(end.settled)))
    assert ends[0] == ends[1]
    assert not ends[0][1]


@given(budgets, st.lists(st.tuples(keys, amounts), max_size=8), budgets)
def test_raised_limits(budget: Budget, tries: list[tuple[str, Amount]], to: Budget) -> None:
    """No limit falls, none appears, and raising twice is raising once."""
    account = opened(budget)
    for key, amount in tries:
        after = ledger.reserve(account, key, amount, NOW)
        account = account if isinstance(after, Overrun) else after
    raised = ledger.raise_limits(account, to)
    assert ledger.raise_limits(raised, to) is raised
    for name in ("usd", "tokens", "turns"):
        before, after_limit = getattr(budget, name), getattr(raised.limits, name)
        assert (after_limit is None) == (before is None)
        assert before is None or after_limit >= before
    assert fits(raised, account)


def test_a_dead_call_stays_reserved() -> None:
    """What nobody knows the cost of is not given to others; the next try needs room of its own."""
    account = opened(Budget(tokens=100))
    first = ledger.reserve(account, "j/model:1#1", Amount(tokens=60), NOW)
    assert isinstance(first, Account)
    second = ledger.reserve(first, "j/model:1#2", Amount(tokens=60), NOW)
    assert isinstance(second, Overrun)
    assert (second.limit, second.wanted, second.left, second.of, second.set_aside) == ("tokens", 60, 40, 100, 60)
    assert second.text.endswith("40 tokens of 100 tokens are left, while other calls hold 60 tokens")
    assert ledger.left(ledger.settle(first, "j/model:1#1", None), NOW) == {"tokens": 40}
    more = ledger.raise_limits(first, Budget(tokens=120, usd=5))
    assert more.limits == Budget(tokens=120)
    assert isinstance(ledger.reserve(more, "j/model:1#2", Amount(tokens=60), NOW), Account)


def test_time_runs_out() -> None:
    """No call begins after the end; raising the limit of seconds lets calls begin again."""
    account = opened(Budget(seconds=60, on_overrun="ask"))
    assert account.ends_at == NOW + timedelta(seconds=60)
    late = NOW + timedelta(seconds=75)
    overrun = ledger.reserve(account, "k", Amount(turns=1), late)
    assert isinstance(overrun, Overrun)
    assert (overrun.limit, overrun.wanted, overrun.on_overrun) == ("seconds", 15, "ask")
    assert "60 s ended 15.0 s ago" in overrun.text
    assert isinstance(ledger.reserve(ledger.raise_limits(account, Budget(seconds=90)), "k", Amount(), late), Account)


def test_money_is_exact() -> None:
    """Ten times a tenth of a dollar is a dollar, and not a billionth more; the refusal says all of it."""
    account = opened(Budget(usd=1))
    for n in range(10):
        after = ledger.reserve(account, f"k{n}", amount_of(0.1, 1_000), NOW)
        assert isinstance(after, Account)
        account = ledger.settle(after, f"k{n}", amount_of(0.1, 900))
    overrun = ledger.reserve(account, "k10", amount_of(0.000_001, 1), NOW)
    assert isinstance(overrun, Overrun)
    failure = msgspec.structs.replace(overrun, account="default.j").error()
    assert failure.code == "budget_exceeded"
    assert "default.j" in str(failure) and "$0.0000 of $1.0000" in str(failure)
    assert failure.details is not None and failure.details["limit"] == "usd"


def test_unknown_price() -> None:
    """Without a limit in money it does no harm; with one the refusal says how to give a price."""
    unknown = amount_of(None, 500)
    free = ledger.reserve(opened(Budget(tokens=1_000)), "k", unknown, NOW)
    assert isinstance(free, Account)
    assert free.used == Amount(0, 500, 1)
    with pytest.raises(UsageError, match="CALLBOARD_MODEL_PRICES") as refused:
        ledger.reserve(opened(Budget(usd=1)), "k", unknown, NOW)
    assert refused.value.code == "unknown_price"
    priced = ledger.reserve(opened(Budget(usd=1)), "k", amount_of(0.5, 500), NOW)
    assert isinstance(priced, Account)
    assert ledger.settle(priced, "k", unknown).spent.usd == 0.5


def test_what_was_settled_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account stays small; a key that comes again after that counts again: too much, and never too little."""
    monkeypatch.setattr(ledger, "SETTLED_KEPT", 3)
    account = opened(Budget())
    for n in range(5):
        account = ledger.settle(account, f"k{n}", Amount(tokens=1))
    assert len(account.settled) == 3
    assert ledger.settle(account, "k4", Amount(tokens=1)).spent.tokens == 5
    assert ledger.settle(account, "k0", Amount(tokens=1)).spent.tokens == 6


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"usd": 0}, "usd"), ({"usd": float("nan")}, "usd"), ({"usd": True}, "usd"), ({"tokens": 1.5}, "tokens"),
        ({"turns": 0}, "turns"), ({"seconds": -1}, "seconds"), ({"on_overrun": "stop"}, "on_overrun"),
    ],
)  # fmt: skip
def test_budgets_that_cannot_be(fields: dict[str, Any], path: str) -> None:
    """The error names the field, when it is built and when it is read."""
    with pytest.raises(UsageError, match="has to be") as refused:
        Budget(**fields)
    assert refused.value.path == path
    if fields.get(path) == fields.get(path):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(msgspec.json.encode(fields), type=Budget)
