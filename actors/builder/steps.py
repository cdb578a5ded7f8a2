"""A list of steps that is being built. Methods are the kinds of a document's steps, and arguments are their fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self, TypedDict, Unpack

from actors.builder.expression import Expr
from actors.builder.origin import calling_source
from actors.builder.value import plain, reference, schema
from actors.components.component import Component
from actors.workflow.document import Cache, Compensation, Escalate, Goto, Join
from actors.workflow.finding import Path
from actors.workflow.origins import Origins, Spot
from bus.errors import UsageError
from bus.subjects import CallKind, Priority
from supervisor.breaker import OnOpen
from supervisor.retry import Retry

Runs = str | Component[..., Any]
Condition = str | Expr
Values = Mapping[str, Any]


class StepFields(TypedDict, total=False):
    """What all steps may have."""

    description: str
    needs: Sequence[str]
    join: Join
    when: Condition
    timeout_s: float
    on_error: Literal["fail", "continue", "compensate"] | Goto
    compensate: Compensation
    lock: str | Expr
    cancels: Sequence[str]
    completes: Sequence[str]


class CallFields(StepFields, total=False):
    """What steps may have that run a component."""

    with_: Values
    retry: Retry
    on_open: OnOpen
    cache: Cache


class RunFields(CallFields, total=False):
    """What agents and jobs may have."""

    priority: Priority


class ApprovalFields(StepFields, total=False):
    """What approvals may have."""

    details: Values
    answer: dict[str, Any] | type
    roles: Sequence[str]
    quorum: int
    expires_s: float
    escalate: Sequence[Escalate]
    edit: Values
    on_reject: Literal["fail", "continue"]


class MapFields(StepFields, total=False):
    """What maps may have."""

    as_: str
    max_parallel: int
    until: Condition
    output: Any


class GroupFields(StepFields, total=False):
    """What other steps may have that hold steps."""

    output: Any


# Fields that are expressions as they stand, and those that are schemas.
_EXPRESSIONS = frozenset(("when", "until", "over", "items"))
_SCHEMAS = frozenset(("answer",))


class StepRef(str):
    """A step that was made: its id, for ``needs`` and the like, and expressions of what becomes of it."""

    __slots__ = ()

    @property
    def output(self) -> Expr:
        """What it gives."""
        return Expr(f"steps.{self}.output")

    @property
    def status(self) -> Expr:
        """How it ended."""
        return Expr(f"steps.{self}.status")

    @property
    def error(self) -> Expr:
        """Why it failed."""
        return Expr(f"steps.{self}.error")


class Place(NamedTuple):
    """A list of steps in the document, its path, and the notes of who made what."""

    values: list[Any]
    path: Path
    origins: Origins

    def put(self, value: dict[str, Any]) -> Path:
        """Append; where it is then."""
        path = (*self.path, len(self.values))
        self.origins.mark(self.values, len(self.values), Spot(calling_source(), path))
        self.values.append(value)
        return path

    def within(self, holder: dict[str, Any], key: str, path: Path) -> Place:
        """A new list at ``key`` of a mapping that is at ``path``."""
        holder[key] = self.origins.made([])
        return Place(holder[key], (*path, key), self.origins)


class Steps:
    """A list of steps. Each method appends one and gives its id."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def tool(self, step: str, /, *, run: Runs, **fields: Unpack[CallFields]) -> StepRef:
        """Call a tool. ``run`` is its name, or the component itself."""
        return self._call("tool", step, run, dict(fields))

    def agent(self, step: str, /, *, run: Runs, **fields: Unpack[RunFields]) -> StepRef:
        """Run an agent."""
        return self._call("agent", step, run, dict(fields))

    def job(self, step: str, /, *, run: Runs, wait: bool = True, **fields: Unpack[RunFields]) -> StepRef:
        """Run another job; with ``wait=False`` only start it."""
        return self._call("job", step, run, {**fields, **({} if wait else {"wait": False})})

    def approval(self, step: str, /, *, title: str | Expr, **fields: Unpack[ApprovalFields]) -> StepRef:
        """Ask people."""
        return self._put("approval", step, {"title": title, **fields})

    def wait(self, step: str, /, *, signal: str, fresh: bool = False, **fields: Unpack[StepFields]) -> StepRef:
        """Wait for a signal."""
        return self._put("wait", step, {"signal": signal, **({"fresh": True} if fresh else {}), **fields})

    def sleep(self, step: str, /, *, for_s: float | Expr, **fields: Unpack[StepFields]) -> StepRef:
        """Wait for a time, in seconds."""
        return self._put("sleep", step, {"for_s": for_s, **fields})

    def emit(self, step: str, /, *, event: str, data: Values | None = None, **fields: Unpack[StepFields]) -> StepRef:
        """Write an event."""
        return self._put("emit", step, {"event": event, **({"data": data} if data else {}), **fields})

    def set(self, step: str, /, *, values: Values, **fields: Unpack[StepFields]) -> StepRef:
        """Compute values."""
        return self._put("set", step, {"values": values, **fields})

    def goto(self, step: str, /, *, to: str, max_times: int = 100, **fields: Unpack[StepFields]) -> StepRef:
        """Go on at another step of the same list."""
        return self._put("goto", step, {"to": to, "max_times": max_times, **fields})

    def end(
        self,
        step: str,
        /,
        *,
        status: Literal["completed", "failed"] = "completed",
        message: str | Expr = "",
        result: Any = None,
        **fields: Unpack[StepFields],
    ) -> StepRef:
        """End the whole workflow."""
        return self._put("end", step, {"status": status, "message": message, "result": result, **fields})

    def add(self, step: str, /, *, to: str, items: str | Expr, **fields: Unpack[StepFields]) -> StepRef:
        """Add instances to a map that runs."""
        return self._put("add", step, {"to": to, "items": items, **fields})

    def map(self, step: str, /, *, over: str | Expr, **fields: Unpack[MapFields]) -> StepsRef:
        """Run steps for each item of a list: ``with order.map("each", over="input.items") as each: each.tool(...)``."""
        return self._holder("map", step, {"over": over, **fields})

    def loop(self, step: str, /, *, until: Condition, max_rounds: int, **fields: Unpack[GroupFields]) -> StepsRef:
        """Run steps in rounds."""
        return self._holder("loop", step, {"until": until, "max_rounds": max_rounds, **fields})

    def switch(self, step: str, /, **fields: Unpack[GroupFields]) -> SwitchRef:
        """Run the steps of one case: ``with order.switch("by") as by``, then ``with by.case("...") as dear``."""
        path, value = self._record("switch", step, dict(fields))
        value["cases"] = self._place.origins.made([])
        return SwitchRef(step, value, path, self._place.origins)

    def parallel(self, step: str, /, **fields: Unpack[GroupFields]) -> ParallelRef:
        """Run branches side by side: ``with order.parallel("both") as both``, then ``with both.branch("a") as a``."""
        path, value = self._record("parallel", step, dict(fields))
        value["branches"] = self._place.origins.made({})
        return ParallelRef(step, value, path, self._place.origins)

    # ---- how

    def _call(self, kind: CallKind, step: str, run: Runs, fields: dict[str, Any]) -> StepRef:
        return self._put(kind, step, {"run": reference(kind, run), **fields})

    def _put(self, kind: str, step: str, fields: dict[str, Any]) -> StepRef:
        self._record(kind, step, fields)
        return StepRef(step)

    def _holder(self, kind: str, step: str, fields: dict[str, Any]) -> StepsRef:
        path, value = self._record(kind, step, fields)
        return StepsRef(step, self._place.within(value, "steps", path))

    def _record(self, kind: str, step: str, fields: dict[str, Any]) -> tuple[Path, dict[str, Any]]:
        value: dict[str, Any] = {"id": str(step), "kind": kind}
        for name, given in fields.items():
            value[name.rstrip("_")] = _field(name, given)
        return self._place.put(value), value


def _field(name: str, value: Any) -> Any:
    if name in _EXPRESSIONS and isinstance(value, Expr):
        return value.text
    if name in _SCHEMAS:
        return schema(value)
    if name == "needs" and isinstance(value, str):
        raise UsageError(f"needs={value!r} is a text", code="bad_value", path="needs", hint="write a list of steps")
    return plain(value)


class Block(Steps):
    """The steps inside of another one, or of a branch of it; also for ``with``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failed: object) -> None:
        return None


class StepsRef(StepRef, Block):
    """A map or a loop: its id, and the list of the steps in it."""

    def __new__(cls, step: str, place: Place) -> Self:  # noqa: ARG004 - of __init__
        return super().__new__(cls, step)

    def __init__(self, step: str, place: Place) -> None:  # noqa: ARG002 - of __new__
        Block.__init__(self, place)

    def __enter__(self) -> Self:
        return self


class _Ways(StepRef):
    """A step that holds several lists."""

    def __new__(cls, step: str, value: dict[str, Any], path: Path, origins: Origins) -> Self:  # noqa: ARG004
        return super().__new__(cls, step)

    def __init__(self, step: str, value: dict[str, Any], path: Path, origins: Origins) -> None:  # noqa: ARG002
        self._value = value
        self._path = path
        self._origins = origins

    def __exit__(self, *failed: object) -> None:
        return None


class SwitchRef(_Ways):
    """A switch: its id, and its cases."""

    def __enter__(self) -> Self:
        return self

    def case(self, when: Condition) -> Block:
        """The steps that run if this is the first condition that holds."""
        value: dict[str, Any] = {"when": _field("when", when)}
        place = Place(self._value["cases"], (*self._path, "cases"), self._origins)
        path = place.put(value)
        return Block(place.within(value, "steps", path))

    def else_(self) -> Block:
        """The steps that run if no condition holds."""
        return Block(Place([], (), self._origins).within(self._value, "else", self._path))


class ParallelRef(_Ways):
    """A parallel: its id, and its branches."""

    def __enter__(self) -> Self:
        return self

    def branch(self, name: str) -> Block:
        """A list of steps beside the others. Raises: UsageError for a name that is taken."""
        if name in self._value["branches"]:
            raise UsageError(f"step {self} has a branch {name!r} already", code="duplicate_key", hint="another name")
        path = (*self._path, "branches")
        return Block(Place([], path, self._origins).within(self._value["branches"], name, path))
