"""What a user's function takes and returns, read once when it is declared.

Annotations may be strings (``from __future__ import annotations``), may name what is imported under ``TYPE_CHECKING``
only, and may name classes of the function in which the component is declared. What cannot travel as JSON is refused
here, at the decorator, where the author sees it, and not at the first call.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import linecache
import re
import sys
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from actors.assets.injected import INJECTED
from actors.components.codec import InvalidInput
from bus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FunctionType

ContextClass = Literal["ToolContext", "Job", "Agent"]

REQUIRED: Any = inspect.Parameter.empty
# One unknown name is looked up per round; more than this in one signature is a loop of ours.
_UNKNOWN_NAMES_LIMIT = 64
_UNSUPPORTED = re.compile(r".*\btype (?:<class ')?(?P<type>.+?)(?:'>)? is not supported", re.IGNORECASE | re.DOTALL)
_NO_KEYS = (
    msgspec.inspect.StructType,
    msgspec.inspect.DataclassType,
    msgspec.inspect.TypedDictType,
    msgspec.inspect.NamedTupleType,
    msgspec.inspect.DictType,
    msgspec.inspect.CollectionType,
    msgspec.inspect.TupleType,
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One field of the input; ``default`` is REQUIRED if there is none."""

    name: str
    type: Any
    default: Any
    keyword_only: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """A function's parameters without its context and assets, and its return type (Any if it is not annotated).

    ``assets`` are the parameters that the process fills, each with its type: they are no part of the input.
    """

    label: str
    parameters: tuple[Parameter, ...]
    returns: Any
    context_param: str | None
    assets: tuple[tuple[str, Any], ...] = ()

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Name the arguments as a call would; what is not given stays out. Raises: InvalidInput."""
        positional = [p.name for p in self.parameters if not p.keyword_only]
        if len(args) > len(positional):
            takes = f"{len(positional)} positional ({', '.join(positional)})" if positional else "no positional"
            raise InvalidInput(f"{self.label} takes {takes}, {len(args)} given", path="$")
        bound = dict(zip(positional, args, strict=False))
        for name, value in kwargs.items():
            self._check_keyword(name, bound)
            bound[name] = value
        for parameter in self.parameters:
            if parameter.default is REQUIRED and parameter.name not in bound:
                raise InvalidInput(
                    f"{self.label} misses the argument `{parameter.name}`",
                    path=f"$.{parameter.name}",
                    hint=f"it takes {self.parameters_text()}",
                )
        return {name: value for name, value in bound.items() if value is not msgspec.UNSET}

    def _check_keyword(self, name: str, bound: Mapping[str, Any]) -> None:
        path, names = f"$.{name}", [p.name for p in self.parameters]
        if name in bound:
            raise InvalidInput(f"{self.label} got `{name}` twice", path=path, hint="by place and by name")
        if name == self.context_param or name in dict(self.assets):
            raise InvalidInput(f"{self.label} gets `{name}` from its host", path=path, hint="leave it out")
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean `{close[0]}`?" if close else f"it takes {self.parameters_text()}"
            raise InvalidInput(f"{self.label} has no parameter `{name}`", path=path, hint=hint)

    def parameters_text(self) -> str:
        """The parameters for people: ``sku, qty (optional)``."""
        names = (p.name if p.default is REQUIRED else f"{p.name} (optional)" for p in self.parameters)
        return ", ".join(names) or "no arguments"


def read_signature(fn: Callable[..., Any], label: str, context: ContextClass) -> Signature:
    """Read ``fn``; ``label`` ("tool quote") names it in errors, ``context`` is the class that its host passes in.

    Raises: UsageError naming function, parameter and type if a parameter cannot be filled from JSON.
    """
    hints = annotations_of(fn, label)
    raw = list(inspect.signature(fn).parameters.values())
    context_param = _context_param(raw, hints, label, context)
    assets = _assets(raw, hints, label, context)
    own = {context_param, *(name for name, _ in assets)}
    parameters = tuple(_parameter(p, hints.get(p.name, Any), label) for p in raw if p.name not in own)
    returns = hints.get("return", Any)
    _check_type(returns, "return", f"{label}, its return type")
    return Signature(label, parameters, returns, context_param, assets)


def _assets(
    raw: list[inspect.Parameter], hints: Mapping[str, Any], label: str, context: ContextClass
) -> tuple[tuple[str, Any], ...]:
    """The parameters whose default is INJECTED. No parameter of the input comes by place after one of them."""
    places = [i for i, p in enumerate(raw) if p.default is INJECTED]
    if places and context == "Job":
        # It runs again from its first line, perhaps in another process, and must then decide the same.
        raise _refused(label, raw[places[0]].name, "a job that is resumed may meet another version of an asset",
                       "use it in a tool, or for what an agent's model is told: the log keeps both")  # fmt: skip
    for later in raw[places[0] :] if places else ():
        if later.default is not INJECTED and later.kind is later.POSITIONAL_OR_KEYWORD:
            raise _refused(label, later.name, "it stands after an asset", "put assets last, or after a *")
    return tuple((raw[i].name, hints.get(raw[i].name, Any)) for i in places)


def _parameter(raw: inspect.Parameter, hint: Any, label: str) -> Parameter:
    if raw.kind in (raw.VAR_POSITIONAL, raw.VAR_KEYWORD):
        stars = "*" if raw.kind is raw.VAR_POSITIONAL else "**"
        raise _refused(label, f"{stars}{raw.name}", "an input is an object with named fields", "name each parameter")
    if raw.kind is raw.POSITIONAL_ONLY:
        raise _refused(label, raw.name, "it is positional-only, and inputs come by name", "remove the '/'")
    if raw.name in ("self", "cls") and raw.annotation is raw.empty:
        raise _refused(label, raw.name, "methods of a class cannot be components", "declare a plain function")
    _check_type(hint, raw.name, f"{label}, parameter {raw.name!r}")
    return Parameter(raw.name, hint, raw.default, raw.kind is raw.KEYWORD_ONLY)


def _refused(label: str, parameter: str, reason: str, hint: str) -> UsageError:
    return UsageError(f"{label}, parameter {parameter!r}: {reason}", code="bad_signature", path=parameter, hint=hint)


# ---- context


def _context_param(
    raw: list[inspect.Parameter], hints: Mapping[str, Any], label: str, context: ContextClass
) -> str | None:
    """The first parameter, if it is annotated as the context. A job cannot do without, a tool can."""
    places = [i for i, p in enumerate(raw) if _is_class_named(hints.get(p.name), context)]
    if places and places != [0]:
        name = raw[places[-1]].name
        raise _refused(label, name, f"{context} must be the first parameter, and only that", "move it to the front")
    if places:
        return raw[0].name
    if context != "ToolContext":
        kind = context.lower()
        first = raw[0].name if raw else kind
        raise _refused(
            label, first, f"the first parameter of a {kind} must be annotated as {context}", f"write {first}: {context}"
        )
    return None


def _is_class_named(hint: Any, name: str) -> bool:
    """By name and not by identity: this module is imported by the one that defines the class."""
    hint = typing.get_origin(hint) or hint
    return isinstance(hint, type) and any(base.__name__ == name for base in hint.__mro__)


# ---- types


def _check_type(hint: Any, path: str, where: str) -> None:
    """A type is supported if a JSON Schema can be made of it, a decoder built, and every part of it read from JSON."""
    try:
        msgspec.json.schema(hint)
        msgspec.json.Decoder(hint)
        for part in _parts(msgspec.inspect.type_info(hint), set()):
            _check_part(part)
    except Exception as error:
        reason, advice = _why_unsupported(hint, error)
        raise UsageError(f"{where}: {reason}", code="unsupported_type", path=path, hint=advice) from error


def _parts(node: Any, seen: set[int]) -> Iterator[msgspec.inspect.Type]:
    """Every type inside of a type; a recursive one comes once."""
    if isinstance(node, tuple):
        for part in node:
            yield from _parts(part, seen)
    elif isinstance(node, (msgspec.inspect.Type, msgspec.inspect.Field)) and id(node) not in seen:
        seen.add(id(node))
        if isinstance(node, msgspec.inspect.Type):
            yield node
        for field in node.__struct_fields__:
            yield from _parts(getattr(node, field), seen)


def _check_part(part: msgspec.inspect.Type) -> None:
    """What msgspec lets pass although no JSON can ever become one. Raises: TypeError in msgspec's words."""
    if isinstance(part, msgspec.inspect.CustomType):
        raise TypeError(f"type {type_text(part.cls)} is not supported")
    if isinstance(part, msgspec.inspect.DictType) and isinstance(part.key_type, _NO_KEYS):
        raise TypeError("the keys of a JSON object are strings or numbers")


def _why_unsupported(hint: Any, error: Exception) -> tuple[str, str]:
    name, text = type_text(hint), str(error).replace("\n", " ")
    if isinstance(error, NameError):
        return f"{name} has a field whose type cannot be resolved: {text}", "define or import it at module level"
    if " union" in text:
        return f"the members of `{name}` cannot be told apart in JSON: {text}", "tag them: class A(Struct, tag=True)"
    found = _UNSUPPORTED.match(text)
    culprit = found["type"].rpartition(".")[2] if found else ""
    within = f" (it holds `{culprit}`)" if culprit and culprit not in name else "" if found else f": {text}"
    reason = f"type `{name}` is not supported{within}"
    if culprit in ("ToolContext", "Job"):
        return reason, "the first parameter of a tool may be a ToolContext, that of a job is a Job"
    return reason, "use a msgspec Struct, a dataclass, a TypedDict or another type that JSON can hold"


def type_text(hint: Any) -> str:
    """A type as people write it: ``Quote``, ``list[int]``."""
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


# ---- names in annotations


def annotations_of(fn: Callable[..., Any], label: str) -> dict[str, Any]:
    """The function's annotations as types; names that its module does not have are looked for where they may be.

    Raises: UsageError for a name that is nowhere.
    """
    found: dict[str, Any] = {}
    for _ in range(_UNKNOWN_NAMES_LIMIT):
        try:
            return typing.get_type_hints(fn, localns=found, include_extras=True)
        except NameError as error:
            if not error.name or error.name in found:
                raise _unresolved(label, str(error)) from error
            found[error.name] = _look_up(fn, error.name, label)
        except Exception as error:
            raise _unresolved(label, f"{type(error).__name__}: {error}") from error
    raise _unresolved(label, "too many unknown names")


def _look_up(fn: Callable[..., Any], name: str, label: str) -> Any:
    function = typing.cast("FunctionType", inspect.unwrap(fn))
    for scope in _enclosing_scopes(function):
        if name in scope:
            return scope[name]
    for imported in _type_checking_imports(function):
        if imported.name == name:
            return imported.load(function, label)
    raise _unresolved(label, f"`{name}` is not defined at this point of {function.__module__}")


def _unresolved(label: str, reason: str) -> UsageError:
    return UsageError(
        f"{label}: an annotation cannot be resolved: {reason}",
        code="unresolved_annotation",
        hint="define or import it above the function",
    )


def _enclosing_scopes(fn: FunctionType) -> Iterator[Mapping[str, Any]]:
    """Local names of the functions of the same module that are running now, innermost first: classes in a test, say."""
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals is fn.__globals__:
            yield frame.f_locals
        frame = frame.f_back


@dataclass(frozen=True, slots=True)
class _Import:
    """One name that a module imports under ``if TYPE_CHECKING``; ``member`` is "" for ``import module``."""

    name: str
    module: str
    member: str

    def load(self, fn: FunctionType, label: str) -> Any:
        try:
            absolute = importlib.util.resolve_name(self.module, fn.__globals__.get("__package__"))
            module = importlib.import_module(absolute)
            if self.member:
                return getattr(module, self.member)
            return module if self.name != absolute.partition(".")[0] else sys.modules[self.name]
        except Exception as error:
            raise _unresolved(
                label, f"`{self.name}` is imported under TYPE_CHECKING, and importing it now fails: {error}"
            ) from error


def _type_checking_imports(fn: FunctionType) -> Iterator[_Import]:
    source = "".join(linecache.getlines(fn.__code__.co_filename, fn.__globals__))
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a console's input, or a file that changed under us
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).rpartition(".")[2] == "TYPE_CHECKING":
            for statement in node.body:
                yield from _imports(statement)


def _imports(statement: ast.stmt) -> Iterator[_Import]:
    match statement:
        case ast.ImportFrom(module=module, names=names, level=level):
            base = "." * level + (module or "")
            yield from (_Import(a.asname or a.name, base, a.name) for a in names)
        case ast.Import(names=names):
            yield from (_Import(a.asname or a.name.partition(".")[0], a.name, "") for a in names)
