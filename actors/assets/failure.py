"""What is raised when an asset is not to be had."""

from __future__ import annotations

from bus.errors import HintedError


class AssetFailed(HintedError):
    """An asset could not be loaded, or is not valid; ``asset`` is its name."""

    def __init__(self, asset: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.asset = asset
