"""Asking a model as a step of the job: paid for, recorded once it has answered, tried again durably while it cannot."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from functools import partial
from typing import Any

import msgspec

from actors.agents.conversation import ModelStep
from actors.agents.live_text import LiveText
from actors.agents.purse import Purse
from actors.budgets.ledger import OVERRUN, Amount
from actors.model.model import Model, ModelRequest
from actors.operations.operations import Operations
from bus.crash import crash_point
from bus.failure import CallFailed, Failure
from supervisor.retry import Again, Retry, decide

log = logging.getLogger("callboard.model")

MODEL = "model"
# A wait that somebody who looks on would wonder about.
TOLD_WAIT_S = 1.0
# Refused before anything was read or said, so nothing is charged for it. Of others nobody knows.
_FREE = frozenset({
    "overloaded", "rate_limited", "unauthorized", "bad_request", "context_too_long", "unknown_model", "circuit_open",
    "unreachable", OVERRUN,
})  # fmt: skip


class ModelCaller:
    """Calls one model for one job. It is opened by the first call that is made: a replay makes none."""

    def __init__(self, ops: Operations, model: str | Model, retry: Retry, purse: Purse) -> None:
        self._ops = ops
        self._model = model
        self._retry = retry
        self._purse = purse

    async def ask(self, request: ModelRequest, name: str = MODEL) -> ModelStep:
        """What the model says. Each attempt is on record, and so is the wait before the next one.

        ``name`` is what the steps are called; only those that are called ``model`` are said live.

        Raises: CallFailed when the attempts are spent, or none can help, or the budget has no room for one.
        """
        attempt = 1
        while True:
            paid_by = await self._purse.reserve(partial(self._most, request))
            try:
                record = await self._ops.step(MODEL, name, partial(self._call, request, paid_by, name))
            except CallFailed as error:
                await self._purse.settle(paid_by, partial(self._lost, error.failure))
                if error.failure.code == OVERRUN:
                    continue  # what there is no room for is said, or asked for, with the next reservation
                decision = decide(self._retry, attempt, error.failure, random.random())
                if not isinstance(decision, Again):
                    raise
                await self._ops.sleep(decision.delay_s)
            else:
                step = msgspec.convert(record, ModelStep)
                await self._purse.settle(paid_by, partial(self._used, step))
                return step
            attempt += 1

    async def _call(self, request: ModelRequest, paid_by: str, name: str, key: str) -> Any:
        ops = self._ops
        model = await ops.hosting.models.open(self._model)
        await self._purse.hold(paid_by, partial(self._most, request))
        await self._wait_for_limits(await model.admit(request), model.provider)
        began_s = time.monotonic()
        crash_point("agent.before_model")
        if name == MODEL:
            async with LiveText(ops.hosting.bus, ops.workspace, ops.job, key) as live:
                reply = await model.reply(request, live.hear)
        else:
            reply = await model.reply(request)
        crash_point("agent.after_model")
        return ModelStep(
            reply=reply, provider=model.provider, model=reply.model or request.model, usage=reply.usage,
            cost_usd=model.cost_usd(reply.usage, request.model), duration_s=round(time.monotonic() - began_s, 3),
        )  # fmt: skip

    async def _wait_for_limits(self, wait_s: float, provider: str) -> None:
        if wait_s >= TOLD_WAIT_S:
            log.info("%s waits %.0f s for the limits of %s", self._ops.job, wait_s, provider)
        await asyncio.sleep(wait_s)

    # ---- money

    async def _most(self, request: ModelRequest) -> Amount:
        return (await self._ops.hosting.models.open(self._model)).most(request)

    async def _used(self, step: ModelStep) -> Amount:
        return (await self._ops.hosting.models.open(self._model)).used(step.usage, step.model)

    async def _lost(self, failure: Failure) -> Amount | None:
        """Of a call that failed: its turn, or what nobody knows."""
        return Amount(turns=1) if failure.code in _FREE else None
