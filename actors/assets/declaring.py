"""The part of an App that declares assets, and says which component is lent which."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from actors.assets.definition import LOAD_TIMEOUT_S, AssetDefinition, AssetOptions, Need, define
from actors.assets.wiring import fill, load_order, wire, wire_known
from bus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.components.component import Component, ComponentInfo

F = TypeVar("F", bound="Callable[..., Any]")


class AssetDeclarations:
    """Base of App. ``assets`` are those of the app by name."""

    name: str
    version: str
    components: list[Component[..., Any]]
    assets: dict[str, AssetDefinition]

    @overload
    def asset(self, source: F, /) -> F: ...
    @overload
    def asset(
        self,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        refresh_s: float | None = None,
        timeout_s: float = ...,
        validate: Callable[[Any], Any] | None = None,
    ) -> Callable[[F], F]: ...
    def asset(
        self,
        source: Any = None,
        /,
        *,
        name: str | None = None,
        version: str | None = None,
        refresh_s: float | None = None,
        timeout_s: float = LOAD_TIMEOUT_S,
        validate: Callable[[Any], Any] | None = None,
    ) -> Any:
        """Declare what tools and agents share: a function that loads it, a generator that yields it and then
        unloads it, or a class with ``load``; its parameters name other assets. What is decorated comes back as it was.

        ``refresh_s``: it is loaded anew when it is so old, at the latest. ``timeout_s`` bounds one load. ``validate``
        is called with each new value, and raises (or returns False) if that must not be used.
        Raises: UsageError if it cannot be an asset, or if assets need each other in a circle.
        """
        options = AssetOptions(name=name, version=version, refresh_s=refresh_s, timeout_s=timeout_s, validate=validate)

        def add(given: Any) -> Any:
            self._add_asset(define(given, app=self.name, app_version=self.version, options=options))
            return given

        return add if source is None else add(source)

    def assets_of(self, component: Component[..., Any]) -> dict[str, str]:
        """The asset that fills each parameter of a component whose default is INJECTED. Raises: UsageError."""
        needs = [Need(*parameter) for parameter in component.signature.assets]
        return fill(self.assets, needs, f"{component.kind} {component.name}")

    def info_of(self, component: Component[..., Any]) -> ComponentInfo:
        """The wire form of a component, with the versions of the assets that its process loads. Raises: UsageError."""
        needed = load_order(wire(self.assets), self.assets_of(component).values())
        return component.info({name: self.assets[name].version for name in needed})

    def check_assets(self) -> None:
        """Raises: UsageError for an asset or a component that needs what the app does not have."""
        wire(self.assets)
        for component in self.components:
            self.assets_of(component)

    def _add_asset(self, asset: AssetDefinition) -> None:
        if asset.name in self.assets:
            raise UsageError(f"app {self.name} has an asset {asset.name} already", code="duplicate_asset",
                             path=asset.name, hint="give one of them another name")  # fmt: skip
        wire_known(self.assets | {asset.name: asset})
        self.assets[asset.name] = asset
