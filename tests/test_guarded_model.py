"""A guarded model: what a call may cost and did, the circuit that all processes share, and what is counted."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from actors import CircuitOpen
from actors.agents.models import ModelDesk
from actors.breakers.breakers import Breakers
from actors.budgets.ledger import Amount
from actors.metering.call_counts import MODELS_MOST, CallCounts
from actors.metering.costs import Prices
from actors.metering.guarded import GuardedModel
from actors.metering.limits import ModelLimits
from actors.metering.pace import ModelRate
from actors.metering.price import Price
from actors.model import ModelRequest, ScriptedModel, Usage, fail, say
from actors.model.message import user
from actors.node.heart import heartbeat_of
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from supervisor.breaker import Breaker
from supervisor.heartbeat import Heartbeat, decode, encode
from tests.waiting import wait_until

PRICES = Prices({"toy": Price(input=1, output=4)})


def asked(max_tokens: int = 100) -> ModelRequest:
    """A question to the toy model."""
    return ModelRequest(model="toy", messages=(user("How many orders?"),), max_tokens=max_tokens)


async def test_money_and_counts() -> None:
    """What a call may cost bounds what it did cost; calls, tokens, cost and errors are counted for the heartbeat."""
    counts = CallCounts()
    script = ScriptedModel([fail(RetryableError("busy", code="overloaded")), say("twelve")], "toy")
    model = GuardedModel(script, own_prices=PRICES, counts=counts)
    assert (model.provider, model.name) == ("scripted", "toy")
    assert await model.admit(asked()) == 0
    most = model.most(asked())
    tokens = model.count_tokens(asked())
    assert most == Amount(tokens * 1000 + 100 * 4000, tokens + 100, 1)
    with pytest.raises(RetryableError):
        await model.reply(asked())
    reply = await model.reply(asked())
    used = model.used(reply.usage)
    assert used.nano_usd is not None and most.nano_usd is not None
    assert 0 < used.nano_usd <= most.nano_usd and used.turns == 1
    assert model.cost_usd(reply.usage) == used.usd
    [beat] = decode(encode(Heartbeat(pid=1, doing="", models=counts.beats()))).models
    assert (beat.provider, beat.model, beat.outcomes) == ("scripted", "toy", {"overloaded": 1, "ok": 1})
    assert (beat.output_tokens, beat.cost_usd) == (reply.usage.output_tokens, used.usd)
    assert sum(beat.latency) == 2
    assert model.most(ModelRequest(model="unheard-of", messages=())).nano_usd == 0, "a script costs nothing by itself"


async def test_the_heartbeat_of_a_process_tells_them() -> None:
    """What a guarded model counts by itself is in the next heartbeat, whatever the process is."""
    model = GuardedModel(ScriptedModel([say("twelve")], "heard"), own_prices=PRICES)
    await model.reply(msgspec.structs.replace(asked(), model="heard"))
    assert [beat.outcomes for beat in heartbeat_of("serving", 0.0).models if beat.model == "heard"] == [{"ok": 1}]


def test_counts_stay_few() -> None:
    """However many names there are, a heartbeat stays small and no call is left out."""
    counts = CallCounts()
    for n in range(MODELS_MOST + 20):
        counts.note("p", f"m{n}", 700.0, usage=Usage(1))
    beats = counts.beats()
    assert len(beats) == MODELS_MOST + 1
    assert sum(sum(beat.outcomes.values()) for beat in beats) == sum(beat.latency[-1] for beat in beats) == 70


async def test_circuit_and_limits(nats_server: EmbeddedServer) -> None:
    """Errors that pass open the circuit of the provider for all; those that do not pass do not count; while it is open
    no call is made. A call that took fewer tokens than it reserved gives the rest back."""
    policy = Breaker(min_calls=3, window_s=60, open_s=60, max_open_s=60)
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await ensure_streams(bus)
        breakers = Breakers(bus, Blobs(bus), "test")
        try:
            limits = ModelLimits(bus, {"scripted": ModelRate(tpm=10_000)})
            bad = [fail(TerminalError("no", code="bad_request"), times=4), fail(RetryableError("busy"), times=3)]
            script = ScriptedModel([say("one"), *bad, say("never")], "toy")
            model = GuardedModel(script, limits=limits, breakers=breakers, breaker=policy, counts=CallCounts())
            assert await model.admit(asked(9_000)) == 0
            reply = await model.reply(asked(9_000))
            assert await model.admit(asked(9_000)) == 0, "the rest came back"
            later = ModelRequest(model="toy", messages=(user("?"), reply.message, user("and?")))
            for _ in range(4):
                with pytest.raises(TerminalError):
                    await model.reply(later)
            for _ in range(3):
                with pytest.raises(RetryableError):
                    await model.reply(later)
            await wait_until(lambda: breakers.refusal("dep.model-scripted") is not None, 30)
            made = len(script.requests)
            with pytest.raises(CircuitOpen, match=r"dep\.model-scripted"):
                await model.reply(later)
            assert len(script.requests) == made
        finally:
            await breakers.stop()
        await model.close()


async def test_prices_that_are_wrong_are_found_before_a_call(
    server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No model is opened, so nothing is paid for that could not be recorded with its cost."""
    (tmp_path / "prices.json").write_text('{"toy": {"input": 1, "outputs": 2}}')
    monkeypatch.setenv("CALLBOARD_MODEL_PRICES", str(tmp_path / "prices.json"))
    async with await Bus.connect(ConnectOptions(servers=[server.url])) as bus:
        breakers = Breakers(bus, Blobs(bus), "test")
        try:
            with pytest.raises(UsageError, match="prices cannot be read"):
                await ModelDesk(bus, breakers).open(ScriptedModel([say("twelve")]))
        finally:
            await breakers.stop()


async def test_a_model_is_opened_once(server: EmbeddedServer) -> None:
    """Agents that ask for a model at the same moment get one and the same, so none is left that nobody closes."""
    async with await Bus.connect(ConnectOptions(servers=[server.url])) as bus:
        await ensure_streams(bus)
        breakers = Breakers(bus, Blobs(bus), "test")
        desk = ModelDesk(bus, breakers)
        script = ScriptedModel([say("twelve")])
        try:
            first, *others = await asyncio.gather(*(desk.open(script) for _ in range(3)))
            assert all(other is first for other in others)
        finally:
            await desk.close()
            await breakers.stop()
