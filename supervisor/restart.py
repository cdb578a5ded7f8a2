"""When a child is restarted, who goes with it, how fast, and when that is given up: OTP's rules as pure functions.

The names and semantics are those of Erlang's ``supervisor`` (restart types, strategies, ``add_restart``). One thing is
added: a delay before a restart, since starting a Python process costs far more than spawning an Erlang one. Nothing
here reads a clock or a random number; ``supervisor.tree`` passes both in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, assert_never, get_args

import msgspec

from bus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

RestartKind = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
RESTART_KINDS: tuple[RestartKind, ...] = get_args(RestartKind)
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)

BACKOFF_S = 0.25
# Short enough that the longest delays of a crash loop together stay within the default period: see ``Group``.
BACKOFF_LIMIT_S = 5.0
# A child that ran for so long is no crash loop: its next restart is immediate again.
STABLE_AFTER_S = 10.0
# EX_CONFIG of sysexits.h: the process cannot run as it is configured, and would say so again.
EXIT_CONFIG = 78


def should_restart(kind: RestartKind, exit_code: int) -> bool:
    """Whether a child that ended by itself is started again; a negative code is the signal that killed it.

    Only exit 0 is a normal end. A child that dies of an unhandled SIGTERM was killed by someone else than us
    and is abnormal: with OTP's ``shutdown`` reason it shares the name, not the sender.
    """
    match kind:
        case "permanent":
            return True
        case "transient":
            return exit_code != 0
        case "temporary":
            return False
        case _:
            assert_never(kind)


def affected(strategy: Strategy, order: Sequence[str], failed: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Who is stopped (in reverse order, without ``failed``, which is dead) and who is then started (in order).

    ``order`` is the start order of the group. Raises: UsageError if ``failed`` is not in it.
    """
    if failed not in order:
        raise UsageError(f"{failed} is no child of this group", code="unknown_child", path="failed")
    match strategy:
        case "one_for_one":
            to_start: tuple[str, ...] = (failed,)
        case "one_for_all":
            to_start = tuple(order)
        case "rest_for_one":
            to_start = tuple(order[list(order).index(failed) :])
        case _:
            assert_never(strategy)
    return tuple(name for name in reversed(to_start) if name != failed), to_start


class Intensity(msgspec.Struct, frozen=True):
    """At most ``max_restarts`` restarts within any ``period_s`` seconds; one more and the group is given up."""

    max_restarts: int = 5
    period_s: float = 30.0

    def __post_init__(self) -> None:
        if self.max_restarts < 0:
            raise BadIntensity(f"max_restarts is {self.max_restarts}", path="max_restarts", hint="a number from 0")
        if not 0 < self.period_s < float("inf"):
            raise BadIntensity(f"period_s is {self.period_s}", path="period_s", hint="a finite number above 0")


class BadIntensity(UsageError, ValueError):
    """An intensity that cannot be. Also a ValueError, so that msgspec reports it when it decodes one."""


class BadGroup(UsageError, ValueError):
    """A group that cannot be. Also a ValueError, so that msgspec turns it into a ValidationError on decoding."""


class Group(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the processes of a group are restarted: who goes with one that dies, and how often that may happen.

    ``max_restarts`` within any ``period_s`` seconds; one more and the group is given up. The default bears a few calls
    that kill their process at the same time, and still ends a process that cannot start within half a minute.
    Raises: BadGroup (a UsageError) with the path of the wrong field.
    """

    strategy: Strategy = "one_for_one"
    max_restarts: int = 10
    period_s: float = 60.0

    def __post_init__(self) -> None:
        if self.strategy not in STRATEGIES:
            hint = f"one of {', '.join(STRATEGIES)}"
            raise BadGroup(f"Group.strategy is {self.strategy!r}", code="bad_group", path="strategy", hint=hint)
        try:
            Intensity(self.max_restarts, self.period_s)
        except BadIntensity as error:
            raise BadGroup(f"Group.{error.args[0]}", code="bad_group", path=error.path, hint=error.hint) from None

    @property
    def intensity(self) -> Intensity:
        """The number of restarts that are borne."""
        return Intensity(self.max_restarts, self.period_s)


class Allowed(msgspec.Struct, frozen=True, tag=True):
    """The restart may go ahead."""


class Exceeded(msgspec.Struct, frozen=True, tag=True):
    """One restart too many: ``restarts`` within the period, this one included."""

    restarts: int


def add_restart(
    times: Sequence[float], now: float, intensity: Intensity
) -> tuple[tuple[float, ...], Allowed | Exceeded]:
    """Note a restart at ``now`` (monotonic seconds) and say whether it is still within ``intensity``.

    Returns the times that still count, oldest first. As in OTP a restart exactly ``period_s`` ago still counts,
    and the group is given up at restart ``max_restarts + 1``.
    """
    recent = (*(time for time in times if now <= time + intensity.period_s), now)
    if len(recent) <= intensity.max_restarts:
        return recent, Allowed()
    return recent, Exceeded(len(recent))


def restart_streak(streak: int, uptime_s: float) -> int:
    """The number of this restart in its crash loop, from 1; a long enough ``uptime_s`` starts the count anew."""
    return 1 if uptime_s >= STABLE_AFTER_S else streak + 1


def backoff(restart_count: int, roll: float) -> float:
    """Seconds to wait before restart number ``restart_count`` (from 1); ``roll`` is a random number in [0, 1).

    The first is immediate, so that a killed process serves again at once; then full jitter below
    ``BACKOFF_S * 2**(restart_count - 1)``, at most ``BACKOFF_LIMIT_S``.
    """
    if restart_count <= 1:
        return 0.0
    doublings = min(restart_count - 1, 32)  # far past the limit already; a float power would overflow some day
    return float(roll * min(BACKOFF_LIMIT_S, BACKOFF_S * 2**doublings))
