"""The child's half of the tether: a pipe whose end of file means that the supervisor is gone, even by kill -9.

The supervisor holds the only write end (``supervisor.process``), so the kernel closes it however the supervisor dies.
PR_SET_PDEATHSIG is not used: it exists on Linux only, leaves the child no time to hand back its work, and fires
when the *thread* that started the child ends. What this cannot see: native code that never gives the GIL back.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import stat
import threading
import time
import traceback
from typing import TYPE_CHECKING

from bus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

TETHER_FD_VARIABLE = "CALLBOARD_TETHER_FD"
TETHER_GRACE_VARIABLE = "CALLBOARD_TETHER_GRACE_S"
DEFAULT_GRACE_S = 5.0


def hold_tether(on_release: Callable[[], None] | None = None) -> bool:
    """End this process when its supervisor is gone. To be called first in a child, before user code is imported.

    A daemon thread waits for the end of the pipe, calls ``on_release`` (in that thread; what it raises is printed),
    sends this process SIGTERM, and kills it with its process group ``CALLBOARD_TETHER_GRACE_S`` seconds later even
    if its event loop is blocked. Returns False if the process was not started by a supervisor.
    Raises: UsageError if the environment names a descriptor that is no pipe, or a bad grace.
    """
    # Taken out of the environment: a subprocess of ours does not get the descriptor, only its number.
    number = os.environ.pop(TETHER_FD_VARIABLE, "")
    if not number:
        return False
    fd, grace_s = _pipe(number), _grace_s()
    os.set_inheritable(fd, False)
    threading.Thread(target=_watch, args=(fd, grace_s, on_release), name="tether", daemon=True).start()
    return True


def _pipe(number: str) -> int:
    try:
        if stat.S_ISFIFO(os.fstat(int(number)).st_mode):
            return int(number)
    except (ValueError, OverflowError, OSError):
        pass
    raise UsageError(
        f"{TETHER_FD_VARIABLE} is {number!r}, which is no open pipe",
        code="bad_tether",
        path=TETHER_FD_VARIABLE,
        hint="unset it to run without a supervisor; a wrapper script must not close the descriptors that it inherits",
    )


def _grace_s() -> float:
    text = os.environ.get(TETHER_GRACE_VARIABLE, "")
    with contextlib.suppress(ValueError):
        grace_s = float(text) if text else DEFAULT_GRACE_S
        if math.isfinite(grace_s) and grace_s >= 0:
            return grace_s
    raise UsageError(f"{TETHER_GRACE_VARIABLE} is {text!r}", code="bad_tether", path=TETHER_GRACE_VARIABLE,
                     hint="a number of seconds from 0")  # fmt: skip


def _watch(fd: int, grace_s: float, on_release: Callable[[], None] | None) -> None:
    _wait_for_end(fd)
    deadline = time.monotonic() + grace_s
    guard = threading.Thread(target=_kill_at, args=(deadline,), name="tether-kill", daemon=True)
    guard.start()  # before the hook, which is foreign code and may never return
    _release(on_release)
    # To the main thread, since only there does a signal interrupt a blocking call.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _wait_for_end(fd: int) -> None:
    with contextlib.suppress(OSError):
        while os.read(fd, 1):
            pass


def _release(on_release: Callable[[], None] | None) -> None:
    try:
        if on_release is not None:
            on_release()
    except Exception:  # noqa: BLE001 - a broken hook must not keep the process alive
        with contextlib.suppress(OSError):  # stderr is a pipe to the supervisor that is gone
            traceback.print_exc()


def _kill_at(deadline: float) -> None:
    time.sleep(max(0.0, deadline - time.monotonic()))
    # With the group go the processes that this one has started; os._exit is for a child that leads no group.
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)
