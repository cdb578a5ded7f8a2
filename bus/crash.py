"""Named crash points: a test arms one from outside, and the process kills itself there, once.

``CALLBOARD_CRASH_AT="host.append.call:2:/tmp/marker"`` kills the process with SIGKILL the second time that it comes by
``host.append.call``. The marker file makes it happen once, however often the process is started again. Unarmed, a
crash point costs one comparison. After DBOS's debug triggers.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "CALLBOARD_CRASH_AT"

_name, _left, _marker = "", 0, ""


def arm(spec: str) -> None:
    """Arm from ``name:hit:marker``; an empty spec disarms. Raises: ValueError if the spec is malformed."""
    global _name, _left, _marker  # noqa: PLW0603 - one armed point a process
    if not spec:
        _name = ""
        return
    name, hit, marker = spec.split(":", 2)
    _name, _left, _marker = name, int(hit), marker


def crash_point(place: str, what: str = "") -> None:
    """Die here if a test asked for it: at ``place``, or at ``place.what``."""
    if _name and _name == (f"{place}.{what}" if what else place):
        _hit()


def _hit() -> None:
    global _left  # noqa: PLW0603
    _left -= 1
    if _left > 0:
        return
    try:
        os.close(os.open(_marker, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


arm(os.environ.get(VARIABLE, ""))
