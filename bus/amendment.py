"""What may be changed in a job that is under way: a closed union, in JSON as part of ``job.amended``.

``SetPolicy`` is for every job. The others are for jobs that run a workflow document, whose steps can be told from
outside; what a function does next is in its code.
"""

from __future__ import annotations

from typing import Any, assert_never, get_args

import msgspec


class _Change(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="type"):
    """A change, with its tag in ``type``."""


class SetPolicy(_Change, frozen=True, tag="set_policy"):
    """Calls of ``target`` (a component's name, the key of a call, or a step) are made otherwise.

    ``retry`` holds those fields of a retry policy that change; what is None stays as it is.
    """

    target: str
    retry: dict[str, Any] | None = None
    timeout_s: float | None = None
    on_open: str | None = None


class AddSteps(_Change, frozen=True, tag="add_steps"):
    """New steps (a JSON list of them) in the list within step ``into``, or at the top."""

    steps: msgspec.Raw
    into: str = ""


class AddItems(_Change, frozen=True, tag="add_items"):
    """Map ``step`` gets an instance for each of ``items`` (a JSON list)."""

    step: str
    items: msgspec.Raw


class FinishMap(_Change, frozen=True, tag="finish_map"):
    """Map ``step`` completes with what it has; instances that are not through are given up."""

    step: str


class SkipStep(_Change, frozen=True, tag="skip_step"):
    """Step ``step`` is given up, or does not begin; what needs it goes on."""

    step: str


Change = SetPolicy | AddSteps | AddItems | FinishMap | SkipStep
CHANGE_TYPES = tuple(str(kind.__struct_config__.tag) for kind in get_args(Change))


def in_words(change: Change) -> str:
    """A change in one line, for people; its data is left out."""
    match change:
        case SetPolicy(target=target):
            said = dict(change.retry or {}) | {"timeout_s": change.timeout_s, "on_open": change.on_open}
            return f"{target}: " + ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)
        case AddSteps(into=into):
            return f"new steps in {into}" if into else "new steps"
        case AddItems(step=step):
            return f"new items for {step}"
        case FinishMap(step=step):
            return f"{step} is finished"
        case SkipStep(step=step):
            return f"{step} is skipped"
    assert_never(change)
