"""A team whose analyst's tool waits for a file, so that a test can kill somebody in the middle."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from actors import App, Budget, Team
from actors.model.model import ModelRequest
from actors.testing import ScriptedModel, say, use

LEDGER = Path(os.environ.get("CALLBOARD_TEST_LEDGER", os.devnull))
GATE = LEDGER.with_name("gate")


def note(line: str) -> None:
    """One line in the test's ledger."""
    with LEDGER.open("a") as ledger:
        ledger.write(line + "\n")


def play(request: ModelRequest) -> Any:
    """Everybody's words."""
    told = request.messages[0].text
    note(f"model {request.system[:12]} {told.partition(' ')[0]} {len(request.messages)}")
    if request.system.startswith("You plan"):
        tasks = [{"id": f"t{n}", "role": "analyst", "task": f"part{n} please"} for n in (1, 2)]
        return say({"tasks": [*tasks, {"id": "t3", "role": "analyst", "task": "part3 please", "needs": ["t1", "t2"]}]})
    if request.system.startswith("You review"):
        back = [] if "You sent back" in told else [{"task": "t2", "reason": "again"}]
        return say({"returned": back})
    if request.system.startswith("You write"):
        return say("It is so [t1.1, t2.1, t3.1].")
    return say("done") if len(request.messages) > 1 else use("look", {"part": told.partition(" ")[0]})


app = App("bureau", version="1.0.0")
model = ScriptedModel(play)


@app.tool(read_only=True)
async def look(part: str) -> str:
    """Look, once the gate is open."""
    while not GATE.exists():  # noqa: ASYNC110 - opened from another process
        await asyncio.sleep(0.02)
    note(f"look {part}")
    return part


team = Team(
    app, "bureau", model=model, planner=app.role("planner", model=model), writer=app.role("writer", model=model),
    roles=[app.role("analyst", model=model, tools=[look])], reviewer=app.role("reviewer", model=model, tools=[]),
    budget=Budget(turns=40),
)  # fmt: skip
