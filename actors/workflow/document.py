"""A workflow as a document: a closed union of steps. The published JSON Schema is made of these types.

A step starts once what it needs is through; one that needs nothing starts with its list. A text in ``with``, ``data``,
``values`` and ``output`` that is ``${ ... }`` as a whole is an expression; ``when``, ``until`` and ``over`` are
expressions as they stand.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from bus.subjects import Priority
from supervisor.at_once import AtOnce
from supervisor.breaker import OnOpen
from supervisor.rate import Rate
from supervisor.retry import Retry

# An identifier of the expression language, so that steps.<id> can be written.
Id = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$", description="unique in the document")]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Seconds = Annotated[float, Meta(gt=0, description="seconds")]
Count = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1)]
Expression = Annotated[str, Meta(min_length=1, description="a CEL expression")]
Reference = Annotated[str, Meta(min_length=1, description="a component: [app.]name[@major]")]
Schema = Annotated[dict[str, Any], Meta(description="a JSON Schema (2020-12)")]
Values = Annotated[dict[str, Any], Meta(description="values; a text that is ${ ... } as a whole is an expression")]


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A piece of a document: a field that it does not have is a fault."""


class RetryPolicy(Retry, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A ``Retry`` in a document."""


class AtOncePolicy(AtOnce, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An ``AtOnce`` in a document."""


class RatePolicy(Rate, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A ``Rate`` in a document."""


class Join(Part, frozen=True, kw_only=True):
    """Go on when ``n`` of these have completed (left out: when all are through); the rest is cancelled or goes on.

    ``of`` names steps of the same list; of a ``parallel`` its branches, and left out all of them. The join of a
    ``map`` counts its instances. ``n`` may be an expression in ``${ }``.
    """

    of: tuple[str, ...] = ()
    n: Count | str | None = None
    cancel_rest: bool = False


class Goto(Part, frozen=True, kw_only=True):
    """After a failure go on at another step of the same list."""

    goto: str


class Compensation(Part, frozen=True, kw_only=True):
    """The tool that undoes a step."""

    tool: Reference
    with_: Values = msgspec.field(default_factory=dict, name="with")


class Cache(Part, frozen=True, kw_only=True):
    """How long an output may be used again for the same input, or for the same ``key``."""

    ttl_s: Seconds
    key: Expression | None = None


class StepBase(Part, frozen=True, kw_only=True, tag_field="kind"):
    """What all steps have."""

    id: Id
    description: str = ""
    needs: tuple[str, ...] = ()
    join: Join | None = None
    when: Expression | None = None
    timeout_s: Seconds | None = None
    on_error: Literal["fail", "continue", "compensate"] | Goto = "fail"
    compensate: Compensation | None = None
    lock: Text | None = None
    cancels: tuple[str, ...] = ()
    completes: tuple[str, ...] = ()


class CallStep(StepBase, frozen=True, kw_only=True):
    """What all steps have that run a component."""

    run: Reference
    with_: Values = msgspec.field(default_factory=dict, name="with")
    retry: RetryPolicy | None = None
    on_open: OnOpen | None = None
    cache: Cache | None = None


class ToolStep(CallStep, frozen=True, kw_only=True, tag="tool"):
    """Call a tool."""


class AgentStep(CallStep, frozen=True, kw_only=True, tag="agent"):
    """Run an agent."""

    priority: Priority | None = None


class JobStep(CallStep, frozen=True, kw_only=True, tag="job"):
    """Run another job; with ``wait: false`` only start it."""

    wait: bool = True
    priority: Priority | None = None


class Escalate(Part, frozen=True, kw_only=True):
    """When nobody has decided after so long, ask these roles too."""

    after_s: Seconds
    roles: tuple[Name, ...]


class ApprovalStep(StepBase, frozen=True, kw_only=True, tag="approval"):
    """Ask people; ``answer`` is the schema of what they may say, ``quorum`` how many have to agree.

    ``edit`` are values that they may change. With ``on_reject: continue`` a rejection is no failure of the step.
    """

    title: Text
    details: Values = msgspec.field(default_factory=dict)
    answer: Schema = msgspec.field(default_factory=dict)
    roles: tuple[Name, ...] = ()
    quorum: Count = 1
    expires_s: Seconds | None = None
    escalate: tuple[Escalate, ...] = ()
    edit: Values = msgspec.field(default_factory=dict)
    on_reject: Literal["fail", "continue"] = "fail"


class WaitStep(StepBase, frozen=True, kw_only=True, tag="wait"):
    """Wait for a signal; ``fresh``: one that came before the step began does not count."""

    signal: Name
    fresh: bool = False


class SleepStep(StepBase, frozen=True, kw_only=True, tag="sleep"):
    """Wait for a time: seconds, or ``${ ... }`` that gives them."""

    for_s: Seconds | str


class EmitStep(StepBase, frozen=True, kw_only=True, tag="emit"):
    """Tell the world: write an event."""

    event: Name
    data: Values = msgspec.field(default_factory=dict)


class SetStep(StepBase, frozen=True, kw_only=True, tag="set"):
    """Compute values; they are the step's output."""

    values: Values


class GotoStep(StepBase, frozen=True, kw_only=True, tag="goto"):
    """Go on at another step of the same list: it and all that comes after it run anew."""

    to: str
    max_times: Count = 100


class EndStep(StepBase, frozen=True, kw_only=True, tag="end"):
    """End the whole workflow now; what still runs is cancelled."""

    status: Literal["completed", "failed"] = "completed"
    message: str = ""
    result: Any = None


class AddStep(StepBase, frozen=True, kw_only=True, tag="add"):
    """Add instances to a map that runs: one that this step is inside of, or one of the same list."""

    to: str
    items: Expression


class MapStep(StepBase, frozen=True, kw_only=True, tag="map"):
    """Run the steps for each item of a list; ``output`` is what each gives.

    ``until`` is computed after each instance, from the ``outputs`` so far and how many there are (``total``): once it
    holds, that is enough. The rest goes on, or is cancelled if ``join`` says so.
    """

    over: Expression
    as_: Id = msgspec.field(default="item", name="as")
    max_parallel: Count | None = None
    until: Expression | None = None
    steps: Steps
    output: Any = None


class Case(Part, frozen=True, kw_only=True):
    """One way of a switch."""

    when: Expression
    steps: Steps


class SwitchStep(StepBase, frozen=True, kw_only=True, tag="switch"):
    """Run the steps of the first case that holds, or else those of ``else``."""

    cases: Annotated[tuple[Case, ...], Meta(min_length=1)]
    else_: tuple[Step, ...] = msgspec.field(default=(), name="else")
    output: Any = None


class LoopStep(StepBase, frozen=True, kw_only=True, tag="loop"):
    """Run the steps until ``until`` holds after a round, ``max_rounds`` times at most."""

    until: Expression
    max_rounds: Count
    steps: Steps
    output: Any = None


class ParallelStep(StepBase, frozen=True, kw_only=True, tag="parallel"):
    """Run branches side by side."""

    branches: Annotated[dict[str, Steps], Meta(min_length=1)]
    output: Any = None


Step = (
    ToolStep
    | AgentStep
    | JobStep
    | ApprovalStep
    | WaitStep
    | SleepStep
    | MapStep
    | SwitchStep
    | LoopStep
    | ParallelStep
    | EmitStep
    | SetStep
    | GotoStep
    | EndStep
    | AddStep
)
Steps = Annotated[tuple[Step, ...], Meta(min_length=1)]


class Param(Part, frozen=True, kw_only=True):
    """A parameter of the definition; without a default whoever uses it has to give it."""

    description: str = ""
    schema: Schema = msgspec.field(default_factory=dict)
    default: Any = msgspec.UNSET


class Document(Part, frozen=True, kw_only=True):
    """A workflow."""

    schema: str | None = msgspec.field(default=None, name="$schema")
    name: Name
    version: Annotated[str, Meta(description="a semantic version")]
    description: str = ""
    category: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict)
    input: Schema = msgspec.field(default_factory=dict)
    output: Schema = msgspec.field(default_factory=dict)
    params: dict[Id, Param] = msgspec.field(default_factory=dict)
    at_once: AtOncePolicy | None = None
    rate: RatePolicy | None = None
    steps: Steps
    result: Any = None
