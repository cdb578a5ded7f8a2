"""A supervisor to be killed: starts a child for each argument and passes their lines on to its stdout.

The first argument names the event loop (asyncio or uvloop), each other one is the arguments of a tethered child.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from supervisor.child import ChildSpec
from supervisor.tree import Supervisor

CHILD = str(Path(__file__).with_name("tethered.py"))


async def main(modes: list[str]) -> None:
    """Supervise until killed."""
    specs = [
        ChildSpec(name=f"c{index}", argv=(sys.executable, CHILD, *mode.split())) for index, mode in enumerate(modes)
    ]
    await Supervisor(specs, on_line=lambda _name, _stream, text: print(text, flush=True)).run()


if __name__ == "__main__":
    factory = uvloop.new_event_loop if sys.argv[1] == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main(sys.argv[2:]))
