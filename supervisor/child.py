"""What a child is (argv data, so that a broken user module cannot take the supervisor down) and how it is doing."""

from __future__ import annotations

import math
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from bus.errors import UsageError
from supervisor.heartbeat import AssetBeat
from supervisor.limits import Limits
from supervisor.restart import RESTART_KINDS, RestartKind
from supervisor.tether import TETHER_FD_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

NAME_LIMIT_CHARS = 128

ChildState = Literal["starting", "running", "draining", "backing_off", "stopping", "stopped", "given_up"]


class ChildSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One child process: ``argv`` is executed as it stands, ``env`` is added to the supervisor's own environment.

    ``grace_s`` is the time between SIGTERM and SIGKILL. Children of one ``group`` share a strategy and an intensity.
    ``component`` is a label for people, ``serves`` are the names by which it can be asked for. A child of which
    nothing is heard for ``stall_s`` seconds is taken for dead
    (0: it is not watched); one that goes past its ``limits`` is ended.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = {}
    kind: RestartKind = "permanent"
    grace_s: float = 10.0
    group: str = ""
    component: str = ""
    stall_s: float = 0.0
    limits: Limits = Limits()
    serves: tuple[str, ...] = ()


class ChildStatus(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One child as ``ps`` shows it; ``last_exit`` is how it ended last, ``doing`` what it said that it does.

    ``since`` is when that began, ``sequence`` the stream sequence of the last message that it has done with, ``busy``
    how many calls or jobs it has begun and not ended, ``assets`` what its process shares among its calls,
    ``warnings`` what it says will not work as it is set up.
    """

    name: str
    component: str
    state: ChildState
    pid: int | None = None
    restarts: int = 0
    started_at: datetime | None = None
    last_exit: str = ""
    doing: str = ""
    since: datetime | None = None
    sequence: int = 0
    busy: int = 0
    group: str = ""
    serves: tuple[str, ...] = ()
    assets: tuple[AssetBeat, ...] = ()
    warnings: tuple[str, ...] = ()


class GivenUp(msgspec.Struct, frozen=True, kw_only=True):
    """Children of one group that are not started again until someone asks for it, and why."""

    group: str
    actors: tuple[str, ...]
    reason: str


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong in a list of specs: where, and what."""

    path: str
    message: str


def validate_specs(specs: Sequence[ChildSpec]) -> None:
    """Refuse a list of specs that cannot run, before anything starts. Raises: UsageError that holds every finding."""
    findings = spec_findings(specs)
    if findings:
        text = "; ".join(f"{finding.path}: {finding.message}" for finding in findings)
        raise UsageError(f"child specs cannot run: {text}", code="bad_child_spec", path=findings[0].path)


def spec_findings(specs: Sequence[ChildSpec]) -> list[Finding]:
    """Everything that is wrong with ``specs``, in their order; empty if they can run."""
    found = [finding for index, spec in enumerate(specs) for finding in _one(spec, _label(spec, index))]
    return found + list(_duplicates(spec.name for spec in specs))


def _label(spec: ChildSpec, index: int) -> str:
    return f"specs[{index}] {spec.name!r}" if spec.name else f"specs[{index}]"


def _one(spec: ChildSpec, path: str) -> Iterator[Finding]:
    yield from (Finding(f"{path}.name", message) for message in _name_faults(spec.name))
    yield from (Finding(f"{path}.argv", message) for message in _argv_faults(spec.argv))
    yield from (Finding(f"{path}.env", message) for message in _env_faults(spec.env))
    if spec.kind not in RESTART_KINDS:
        yield Finding(f"{path}.kind", f"{spec.kind!r} is none of {', '.join(RESTART_KINDS)}")
    for field in ("grace_s", "stall_s"):
        if not _is_duration(getattr(spec, field)):
            yield Finding(f"{path}.{field}", f"{getattr(spec, field)!r} is no finite number of seconds from 0")
    yield from (Finding(f"{path}.limits", message) for message in _limit_faults(spec.limits))


# Struct fields are not checked when a Struct is built in Python, only when it is decoded: hence Any below.


def _is_duration(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and value >= 0


def _limit_faults(limits: Any) -> Iterator[str]:
    if not isinstance(limits, Limits):
        yield f"{limits!r} is no Limits"


def _name_faults(name: Any) -> Iterator[str]:
    if not isinstance(name, str) or not name:
        yield "is empty"
    elif len(name) > NAME_LIMIT_CHARS:
        yield f"has {len(name)} characters, the limit is {NAME_LIMIT_CHARS}"
    elif not name.isprintable() or " " in name:
        yield "holds a space or an unprintable character"


def _argv_faults(argv: Any) -> Iterator[str]:
    if not isinstance(argv, (tuple, list)) or not argv or not argv[0]:
        yield "has no program; it has to be a tuple such as (sys.executable, '-m', 'module')"
        return
    for index, argument in enumerate(argv):
        if not isinstance(argument, str):
            yield f"[{index}] is {type(argument).__name__}, not str"
        elif "\0" in argument:
            yield f"[{index}] holds a NUL character"


def _env_faults(env: Any) -> Iterator[str]:
    for key, value in env.items():
        if not isinstance(key, str) or not isinstance(value, str):
            yield f"{key!r}: names and values have to be str"
        elif not key or "=" in key or "\0" in key or "\0" in value:
            yield f"{key!r} is no name, or holds a NUL character"
        elif key == TETHER_FD_VARIABLE:
            yield f"{key} is set by the supervisor"


def _duplicates(names: Iterable[str]) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, name in enumerate(names):
        if name in seen:
            yield Finding(f"specs[{index}].name", f"{name!r} is used twice")
        seen.add(name)
