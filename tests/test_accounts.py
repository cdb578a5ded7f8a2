"""Accounts that processes share, each on a connection of its own: chains, crashes, lost answers, and children."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from actors import App, Budget, Job
from actors.budgets.accounts import Accounts, Granted
from actors.budgets.ledger import Account, Amount, Overrun
from actors.jobs.order import read_order
from bus import headers as h
from bus.cells import Cells
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import Ambiguous, Fenced, Unreadable, UsageError
from bus.event import Parent
from bus.kv import Kv
from bus.messages import JobSubmitted
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from store.log import read_job
from tests.troupe import troupe

SPACE = "test-accounts"


@pytest.fixture
async def buses(server: EmbeddedServer) -> AsyncIterator[tuple[Bus, Bus]]:
    """The connections of two processes."""
    options = ConnectOptions(servers=[server.url])
    async with await Bus.connect(options, name="one") as one, await Bus.connect(options, name="two") as two:
        await ensure_streams(one)
        yield one, two


def tokens(number: int) -> Amount:
    """So many tokens, in one turn."""
    return Amount(0, number, 1)


async def test_many_at_once_keep_within_the_limit(buses: tuple[Bus, Bus]) -> None:
    """Forty calls of two processes want a tenth of the budget each: ten get it, and what they settle frees the rest."""
    both = [Accounts(bus) for bus in buses]
    chain = await both[0].open(SPACE, "many", Budget(tokens=1_000))
    assert chain == await both[1].open(SPACE, "many", Budget(tokens=5)), "who opens it again finds it as it was"
    said = await asyncio.gather(*(both[n % 2].reserve(chain, f"many/{n}", tokens(100)) for n in range(40)))
    granted = [n for n, each in enumerate(said) if isinstance(each, Granted)]
    assert len(granted) == 10
    refused = next(each for each in said if isinstance(each, Overrun))
    assert (refused.account, refused.limit) == (f"{SPACE}.many", "tokens")
    await asyncio.gather(*(both[(n + 1) % 2].settle(chain, f"many/{n}", tokens(10)) for n in [*granted, *granted]))
    account = await both[0].read(chain[0])
    assert account is not None
    assert account.spent == Amount(0, 100, 10)
    assert not account.reserved
    assert isinstance(await both[0].reserve(chain, "many/40", tokens(900)), Granted)


async def test_a_chain_reserves_in_all_or_in_none(buses: tuple[Bus, Bus]) -> None:
    """The inner budget is large and the outer one is not: what the outer one refuses leaves no trace in the inner."""
    accounts = Accounts(buses[0])
    outer = await accounts.open(SPACE, "outer", Budget(tokens=100, seconds=3600))
    inner = await accounts.open(SPACE, "inner", Budget(tokens=1_000), outer)
    assert inner == (f"{SPACE}.inner", f"{SPACE}.outer")
    granted = await accounts.reserve(inner, "a", tokens(70))
    assert isinstance(granted, Granted)
    held = {key: await accounts.read(key) for key in inner}
    assert all(account and account.reserved == {"a": tokens(70)} for account in held.values())
    there = held[outer[0]]
    assert there is not None and granted.ends_at == there.ends_at
    refused = await accounts.reserve(inner, "b", tokens(70))
    assert isinstance(refused, Overrun) and refused.account == outer[0]
    account = await accounts.read(inner[0])
    assert account is not None and list(account.reserved) == ["a"]
    assert (await accounts.raise_limits(outer[0], Budget(tokens=140))).limits.tokens == 140
    assert isinstance(await accounts.reserve(inner, "b", tokens(70)), Granted)
    assert set(await accounts.all(SPACE)) >= {"outer", "inner"}


async def test_a_crash_between_two_accounts_leaks_nothing(buses: tuple[Bus, Bus]) -> None:
    """Whoever goes on with the same key finds what was set aside before, in the account that was asked already."""
    one, two = (Accounts(bus) for bus in buses)
    outer = await one.open(SPACE, "crash-outer", Budget(tokens=100))
    inner = await one.open(SPACE, "crash-inner", Budget(tokens=100), outer)
    await one.reserve(inner[:1], "k", tokens(80))  # and the process died before it asked the second one
    assert isinstance(await two.reserve(inner, "k", tokens(80)), Granted)
    for name in inner:
        account = await two.read(name)
        assert account is not None and account.reserved == {"k": tokens(80)}


async def test_an_answer_that_is_lost(buses: tuple[Bus, Bus], monkeypatch: pytest.MonkeyPatch) -> None:
    """The write may have been stored: it is looked for, and what it did is done once."""
    accounts = Accounts(buses[0])
    chain = await accounts.open(SPACE, "lost", Budget(tokens=100))
    really, writes = Bus.append, 0

    async def append(self: Bus, subject: str, body: bytes, **more: Any) -> int:
        nonlocal writes
        writes += 1
        sequence = await really(self, subject, body, **more)
        if writes % 2:
            raise Ambiguous("no answer")
        return sequence

    monkeypatch.setattr(Bus, "append", append)
    assert isinstance(await accounts.reserve(chain, "k", tokens(100)), Granted)
    await accounts.settle(chain, "k", tokens(30))
    monkeypatch.setattr(Bus, "append", really)
    account = await accounts.read(chain[0])
    assert account is not None
    assert (account.spent, account.reserved) == (tokens(30), {})


async def test_accounts_that_are_gone(buses: tuple[Bus, Bus]) -> None:
    """Nothing is reserved without one, in the accounts before it neither; settling leaves it out, and a name that can
    be no key is refused."""
    accounts = Accounts(buses[0])
    chain = await accounts.open(SPACE, "there", Budget(usd=1))
    with pytest.raises(UsageError, match="never opened") as refused:
        await accounts.reserve((*chain, f"{SPACE}.gone"), "k", tokens(1))
    assert refused.value.code == "no_account"
    account = await accounts.read(chain[0])
    assert account is not None and not account.reserved
    await accounts.settle((f"{SPACE}.gone",), "k", tokens(1))
    assert await accounts.read(f"{SPACE}.gone") is None
    with pytest.raises(UsageError, match="job id"):
        await accounts.open(SPACE, "a.b", Budget())
    with pytest.raises(UsageError, match="CALLBOARD_MODEL_PRICES"):
        await accounts.reserve(chain, "k", Amount(None, 1, 1))


async def test_cells_begin_anew_after_a_deletion(buses: tuple[Bus, Bus]) -> None:
    """A key that was deleted holds nothing, and is written again; a value that is no such value is an error."""
    cells, kv = Cells(buses[0], "budgets", Account), Kv(buses[1], "budgets")
    accounts = Accounts(buses[0])
    [key] = await accounts.open(SPACE, "deleted", Budget(tokens=1))
    assert await cells.read(key) is not None
    await kv.delete(key)
    assert await cells.read(key) is None
    await accounts.open(SPACE, "deleted", Budget(tokens=2))
    account = await cells.read(key)
    assert account is not None and account.limits.tokens == 2
    await kv.put(key, b"[]")
    with pytest.raises(Unreadable, match="deleted"):
        await cells.read(key)


async def test_cells_ask_again_when_somebody_was_faster(
    buses: tuple[Bus, Bus], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hundred additions of two processes to one number are all there, and some of them had to be done again."""
    both = [Cells(bus, "budgets", int) for bus in buses]
    really, fenced = Bus.append, 0

    async def append(self: Bus, subject: str, body: bytes, **more: Any) -> int:
        nonlocal fenced
        try:
            return await really(self, subject, body, **more)
        except Fenced:
            fenced += 1
            raise

    monkeypatch.setattr(Bus, "append", append)
    key = f"{SPACE}.number"
    await asyncio.gather(*(cells.change(key, lambda n: ((n or 0) + 1, None)) for cells in both for _ in range(100)))
    assert await both[0].read(key) == 200
    assert fenced > 0


# ---- how children come to know who pays

family = App("family", version="1.0.0")


@family.job
async def child(job: Job, depth: int) -> list[str]:
    """Start two more below this one, until it is deep enough."""
    if depth == 0:
        return [job.id]
    below = await job.gather(job.call(child, depth=depth - 1), job.call(child, depth=depth - 1))
    return [job.id, *(one for some in below for one in some)]


async def test_children_know_the_accounts_of_their_parents(nats_server: EmbeddedServer) -> None:
    """Through plain jobs, two levels down and side by side, each job has the chain that the first one came with."""
    chain = ("default.lead", "default.top")
    parent = Parent("default", "lead", "child:1", "agent", 1, chain)
    async with troupe(nats_server.url, family) as on:
        await on.submit("child", "c", {"depth": 2}, **{h.JOB_PARENT: msgspec.json.encode(parent).decode()})
        end = await on.end("c", deadline_s=60)
        jobs = msgspec.json.decode(end.output, type=list[str])
        assert len(set(jobs)) == 7
        for job in jobs:
            [first, *_] = await read_job(on.bus, on.blobs, "default", job)
            assert isinstance(first.event, JobSubmitted) and first.event.parent is not None
            assert first.event.parent.budgets == chain


@pytest.mark.parametrize("accounts", [["rich.lead"], ["default.lead", "rich.lead"], ["default."], ["default.a.b"], [5]])
async def test_nobody_has_another_workspace_pay(accounts: list[object]) -> None:
    """A request that names an account of another workspace, or none, is refused with the header's name."""
    parent = {"workspace": "default", "job": "j", "call": "x", "workflow": "w", "budgets": accounts}
    headers = {h.JOB_ID: "c", h.JOB_PARENT: msgspec.json.encode(parent).decode()}
    delivery: Any = SimpleNamespace(subject="jobs.default.child", headers=headers, body=b"{}", stored_ns=0, sequence=1)
    with pytest.raises(UsageError) as refused:
        await read_order(delivery, cast("Blobs", None))
    assert (refused.value.code, refused.value.path) == ("bad_header", h.JOB_PARENT)
