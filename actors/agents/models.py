"""The models that one process asks: opened once, shared by all its runs."""

from __future__ import annotations

from actors.model.model import Model


class OpenModels:
    """Opened by reference, closed together."""

    def __init__(self) -> None:
        self._open: dict[str, Model] = {}

    def open(self, model: str | Model) -> Model:
        """The model of a reference; a Model is what it is. Raises: UsageError for a reference that leads nowhere."""
        if not isinstance(model, str):
            return model
        if model not in self._open:
            from actors.model.open_model import open_model

            self._open[model] = open_model(model)
        return self._open[model]

    async def close(self) -> None:
        """Close what was opened here."""
        for model in self._open.values():
            await model.close()
        self._open.clear()
