"""Loading one asset by its author's code, whatever form that has. What is not async runs in a thread."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from actors.assets.definition import AssetDefinition
from bus.errors import UsageError

_END: Any = object()


@dataclass(frozen=True, slots=True)
class Opened:
    """A loaded value. ``check`` raises if it is not what it should be; ``close`` unloads it."""

    value: Any
    check: Callable[[], Awaitable[None]]
    close: Callable[[], Awaitable[None]]


async def open_asset(definition: AssetDefinition, arguments: dict[str, Any]) -> Opened:
    """Load it. Raises: what the author's code raises."""
    if definition.form == "generator":
        return await _open_generator(definition, arguments)
    if definition.form == "class":
        return await _open_instance(definition, arguments)
    value = await _call(definition.source, **arguments)
    return Opened(value, _checks(definition, value), _nothing)


async def _open_generator(definition: AssetDefinition, arguments: dict[str, Any]) -> Opened:
    generator = definition.source(**arguments)
    value = await _advance(generator)
    if value is _END:
        raise UsageError(f"{definition.label} yields nothing", code="bad_asset", hint="yield the value, once")

    async def close() -> None:
        if await _advance(generator) is not _END:
            raise UsageError(f"{definition.label} yields twice", code="bad_asset", hint="yield the value, once")

    return Opened(value, _checks(definition, value), close)


async def _advance(generator: Any) -> Any:
    """What it yields next, or _END: a StopIteration cannot leave a coroutine."""
    if inspect.isasyncgen(generator):
        return await anext(generator, _END)
    return await asyncio.to_thread(next, generator, _END)


async def _open_instance(definition: AssetDefinition, arguments: dict[str, Any]) -> Opened:
    instance = definition.source()
    value = await _call(instance.load, **arguments)
    unload = getattr(instance, "unload", None)

    async def close() -> None:
        if unload is not None:
            await _call(unload, value)

    return Opened(value, _checks(definition, value, getattr(instance, "validate", None)), close)


def _checks(
    definition: AssetDefinition, value: Any, own: Callable[[Any], Any] | None = None
) -> Callable[[], Awaitable[None]]:
    async def check() -> None:
        for validate in (own, definition.validate):
            # Who writes a predicate means it.
            if validate is not None and await _call(validate, value) is False:
                raise ValueError("validate says that the value is wrong")

    return check


async def _call(fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if inspect.iscoroutinefunction(fn):
        return await fn(*args, **kwargs)
    result = await asyncio.to_thread(fn, *args, **kwargs)
    return await result if inspect.isawaitable(result) else result


async def _nothing() -> None:
    """There is nothing to unload."""
