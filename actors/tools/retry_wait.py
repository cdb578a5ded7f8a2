"""How much of the wait before the next attempt is left, by the log: the server keeps it, and may forget it. Pure.

A delay lives in the state of a consumer, which reaches the disk some time after it was said: a server that is killed
in between gives the call out again at once. So does the successor of a process that was killed between the record of
the failure and the word to the server. What is recorded holds.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from bus.messages import ReplyRetrying

# The server's timers are as exact; for less a call is not sent back.
TOLERANCE_S = 0.02


def rest_of_wait_s(failed: ReplyRetrying | None, now: datetime) -> float:
    """Seconds that are left of the wait after ``failed``, the newest attempt that failed; 0 if it is over.

    Never more than the recorded delay: the clock of the machine that wrote it may be ahead of ours.
    """
    if failed is None:
        return 0.0
    rest_s = (failed.at + timedelta(seconds=failed.delay_s) - now).total_seconds()
    return min(failed.delay_s, rest_s) if rest_s > TOLERANCE_S else 0.0
