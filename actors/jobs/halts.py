"""Why a job stops running in this process: a closed union. Only the first halt of a job counts."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from bus.failure import Failure


@dataclass(frozen=True)
class Returned:
    """The function returned; ``output`` is its value as JSON."""

    output: msgspec.Raw


@dataclass(frozen=True)
class Raised:
    """The function raised, or cannot go on."""

    failure: Failure


@dataclass(frozen=True)
class Cancelled:
    """Somebody signalled ``cancel``."""

    by: str
    reason: str


@dataclass(frozen=True)
class Terminated:
    """Somebody signalled ``terminate``: nothing is waited for, not even the function's cleaning up."""

    by: str
    reason: str


@dataclass(frozen=True)
class Parked:
    """It only waits; the log holds it."""


@dataclass(frozen=True)
class Fenced:
    """Another host owns it now."""


@dataclass(frozen=True)
class HandedBack:
    """This host stops; another one goes on."""


Halt = Returned | Raised | Cancelled | Terminated | Parked | Fenced | HandedBack
