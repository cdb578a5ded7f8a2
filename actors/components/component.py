"""A component: a user's function together with all that the system knows about it.

Everything is read from the signature and the docstring once, when the function is declared, so a component that exists
can be described, validated and called; nothing about it can fail later for reasons that were visible then.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

import msgspec

from actors.components.agent_card import AgentCard
from actors.components.codec import Codec, InvalidInput, InvalidOutput
from actors.components.limit_key import check_limit_key
from actors.components.schema import digest, input_schema, output_schema, read_docstring
from actors.components.signature import REQUIRED, ContextClass, Parameter, Signature, read_signature
from actors.components.version import parse_version
from bus.errors import UsageError
from bus.subjects import CallKind, check_name
from supervisor.at_once import AtOnce
from supervisor.breaker import Breaker
from supervisor.heartbeat import STALL_LEAST_S
from supervisor.limits import Limits
from supervisor.number import is_count, is_number
from supervisor.rate import Rate
from supervisor.restart import RESTART_KINDS, RestartKind
from supervisor.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

    from actors.operations.job import Job

__all__ = ["Component", "ComponentInfo", "InvalidInput", "InvalidOutput", "Options", "declare"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

DEFAULT_TOOL_TIMEOUT_S = 60.0
DEFAULT_CONCURRENCY = 8
# Which of a tool's places are taken is asked in one question, whose answer has 1,024 messages at most.
PLACES_MOST = 1_000
# A process that says nothing for so long is taken for dead: its event loop is blocked, or it is stopped.
DEFAULT_STALL_S = 15.0
# An agent's run is a job (DESIGN.md, "Agents are jobs").
_CONTEXT_CLASSES: dict[CallKind, ContextClass] = {"tool": "ToolContext", "job": "Job", "agent": "Agent"}


class ComponentInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A component as it crosses the wire: what the registry keeps and what `callboard components` shows.

    ``assets`` are the versions of what its process loads before it serves.
    """

    kind: CallKind
    name: str
    app: str
    version: str
    description: str = ""
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    digest: str
    retry: Retry = Retry()
    timeout_s: float | None = None
    replicas: int = 1
    concurrency: int = DEFAULT_CONCURRENCY
    isolated: bool = False
    group: str = ""
    restart: RestartKind = "permanent"
    stall_s: float = DEFAULT_STALL_S
    limits: Limits = Limits()
    breaker: Breaker | None = None
    at_once: AtOnce | None = None
    rate: Rate | None = None
    cache_ttl_s: float | None = None
    assets: dict[str, str] = {}
    read_only: bool = False
    agent: AgentCard | None = None

    @property
    def major(self) -> int:
        """The part of the version that callers choose by."""
        return parse_version(self.version, "version").major


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What an author may say beside the function itself; None means: take it from the function or the App."""

    name: str | None = None
    version: str | None = None
    description: str | None = None
    retry: Retry = field(default_factory=Retry)
    timeout_s: float | None = None
    replicas: int = 1
    concurrency: int = DEFAULT_CONCURRENCY
    isolated: bool = False
    group: str = ""
    restart: RestartKind = "permanent"
    stall_s: float = DEFAULT_STALL_S
    limits: Limits = field(default_factory=Limits)
    breaker: Breaker | None = None
    at_once: AtOnce | None = None
    rate: Rate | None = None
    cache_ttl_s: float | None = None
    read_only: bool = False

    def check(self, label: str) -> None:
        """Raises: UsageError naming the option that cannot be."""
        if not isinstance(self.retry, Retry):
            raise _bad_option(label, "retry", self.retry, "a Retry, such as Retry(attempts=4)")
        if self.timeout_s is not None and not _is_duration(self.timeout_s):
            raise _bad_option(label, "timeout_s", self.timeout_s, "seconds above 0, or None for no limit")
        for option, value in (("replicas", self.replicas), ("concurrency", self.concurrency)):
            if not is_count(value):
                raise _bad_option(label, option, value, "a whole number from 1")
        if self.cache_ttl_s is not None and not _is_duration(self.cache_ttl_s):
            raise _bad_option(label, "cache_ttl_s", self.cache_ttl_s, "seconds above 0, or None for no cache")
        if not isinstance(self.description, str | None):
            raise _bad_option(label, "description", self.description, "a text")
        for option, value in (("isolated", self.isolated), ("read_only", self.read_only)):
            if not isinstance(value, bool):
                raise _bad_option(label, option, value, "True or False")
        self._check_supervision(label)

    def _check_supervision(self, label: str) -> None:
        if self.group:
            check_name(self.group, f"group of {label}")
        if self.restart not in RESTART_KINDS:
            raise _bad_option(label, "restart", self.restart, f"one of {', '.join(RESTART_KINDS)}")
        if not (_is_duration(self.stall_s) and self.stall_s >= STALL_LEAST_S):
            raise _bad_option(label, "stall_s", self.stall_s, f"seconds from {STALL_LEAST_S:g}")
        if not isinstance(self.limits, Limits):
            raise _bad_option(label, "limits", self.limits, "Limits, such as Limits(memory_bytes=512 * 1024**2)")
        if self.breaker is not None and not isinstance(self.breaker, Breaker):
            raise _bad_option(label, "breaker", self.breaker, "a Breaker, or None for no circuit breaker")
        if self.at_once is not None and not isinstance(self.at_once, AtOnce):
            raise _bad_option(label, "at_once", self.at_once, "AtOnce, such as AtOnce(3, key='customer'), or None")
        if self.rate is not None and not isinstance(self.rate, Rate):
            raise _bad_option(label, "rate", self.rate, "a Rate, such as Rate(100, per_s=60), or None")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Component(Generic[P, R_co]):
    """A declared tool, job or agent. Calling it runs the plain function, so that it can be tested without a bus.

    ``P`` are the parameters that callers fill (without the context) and ``R_co`` is the result once it is awaited.
    """

    kind: CallKind
    name: str
    app: str
    version: str
    major: int
    description: str
    fn: Callable[..., Any]
    is_async: bool
    context_param: str | None
    retry: Retry
    timeout_s: float | None
    replicas: int
    concurrency: int
    isolated: bool
    group: str
    restart: RestartKind
    stall_s: float
    limits: Limits
    breaker: Breaker | None
    input_type: type[msgspec.Struct]
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    digest: str
    signature: Signature = field(repr=False)
    _input: Codec = field(repr=False)
    _output: Codec = field(repr=False)
    at_once: AtOnce | None = None
    rate: Rate | None = None
    cache_ttl_s: float | None = None
    read_only: bool = False

    @property
    def has_admission(self) -> bool:
        """Whether a job of it may have to wait before its function begins."""
        return self.at_once is not None or self.rate is not None

    def limit_fields(self, arguments: dict[str, Any]) -> Mapping[str, Any]:
        """The fields of a decoded input by which its limits may tell one job from another."""
        return arguments

    @property
    def winds_up(self) -> bool:
        """Whether its function ends by itself when the job is cancelled, after it has cleaned up durably."""
        return False

    @property
    def is_amendable(self) -> bool:
        """Whether it has steps that can be changed while a job runs, as a workflow document may."""
        return False

    @property
    def keeps_version(self) -> bool:
        """Whether a job goes on with exactly the version that it began with, and not with any of its major."""
        return False

    @property
    def agent(self) -> AgentCard | None:
        """What others are told of an agent, None of other components."""
        return None

    def context(self, job: Job) -> Job:
        """What the function of a job is given as its first parameter."""
        return job

    # Typed loosely on purpose: P has no context, and an async function gives an awaitable here, not R_co.
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the plain function, context parameter included."""
        return self.fn(*args, **kwargs)

    @property
    def __wrapped__(self) -> Callable[..., Any]:
        """Lets ``inspect.signature`` and documentation tools see the function."""
        return self.fn

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name} {self.version} of app {self.app}>"

    def bind_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
        """The JSON input for a call with these arguments, the context left out.

        Arguments that are not given stay out, so the receiver's defaults apply. Raises: InvalidInput.
        """
        return self._input.encode(self.signature.bind(args, kwargs))

    def decode_input(self, raw: bytes) -> dict[str, Any]:
        """Keyword arguments for ``fn`` from JSON; an empty body counts as ``{}``. Raises: InvalidInput."""
        values = self._input.decode(raw if raw and not raw.isspace() else b"{}")
        return {name: getattr(values, name) for name in self.input_type.__struct_fields__}

    def decode_raw_input(self, raw: bytes) -> dict[str, Any]:
        """As :meth:`decode_input`, but of input that does not fit, nothing: whoever runs it will say so."""
        try:
            return self.decode_input(raw)
        except UsageError:
            return {}

    def encode_output(self, value: Any) -> bytes:
        """The JSON of a result, checked against the return annotation. Raises: InvalidOutput."""
        return self._output.encode(value)

    def decode_output(self, raw: bytes) -> R_co:
        """A result from JSON as the annotated type, plain JSON values without one. Raises: InvalidOutput."""
        return cast("R_co", self._output.decode(raw))

    def info(self, assets: Mapping[str, str] | None = None) -> ComponentInfo:
        """The wire form; ``assets`` are the versions of those that it needs, which its app knows."""
        own = {name: getattr(self, name) for name in ComponentInfo.__struct_fields__ if name != "assets"}
        return ComponentInfo(**own, assets=dict(assets or {}))


def declare(
    kind: CallKind, fn: Callable[..., Any], *, app: str, app_version: str, options: Options
) -> Component[..., Any]:
    """Make a component of a function.

    Raises: UsageError that names the function and the parameter, type or option that cannot be.
    """
    label = f"{kind} {getattr(fn, '__qualname__', None) or repr(fn)}"
    _check_function(fn, kind, label)
    options.check(label)
    name = check_name(options.name if options.name is not None else fn.__name__, f"name of {label}")
    version = options.version if options.version is not None else app_version
    major = parse_version(version, f"version of {label}").major
    signature = read_signature(fn, label, _CONTEXT_CLASSES[kind])
    for limit in (options.at_once, options.rate):
        if limit is not None:
            check_limit_key(limit.key, (parameter.name for parameter in signature.parameters), label)
    if kind == "tool" and options.at_once is not None and options.at_once.limit > PLACES_MOST:
        raise _bad_option(label, "at_once", options.at_once, f"for a tool a limit up to {PLACES_MOST:,}")
    doc = read_docstring(inspect.getdoc(fn))
    input_type = _input_type(name, fn.__module__, signature)
    defaults = {p.name: p.default for p in signature.parameters if p.default is not REQUIRED}
    takes = input_schema(input_type, title=name, doc=doc, defaults=defaults)
    returns = output_schema(signature.returns)
    return Component(
        kind=kind,
        name=name,
        app=app,
        version=version,
        major=major,
        description=options.description if options.description is not None else doc.description,
        fn=fn,
        is_async=inspect.iscoroutinefunction(fn),
        context_param=signature.context_param,
        retry=options.retry,
        timeout_s=options.timeout_s,
        replicas=options.replicas,
        concurrency=options.concurrency,
        isolated=options.isolated,
        group=options.group,
        restart=options.restart,
        stall_s=options.stall_s,
        limits=options.limits,
        breaker=options.breaker,
        at_once=options.at_once,
        rate=options.rate,
        cache_ttl_s=options.cache_ttl_s,
        read_only=options.read_only,
        input_type=input_type,
        input_schema=takes,
        output_schema=returns,
        digest=digest(name, version, takes, returns),
        signature=signature,
        _input=Codec(input_type, takes, what=f"input of {kind} {name}", invalid=InvalidInput),
        _output=Codec(signature.returns, returns, what=f"output of {kind} {name}", invalid=InvalidOutput),
    )


def _check_function(fn: Callable[..., Any], kind: CallKind, label: str) -> None:
    if isinstance(fn, Component):
        raise UsageError(f"{fn!r} is a component already", code="bad_function", hint="pass the function: component.fn")
    if not (inspect.isfunction(fn) or inspect.ismethod(fn)):
        raise UsageError(f"{label} is no function", code="bad_function", hint=f"put @app.{kind} on a def or async def")
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise UsageError(f"{label} yields; a component returns one result", code="bad_function", hint="return a list")
    if kind != "tool" and not inspect.iscoroutinefunction(fn):
        # A sync job could await none of its Job's methods, and would block every other job of its host.
        raise UsageError(f"{label} is not async", code="bad_function", hint="write async def, or make it a tool")


def _input_type(name: str, module: str, signature: Signature) -> type[msgspec.Struct]:
    fields = [_field(p) for p in signature.parameters]
    # A name that no class can have: msgspec tells definitions apart by module and name.
    return msgspec.defstruct(f"input of {name}", fields, module=module, kw_only=True, forbid_unknown_fields=True)


def _field(parameter: Parameter) -> tuple[str, Any] | tuple[str, Any, Any]:
    if (default := parameter.default) is REQUIRED:
        return parameter.name, parameter.type
    return parameter.name, parameter.type, msgspec.field(default_factory=_default_factory(default))


def _default_factory(default: Any) -> Callable[[], Any]:
    """A fresh copy for each input where a function could change it; a sentinel stays the one object that it is."""
    if isinstance(default, (list, dict, set, bytearray, msgspec.Struct)) or is_dataclass(default):
        return lambda: copy.deepcopy(default)
    return lambda: default


def _is_duration(value: Any) -> bool:
    return is_number(value) and value > 0


def _bad_option(label: str, option: str, value: object, right: str) -> UsageError:
    return UsageError(f"{label}: {option} cannot be {value!r}", code="bad_option", path=option, hint=right)
