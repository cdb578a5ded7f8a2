"""Requests and tokens per minute: never more than the bucket and what flows into it, by all processes together."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.metering import pace
from actors.metering.limits import VARIABLE, ModelLimits, rates_of
from actors.metering.pace import ModelRate, Pace
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.kv import Kv
from bus.options import ConnectOptions
from bus.streams import ensure_streams

asks = st.lists(st.tuples(st.floats(0, 90), st.integers(1, 500)), min_size=1, max_size=30)
rates = st.builds(ModelRate, st.none() | st.integers(1, 20), st.none() | st.integers(500, 5_000))


@given(rates, asks)
def test_no_stretch_holds_more_than_the_bucket_and_what_flows_in(
    rate: ModelRate, asked: list[tuple[float, int]]
) -> None:
    """Between any two calls there are no more requests or tokens than a full bucket and the refill; the order of
    asking is kept, and nobody begins before they asked."""
    now_s, state = 1_700_000_000.0, Pace()
    begun: list[tuple[float, int]] = []
    for wait_s, tokens in asked:
        now_s += wait_s
        state, at_s = pace.reserve(rate, state, tokens, now_s)
        state = msgspec.json.decode(msgspec.json.encode(state), type=Pace)
        assert at_s >= now_s
        begun.append((at_s, tokens))
    assert [at_s for at_s, _ in begun] == sorted(at_s for at_s, _ in begun)
    for first, last in itertools.combinations_with_replacement(range(len(begun)), 2):
        minutes = 1 + (begun[last][0] - begun[first][0]) / 60
        assert rate.rpm is None or last - first + 1 <= rate.rpm * minutes + 1e-3
        used = sum(tokens for _, tokens in begun[first : last + 1])
        assert rate.tpm is None or used <= rate.tpm * minutes + 1e-1


@given(st.integers(1, 20), st.integers(1, 40))
def test_nobody_waits_longer_than_is_needed(rpm: int, number: int) -> None:
    """Of many at once a bucketful begins at once, and one more with each part of a minute."""
    state, at = Pace(), []
    for _ in range(number):
        state, at_s = pace.reserve(ModelRate(rpm), state, 10, 1e9)
        at.append(at_s)
    assert at == [pytest.approx(1e9 + max(0, n + 1 - rpm) * 60 / rpm, abs=1e-3) for n in range(number)]


def test_what_was_not_used_is_given_back() -> None:
    """A call that took a tenth of what it had reserved lets the next one begin sooner, one that took more later; one
    that is bigger than the bucket begins, and those after it wait for all of it."""
    rate = ModelRate(tpm=1_000)
    state, _ = pace.reserve(rate, Pace(), 1_000, 1e9)
    _, late_s = pace.reserve(rate, state, 500, 1e9)
    _, soon_s = pace.reserve(rate, pace.settle(rate, state, 1_000, 100), 500, 1e9)
    _, later_s = pace.reserve(rate, pace.settle(rate, state, 1_000, 2_000), 500, 1e9)
    assert (late_s - 1e9, soon_s - 1e9, later_s - 1e9) == (pytest.approx(30), 0, pytest.approx(90))
    state, big_s = pace.reserve(rate, Pace(), 5_000, 1e9)
    assert big_s == 1e9
    assert pace.reserve(rate, state, 1_000, 1e9)[1] == pytest.approx(1e9 + 300)


async def test_processes_share_a_limit(nats_server: EmbeddedServer) -> None:
    """Twelve requests of two processes at ten a minute: ten begin at once, two wait. What is settled frees tokens. A
    provider without a limit costs no message."""
    options = ConnectOptions(servers=[nats_server.url])
    async with await Bus.connect(options) as one, await Bus.connect(options) as two:
        await ensure_streams(one)
        rate = ModelRate(rpm=10, tpm=100_000)
        both = [ModelLimits(bus, {"anthropic": rate}) for bus in (one, two)]
        waits = await asyncio.gather(*(both[n % 2].reserve("anthropic", 100) for n in range(12)))
        assert len([wait_s for wait_s in waits if wait_s == 0]) >= 10
        assert max(waits) < 12
        assert await both[0].reserve("anthropic", 100_000) > 0
        kv = Kv(two, "locks")
        before = await kv.get("_system.rate.model-anthropic")
        await both[1].settle("anthropic", 100_000, 0)
        after = await kv.get("_system.rate.model-anthropic")
        assert before is not None and after is not None
        freed_s = _decode(before.value).tokens_s - _decode(after.value).tokens_s
        assert freed_s == pytest.approx(60, abs=1e-3)
        assert _decode(after.value).tokens_s > time.time() - 60
        assert await both[0].reserve("other", 10**9) == 0
        await both[0].settle("other", 1, 2)
        await both[0].settle("anthropic", 5, 5)
        assert await kv.get("_system.rate.model-other") is None
        last = await kv.get("_system.rate.model-anthropic")
        assert last is not None and last.revision == after.revision


def _decode(raw: bytes) -> Pace:
    return msgspec.json.decode(raw, type=Pace)


def test_settings(tmp_path: Path) -> None:
    """From a text or a file, by provider; without them there is no limit."""
    assert rates_of({}) == {}
    said = {"anthropic": ModelRate(50, 40_000), "openai": ModelRate(500)}
    assert rates_of({VARIABLE: "anthropic=50rpm, 40_000tpm; openai=500rpm;"}) == said
    file = tmp_path / "limits.toml"
    file.write_text("[anthropic]\nrpm = 50\ntpm = 40000\n[openai]\nrpm = 500\n")
    assert rates_of({VARIABLE: str(file)}) == said


@pytest.mark.parametrize(
    "text", ["anthropic", "anthropic=", "anthropic=50", "anthropic=5rps", "anthropic=0rpm", "a b=5rpm", "gone.toml"]
)
def test_settings_that_are_wrong(text: str) -> None:
    """The error says what would be right."""
    with pytest.raises(UsageError, match=r"rpm|whole number"):
        rates_of({VARIABLE: text})
