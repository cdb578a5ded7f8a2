"""A model with all that stands around a call of it: the price, the provider's limits, its circuit, and the counting.

One call of an agent, each part by whom it is done:

1. ``Accounts.reserve(chain, key, guarded.most(request))``: the budget. An Overrun ends it or asks a person.
2. ``await guarded.admit(request)``: how many seconds to wait for the provider's limits. The job sleeps so long.
3. ``await guarded.reply(request, listen)``: the circuit, the call, the counting. The reply is recorded.
4. ``Accounts.settle(chain, key, guarded.used(reply.usage))``: what it did cost. For a call that failed before it cost
   anything it is ``Amount(turns=1)``, for one of which nobody knows None.

Nothing here is recorded, and all of it may be done again after a crash: then the limits count a request twice.
"""

from __future__ import annotations

import logging
import time

from actors.breakers.breakers import Breakers
from actors.breakers.dependency import Dependency
from actors.budgets.ledger import Amount
from actors.metering.call_counts import COUNTS, CallCounts
from actors.metering.costs import NANO, Prices, prices
from actors.metering.limits import ModelLimits
from actors.model.model import Listen, Model, ModelReply, ModelRequest, Usage
from bus.errors import BusError
from bus.failure import failure_of
from supervisor.breaker import Breaker

log = logging.getLogger("callboard.model")

# A provider that is away stays so for minutes, and few calls are made: less is needed to see it, and a probe costs.
BREAKER = Breaker(min_calls=5, window_s=60.0, open_s=10.0, max_open_s=120.0)


class GuardedModel:
    """A :class:`Model` too. Without ``limits`` and ``breakers`` it needs no bus; ``own_prices`` None: the process's."""

    def __init__(
        self, model: Model, *, limits: ModelLimits | None = None, breakers: Breakers | None = None,
        breaker: Breaker = BREAKER, own_prices: Prices | None = None, counts: CallCounts = COUNTS,
    ) -> None:  # fmt: skip
        self._model = model
        self._limits = limits
        self._breakers = breakers
        self._breaker = breaker
        self._prices = own_prices
        self._counts = counts

    @property
    def provider(self) -> str:
        """Whose it is."""
        return self._model.provider

    @property
    def name(self) -> str:
        """The provider's name of the model."""
        return self._model.name

    # ---- money

    def most(self, request: ModelRequest) -> Amount:
        """What the call may use up: its input as it is estimated, and all of the output that it allows.

        Its ``nano_usd`` is None if the price is not known. Raises: UsageError (a file of prices that cannot be read).
        """
        input_tokens = self._model.count_tokens(request)
        price = self._known_prices.of(request.model, self.provider)
        nano = None if price is None else price.most_nano_usd(input_tokens, request.max_tokens)
        return Amount(nano, input_tokens + request.max_tokens, 1)

    def used(self, usage: Usage, model: str = "") -> Amount:
        """What a call did use up. ``model`` is the one that was asked, if it is another than this one's."""
        price = self._known_prices.of(model or self.name, self.provider)
        return Amount(None if price is None else price.nano_usd(usage), usage.tokens, 1)

    def cost_usd(self, usage: Usage, model: str = "") -> float | None:
        """The same in dollars; None if nobody knows the price."""
        nano = self.used(usage, model).nano_usd
        return None if nano is None else nano / NANO

    @property
    def _known_prices(self) -> Prices:
        return self._prices or prices()

    # ---- the call

    async def admit(self, request: ModelRequest) -> float:
        """Reserve the provider's limits; in how many seconds the call may be made. Raises: BusError."""
        if self._limits is None or self.provider not in self._limits:
            return 0.0
        return await self._limits.reserve(self.provider, self._reserved(request))

    def _reserved(self, request: ModelRequest) -> int:
        return self._model.count_tokens(request) + request.max_tokens

    async def reply(self, request: ModelRequest, listen: Listen | None = None) -> ModelReply:
        """Make the call, once. Raises: CircuitOpen (a RetryableError) without having made it; RetryableError,
        TerminalError.
        """
        async with Dependency(self._breakers, f"model-{self.provider}", self._breaker):
            began_s = time.monotonic()
            try:
                reply = await self._model.reply(request, listen)
            except Exception as error:
                code = failure_of(error).code
                self._counts.note(self.provider, request.model, time.monotonic() - began_s, code)
                raise
        cost_usd = self.cost_usd(reply.usage, request.model)
        self._counts.note(self.provider, request.model, time.monotonic() - began_s, "ok", reply.usage, cost_usd)
        await self._settle_limits(request, reply.usage)
        return reply

    async def _settle_limits(self, request: ModelRequest, usage: Usage) -> None:
        """What was read from a cache is not counted by providers. The reply is worth more than this."""
        if self._limits is None or self.provider not in self._limits:
            return
        try:
            await self._limits.settle(self.provider, self._reserved(request), usage.tokens - usage.cache_read_tokens)
        except BusError as error:
            log.warning("limits of %s: %s; the rest of a reservation is lost", self.provider, error)

    # ---- as the model itself

    def count_tokens(self, request: ModelRequest) -> int:
        """About how many tokens the request is."""
        return self._model.count_tokens(request)

    async def close(self) -> None:
        """Close the model's connections; limits and breakers belong to who made them."""
        await self._model.close()
