"""Values of a document that are computed: CEL expressions, alone or inside of values."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from actors.interpreter.effort import LIMIT_STEPS, Loops, loops_in, steps_of
from actors.interpreter.flat import flatten
from actors.workflow.expression import BadExpression, Member, embedded, parse
from bus.failure import Failure

# Most expressions are a path. To walk it costs a tenth of what a call into the library does.
_PATH = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", re.ASCII)
_WORDS = frozenset(("true", "false", "null", "in"))
# For messages only: texts and what `has` asks for are no paths that have to lead somewhere, and a method is no member.
_ASIDE = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\bhas\([^)]*\)""")
_ROUTE = re.compile(r"(?<![\w.)\]])([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(\()?", re.ASCII)
_TYPES: dict[type, str] = {type(None): "null", bool: "bool", int: "int", float: "double", str: "string", list: "list",
                           dict: "map"}  # fmt: skip
_PLAIN = (str, int, float, bool, type(None))
_NOT_RUN: dict[str, Any] = {"output": None, "status": "skipped", "error": None}


class FormulaFailed(Exception):
    """An expression has no value here; ``failure`` says which and why."""

    def __init__(self, text: str, where: str, reason: str, hint: str = "") -> None:
        shown = text if len(text) <= 200 else f"{text[:200]}…"
        message = f"{where}: {shown!r} {reason}"
        super().__init__(message)
        self.failure = Failure(code="expression", message=message, retryable=False, path=where, hint=hint)


class Scope:
    """What expressions see at one place: the outcomes of steps, and variables of the maps and loops around it.

    Lists whose steps run once at most (cases, branches) share the scope of the list around them; each instance of a
    map and each round of a loop has one of its own.
    """

    __slots__ = ("_parent", "outcomes", "variables")

    def __init__(self, parent: Scope | None = None, variables: Mapping[str, Any] | None = None) -> None:
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.variables = dict(variables or {})
        self._parent = parent

    def outcome(self, step: str) -> dict[str, Any] | None:
        """What became of a step; None if nothing has yet."""
        scope: Scope | None = self
        while scope is not None:
            if (found := scope.outcomes.get(step)) is not None:
                return found
            scope = scope._parent
        return None

    def variable(self, name: str) -> Any:
        """The value of a variable of this scope or one around it. Raises: KeyError."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.variables:
                return scope.variables[name]
            scope = scope._parent
        raise KeyError(name)

    def all_outcomes(self) -> dict[str, Any]:
        """Those of this scope and all around it."""
        around = self._parent.all_outcomes() if self._parent else {}
        return around | self.outcomes


class Formula:
    """One expression. ``where`` is the field that it stands in, for errors."""

    __slots__ = (
        "_flat",
        "_flat_program",
        "_loops",
        "_named",
        "_path",
        "_program",
        "_variables",
        "text",
        "uses_now",
        "where",
    )

    def __init__(self, text: str, where: str) -> None:
        found = parse(text)
        if isinstance(found, BadExpression):
            raise FormulaFailed(text, where, f"is no expression: {found.message}", found.hint)
        self.text = text
        self.where = where
        self.uses_now = "now" in found.variables
        self._variables = found.variables
        self._loops = loops_in(text)
        self._named = _steps_named(text, found.members)
        is_path = _PATH.fullmatch(text.strip()) and not self.uses_now and len(found.variables) == 1
        self._path = text.strip().split(".") if is_path and found.variables.isdisjoint(_WORDS) else None
        self._flat = None if self._path else flatten(text, found.variables)
        self._program: Any = None
        self._flat_program: Any = None

    def value(self, scope: Scope, now: datetime | None = None) -> Any:
        """Its value, made of what JSON has. Raises: FormulaFailed."""
        return self._walk(scope, self._path) if self._path else self._execute(scope, now)

    def truth(self, scope: Scope, now: datetime | None = None) -> bool:
        """Its value as a condition. Raises: FormulaFailed, also for what is neither true nor false."""
        value = self.value(scope, now)
        if not isinstance(value, bool):
            shown = str(value)[:60]
            raise FormulaFailed(self.text, self.where, f"gives {shown!r}, which is neither true nor false")
        return value

    def _walk(self, scope: Scope, path: Sequence[str]) -> Any:
        try:
            if path[0] == "steps":
                value: Any = scope.outcome(path[1]) or _NOT_RUN
            else:
                value = scope.variable(path[0])[path[1]]
            for name in path[2:]:
                value = value[name]
        except (KeyError, TypeError, IndexError):
            raise FormulaFailed(self.text, self.where, "has no value: " + self._missing(scope, path)) from None
        return value

    def _missing(self, scope: Scope, path: Sequence[str]) -> str:
        """Which part of a path leads nowhere."""
        value: Any = scope.outcome(path[1]) or _NOT_RUN if path[0] == "steps" else _at(scope, path[0])
        for number, name in enumerate(path[2:] if path[0] == "steps" else path[1:], 2 if path[0] == "steps" else 1):
            if not isinstance(value, dict):
                return f"{'.'.join(path[:number])} is {_named(value)}"
            if name not in value:
                return f"{'.'.join(path[:number])} has no {name!r}"
            value = value[name]
        return f"{path[0]} is not there"

    def _execute(self, scope: Scope, now: datetime | None) -> Any:
        if self._loops is not None:
            self._check_effort(self._loops, scope)
        try:
            if self._flat is not None and (context := self._flat_context(scope, now)) is not None:
                self._flat_program = self._flat_program or _compiled(self._flat.text)
                return _json(self._flat_program.execute(context))
            self._program = self._program or _compiled(self.text)
            return _json(self._program.execute(self._context(scope, now)))
        except (KeyboardInterrupt, SystemExit, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic in the library is no Exception
            raise self._complaint(scope, error) from None

    def _check_effort(self, loops: Loops, scope: Scope) -> None:
        """Raises: FormulaFailed for what would hold up everything else in this process."""
        values = []
        routes = list(_routes(self.text))
        for path in routes:
            with contextlib.suppress(FormulaFailed):
                values.append(self._walk(scope, path))
        alone = self._variables - {path[0] for path in routes} - {"steps", "now"}
        values += [value for name in alone if (value := _at(scope, name)) is not _NOTHING]
        if steps_of(loops, values) > LIMIT_STEPS:
            reason = "would take too long: its loops go through too many items"
            raise FormulaFailed(
                self.text, self.where, reason, "let a tool do it, or go through the items with a map step"
            )

    def _complaint(self, scope: Scope, error: BaseException) -> FormulaFailed:
        """A path that leads nowhere if there is one, the types if they do not fit, and else what the library says."""
        types = {}
        for path in _routes(self.text):
            if path[0] == "steps" or _at(scope, path[0]) is not _NOTHING:
                try:
                    types[".".join(path)] = _TYPES.get(type(self._walk(scope, path)), "value")
                except FormulaFailed as nowhere:
                    # A path of a branch that was not taken may lead nowhere too: it is no cause.
                    missing = f"has no {error}" if isinstance(error, KeyError) else "is null"
                    if str(nowhere).endswith(missing):
                        return nowhere
        if isinstance(error, TypeError) and types:
            shown = ", ".join(f"{route} is {kind}" for route, kind in types.items())
            reason = f"cannot be computed, since types do not mix: {shown}"
            return FormulaFailed(self.text, self.where, reason, "write double(x), int(x) or string(x)")
        reason = (str(error) or type(error).__name__).splitlines()[0][:300]
        return FormulaFailed(self.text, self.where, f"cannot be computed: {reason}")

    def _flat_context(self, scope: Scope, now: datetime | None) -> dict[str, Any] | None:
        """The values of the paths; None if one leads nowhere."""
        assert self._flat is not None
        try:
            context = {name: self._walk(scope, path) for name, path in self._flat.paths.items()}
        except FormulaFailed:
            return None
        for name in self._flat.others:
            if (value := now if name == "now" else _at(scope, name)) is not _NOTHING:
                context[name] = value
        return context

    def _context(self, scope: Scope, now: datetime | None) -> dict[str, Any]:
        context: dict[str, Any] = {}
        for name in self._variables:
            if name == "steps":
                context[name] = self._steps(scope)
            elif name == "now":
                context[name] = now
            elif (value := _at(scope, name)) is not _NOTHING:
                context[name] = value
        return context

    def _steps(self, scope: Scope) -> dict[str, Any]:
        """Only those that it names: to hand all of them over would cost more than to compute."""
        if self._named is None:
            return scope.all_outcomes()
        return {name: scope.outcome(name) or _NOT_RUN for name in self._named}


def _steps_named(text: str, members: tuple[Member, ...]) -> tuple[str, ...] | None:
    """The steps that a text names; None if it names them in another way."""
    named = [member.name for member in members if member.root == "steps"]
    return tuple(dict.fromkeys(named)) if len(named) == text.count("steps") else None


_NOTHING: Any = object()


def _routes(text: str) -> Iterator[list[str]]:
    """The paths that a text names, each from a variable on."""
    for found in _ROUTE.finditer(_ASIDE.sub(" ", text)):
        path = found[1].split(".")
        path = path[:-1] if found[2] else path
        if len(path) > (2 if path[0] == "steps" else 1):
            yield path


def _compiled(text: str) -> Any:
    import cel

    return cel.compile(text)


def _at(scope: Scope, name: str) -> Any:
    try:
        return scope.variable(name)
    except KeyError:
        return _NOTHING


def _named(value: Any) -> str:
    return "null" if value is None else "not there" if value is _NOTHING else f"a {type(value).__name__}"


def _json(value: Any) -> Any:
    """Times, durations and bytes as JSON has them."""
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return {str(key): _json(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_json(inner) for inner in value]
    return msgspec.to_builtins(value)


class Template:
    """A value with expressions inside of it, wherever they are."""

    __slots__ = ("_fixed", "_make", "formulas")

    def __init__(self, value: Any, where: str) -> None:
        self.formulas: list[Formula] = []
        self._make = self._compiled(value, where)
        self._fixed = not self.formulas

    @property
    def uses_now(self) -> bool:
        """Whether it has to know the time."""
        return any(formula.uses_now for formula in self.formulas)

    def value(self, scope: Scope, now: datetime | None = None) -> Any:
        """The value with all expressions computed. Raises: FormulaFailed."""
        return self._make if self._fixed else _computed(self._make, scope, now)

    def _compiled(self, value: Any, where: str) -> Any:
        if isinstance(value, str) and "${" in value:
            return self._formula(value, where)
        if isinstance(value, dict):
            return {key: self._compiled(inner, f"{where}.{key}") for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._compiled(inner, f"{where}[{number}]") for number, inner in enumerate(value)]
        return value

    def _formula(self, text: str, where: str) -> Formula:
        inner = embedded(text)
        if inner is None:
            raise FormulaFailed(text, where, "is half a text and half an expression")
        self.formulas.append(formula := Formula(inner, where))
        return formula


def _computed(made: Any, scope: Scope, now: datetime | None) -> Any:
    if isinstance(made, Formula):
        return made.value(scope, now)
    if isinstance(made, dict):
        return {key: _computed(inner, scope, now) for key, inner in made.items()}
    if isinstance(made, list):
        return [_computed(inner, scope, now) for inner in made]
    return made


def formulas_of(*values: Formula | Template | None) -> Iterator[Formula]:
    """All expressions in what may hold some."""
    for value in values:
        if isinstance(value, Formula):
            yield value
        elif value is not None:
            yield from value.formulas
