"""What users' tests need: replays of recorded jobs, and a model that plays a script.

Does a job function still do what it did, as far as its recorded history goes?

    $ callboard snapshot order-17 --out order.json            # once, from a job that ran; kept beside the tests

    async def test_order_is_deterministic():
        (await replay(order, Path("order.json"))).check()

The function runs against the history and nothing else: no server is needed, no tool and no local function is run,
nothing is written. A job whose code has changed, or that uses the clock, random numbers or the outside world directly,
asks for something else than it did; the first difference says what and where.
``callboard replay --verify`` does the same from the shell.

An agent, or any code that asks a model, is tested with a model that plays a script:

    model = ScriptedModel([use("sql", {"query": "select 1"}), say("There is one.")])

A history may also be had in a test, from ``record_history``, and kept as JSON lines by ``save_history``.
"""

from __future__ import annotations

from actors.model.scripted import ScriptedModel, fail, say, use
from actors.replays.difference import Difference, ReplayDiffers, ReplayResult
from actors.replays.history import load_history, record_history, save_history
from actors.replays.replay import replay

__all__ = [
    "Difference",
    "ReplayDiffers",
    "ReplayResult",
    "ScriptedModel",
    "fail",
    "load_history",
    "record_history",
    "replay",
    "save_history",
    "say",
    "use",
]
