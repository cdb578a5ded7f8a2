"""What one process has for asking models: the models themselves, opened once, the limits of providers, the accounts."""

from __future__ import annotations

from actors.breakers.breakers import Breakers
from actors.budgets.accounts import Accounts
from actors.metering.costs import prices
from actors.metering.guarded import GuardedModel
from actors.metering.limits import ModelLimits, rates_of
from actors.model.model import Model
from bus.connection import Bus


class ModelDesk:
    """Shared by all agents of a process. Nothing is opened before one asks. ``breakers`` stay their maker's."""

    def __init__(self, bus: Bus, breakers: Breakers) -> None:
        self.accounts = Accounts(bus)
        self._bus = bus
        self._breakers = breakers
        self._limits: ModelLimits | None = None
        self._open: dict[str | Model, GuardedModel] = {}

    async def open(self, model: str | Model) -> GuardedModel:
        """The model of a reference, or the one that is given, with the provider's limits and circuit around it.

        Raises: UsageError for a reference that leads nowhere, or limits or prices that cannot be read.
        """
        if model not in self._open:
            await self._breakers.start()
        if model not in self._open:  # nobody else has opened it meanwhile, whose connections would never be closed
            self._limits = self._limits or ModelLimits(self._bus, rates_of())
            self._open[model] = GuardedModel(
                _opened(model), limits=self._limits, breakers=self._breakers, own_prices=prices()
            )  # prices are read now: a file that is wrong must not be found out after a call is paid for
        return self._open[model]

    async def close(self) -> None:
        """Close what was opened here."""
        for ref, model in self._open.items():
            if isinstance(ref, str):
                await model.close()
        self._open.clear()


def _opened(model: str | Model) -> Model:
    if not isinstance(model, str):
        return model
    from actors.model.open_model import open_model

    return open_model(model)
