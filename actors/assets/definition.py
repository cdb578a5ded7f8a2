"""A declared asset: the function or class that loads it, what it needs, and what it is. Read once, when it is declared.

An asset is loaded by a function (async or not), by a generator that yields it once and whose rest unloads it, or by a
class with ``load`` and, if it likes, ``unload(value)`` and ``validate(value)``.
"""

from __future__ import annotations

import collections.abc
import inspect
import re
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from actors.components.signature import annotations_of
from actors.components.version import parse_version
from bus.errors import UsageError
from bus.subjects import check_name
from supervisor.number import is_number

if TYPE_CHECKING:
    from collections.abc import Callable

LOAD_TIMEOUT_S = 300.0
REFRESH_LEAST_S = 1.0
Form = Literal["function", "generator", "class"]
_YIELDING = (
    collections.abc.AsyncGenerator, collections.abc.AsyncIterator, collections.abc.AsyncIterable,
    collections.abc.Generator, collections.abc.Iterator, collections.abc.Iterable,
)  # fmt: skip
_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Need:
    """A parameter that is filled with an asset; ``type`` is Any if it is not annotated."""

    parameter: str
    type: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class AssetOptions:
    """What an author may say beside the function itself; None means: take it from the function or the App."""

    name: str | None = None
    version: str | None = None
    refresh_s: float | None = None
    timeout_s: float = LOAD_TIMEOUT_S
    validate: Callable[[Any], Any] | None = None

    def check(self, label: str) -> None:
        """Raises: UsageError naming the option that cannot be."""
        if self.refresh_s is not None and not (is_number(self.refresh_s) and self.refresh_s >= REFRESH_LEAST_S):
            raise _bad_option(label, "refresh_s", self.refresh_s, f"seconds from {REFRESH_LEAST_S:g}, or None")
        if not (is_number(self.timeout_s) and self.timeout_s > 0):
            raise _bad_option(label, "timeout_s", self.timeout_s, "seconds above 0")
        if self.validate is not None and not callable(self.validate):
            raise _bad_option(label, "validate", self.validate, "a function of the value, which raises if it is wrong")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AssetDefinition:
    """One asset of an app. ``provides`` is the type of its value, Any if the author does not say."""

    name: str
    app: str
    version: str
    description: str
    source: Callable[..., Any]
    form: Form
    needs: tuple[Need, ...]
    provides: Any
    refresh_s: float | None
    timeout_s: float
    validate: Callable[[Any], Any] | None

    @property
    def label(self) -> str:
        """For people: ``asset catalogue 1.0.0``."""
        return f"asset {self.name} {self.version}"


def define(source: Callable[..., Any], *, app: str, app_version: str, options: AssetOptions) -> AssetDefinition:
    """Make an asset of a function, a generator function or a class. Raises: UsageError."""
    label = f"asset {getattr(source, '__qualname__', None) or repr(source)}"
    form, load = _form(source, label)
    options.check(label)
    name = check_name(options.name if options.name is not None else _name_of(source), f"name of {label}")
    version = options.version if options.version is not None else app_version
    parse_version(version, f"version of {label}")
    hints = annotations_of(load, label)
    return AssetDefinition(
        name=name, app=app, version=version, description=(inspect.getdoc(source) or "").partition("\n")[0],
        source=source, form=form, needs=_needs(load, hints, form, label),
        provides=_provided(hints.get("return", Any), form), refresh_s=options.refresh_s, timeout_s=options.timeout_s,
        validate=options.validate,
    )  # fmt: skip


def _form(source: Callable[..., Any], label: str) -> tuple[Form, Callable[..., Any]]:
    if inspect.isclass(source):
        load = getattr(source, "load", None)
        if not inspect.isfunction(load):
            hint = "write async def load(self, ...), and unload(self, value) or validate(self, value) if you like"
            raise UsageError(f"{label} has no method load", code="bad_asset", path="load", hint=hint)
        return "class", load
    if not inspect.isfunction(source):
        raise UsageError(f"{label} is no function", code="bad_asset", hint="put @app.asset on a def, or on a class")
    yields = inspect.isgeneratorfunction(source) or inspect.isasyncgenfunction(source)
    return ("generator" if yields else "function"), source


def _name_of(source: Callable[..., Any]) -> str:
    """A class is named as parameters are: PriceList is ``price_list``."""
    return _WORDS.sub("_", source.__name__).lower() if inspect.isclass(source) else source.__name__


def _needs(load: Callable[..., Any], hints: dict[str, Any], form: Form, label: str) -> tuple[Need, ...]:
    parameters = list(inspect.signature(load).parameters.values())[1 if form == "class" else 0 :]
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise UsageError(
                f"{label}, parameter {parameter.name!r}: assets come by name", code="bad_asset", path=parameter.name,
                hint="each parameter names another asset; settings come from the environment, or from the module",
            )  # fmt: skip
    return tuple(Need(p.name, hints.get(p.name, Any)) for p in parameters)


def _provided(hint: Any, form: Form) -> Any:
    if form != "generator":
        return hint
    arguments = typing.get_args(hint)
    return arguments[0] if arguments and typing.get_origin(hint) in _YIELDING else Any


def _bad_option(label: str, option: str, value: object, right: str) -> UsageError:
    return UsageError(f"{label}: {option} cannot be {value!r}", code="bad_option", path=option, hint=right)
