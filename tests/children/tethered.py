"""A child that holds its tether, in one of several states of health (first argument).

polite: ends when asked. blocked: its event loop never runs again. helper: has a helper process of its own.
hooked: its release hook writes the file named by the second argument.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from supervisor.tether import TETHER_FD_VARIABLE, hold_tether


async def main(mode: str) -> None:
    """Say that we are there, then behave as ``mode`` says."""
    asked_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked_to_end.set)
    if mode == "helper":
        helper = await asyncio.create_subprocess_exec("sleep", "600")
        print(f"helper {helper.pid}")
    print(f"ready {mode} {os.getpid()} {TETHER_FD_VARIABLE in os.environ}")
    while mode == "blocked":
        pass
    await asked_to_end.wait()
    if mode == "helper":
        await asyncio.Event().wait()  # too slow for the grace: the group has to be killed


if __name__ == "__main__":
    assert hold_tether((lambda: Path(sys.argv[2]).touch()) if len(sys.argv) > 2 else None)
    asyncio.run(main(sys.argv[1]))
