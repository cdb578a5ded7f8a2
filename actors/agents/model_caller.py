"""Asking a model as a step of the job: recorded once it has answered, tried again durably while it cannot."""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Any

import msgspec

from actors.agents.conversation import ModelStep
from actors.agents.live_text import LiveText
from actors.model.model import Model, ModelRequest
from actors.operations.operations import Operations
from bus.crash import crash_point
from bus.failure import CallFailed
from supervisor.retry import Again, Retry, decide

MODEL = "model"


class ModelCaller:
    """Calls one model for one job. It is opened by the first call that is made: a replay makes none."""

    def __init__(self, ops: Operations, model: str | Model, retry: Retry) -> None:
        self._ops = ops
        self._model = model
        self._retry = retry

    async def ask(self, request: ModelRequest) -> ModelStep:
        """What the model says. Each attempt is on record, and so is the wait before the next one.

        Raises: CallFailed when the attempts are spent, or none can help.
        """
        attempt = 1
        while True:
            try:
                step = await self._ops.step(MODEL, MODEL, partial(self._call, request))
                return msgspec.convert(step, ModelStep)
            except CallFailed as error:
                decision = decide(self._retry, attempt, error.failure, random.random())
                if not isinstance(decision, Again):
                    raise
                await self._ops.sleep(decision.delay_s)
            attempt += 1

    async def _call(self, request: ModelRequest, key: str) -> Any:
        began_s = time.monotonic()
        ops = self._ops
        model = ops.hosting.models.open(self._model)
        crash_point("agent.before_model")
        async with LiveText(ops.hosting.bus, ops.workspace, ops.job, key) as live:
            reply = await model.reply(request, live.hear)
        crash_point("agent.after_model")
        return ModelStep(
            reply=reply, provider=model.provider, model=reply.model or request.model, usage=reply.usage,
            duration_s=round(time.monotonic() - began_s, 3),
        )  # fmt: skip
