"""What runs: lists of steps (frames) and steps in them (runs)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal

import msgspec

from actors.interpreter.formula import Scope
from actors.interpreter.plan import ListPlan, StepPlan
from bus.failure import Failure

Status = Literal["waiting", "running", "completed", "skipped", "failed", "cancelled"]


class Frame(msgspec.Struct, eq=False):
    """One run of a list. ``number`` is the instance, round, case or branch; ``active`` counts steps on their way.

    ``prefix`` is what the places of its steps begin with: empty at the top, ``each.3/`` in an instance of map each.
    """

    plan: ListPlan
    prefix: str
    scope: Scope
    owner: Run | None
    number: int = 0
    runs: dict[str, Run] = msgspec.field(default_factory=dict)
    active: int = 0
    is_over: bool = False

    def __post_init__(self) -> None:
        self.runs = {name: Run(plan, self) for name, plan in self.plan.steps.items()}

    def is_inside(self, outer: Frame) -> bool:
        """Whether it is ``outer``, or runs within it."""
        frame: Frame | None = self
        while frame is not None:
            if frame is outer:
                return True
            frame = frame.owner.frame if frame.owner else None
        return False


class Run(msgspec.Struct, eq=False):
    """One step of a frame. ``asks``: what it has asked for and not got, by role.

    Of what is inside of it: ``frames`` that run, by number; ``ended`` whether each that is over completed; ``good`` how
    many of those did; ``outputs`` what they gave. ``gone``: it has handed over to another step. ``lingers``: it has
    completed, and something inside of it goes on.
    """

    plan: StepPlan
    frame: Frame
    status: Status = "waiting"
    output: Any = None
    failure: Failure | None = None
    given: dict[str, Any] = msgspec.field(default_factory=dict)
    now: datetime | None = None
    asks: dict[str, str] = msgspec.field(default_factory=dict)
    frames: dict[int, Frame] = msgspec.field(default_factory=dict)
    ended: dict[int, bool] = msgspec.field(default_factory=dict)
    good: int = 0
    outputs: dict[int, Any] = msgspec.field(default_factory=dict)
    items: list[Any] = msgspec.field(default_factory=list)
    times: int = 0
    gone: bool = False
    lingers: bool = False
    is_closed: bool = False
    then: dict[str, Callable[[], None]] = msgspec.field(default_factory=dict)
    lock_key: str = ""

    @property
    def id(self) -> str:
        """The step's id."""
        return self.plan.id

    @property
    def place(self) -> str:
        """Where it stands in the job: ``quote``, or ``each.3/quote`` within an instance of a map."""
        return self.frame.prefix + self.plan.id

    @property
    def is_through(self) -> bool:
        """Whether what needs it may start, as far as this step goes."""
        match self.status:
            case "completed" | "skipped" | "cancelled":
                return not self.gone
            case "failed":
                return self.plan.step.on_error == "continue"
            case _:
                return False

    @property
    def can_complete(self) -> bool:
        """Whether it has completed or may yet."""
        return self.status in ("waiting", "running", "completed")

    def computed_output(self) -> Any:
        """What its field ``output`` gives where the step stands. Raises: FormulaFailed."""
        assert self.plan.output is not None
        return self.plan.output.value(self.frame.scope, self.now)

    def outcome(self) -> dict[str, Any]:
        """What expressions see of it."""
        error = None
        if self.failure is not None:
            error = {"code": self.failure.code, "message": self.failure.message, "details": self.failure.details or {}}
        return {"output": self.output, "status": self.status, "error": error}
