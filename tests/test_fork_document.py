"""Forks and amendments of jobs that run a workflow document: its steps are what they go by."""

from __future__ import annotations

import msgspec

from actors import App, ToolContext
from actors.clients.client import Client
from actors.interpreter.component import workflow_component
from bus.embedded import EmbeddedServer
from bus.messages import CallTool
from tests.test_workflow_runs import document
from tests.troupe import check_decisions, troupe

DEADLINE_S = 40
CHAIN = """
steps:
  - {id: first, kind: tool, run: double, with: {n: 1}}
  - {id: pause, kind: wait, signal: go, needs: [first]}
  - {id: second, kind: tool, run: double, needs: [pause], with: {n: "${ steps.first.output }"}}
  - {id: third, kind: tool, run: double, needs: [second], with: {n: "${ steps.second.output }"}}
result: ${ steps.third.output }
"""

app = App("docs", version="1.0.0")
SEEN: list[str] = []


@app.tool
async def double(ctx: ToolContext, n: int) -> int:
    """Twice that, on the record."""
    SEEN.append(ctx.idempotency_key)
    return 2 * n


app.components.append(workflow_component(msgspec.structs.replace(document(CHAIN), name="chain"), app="docs"))


async def test_a_document_is_forked_and_amended_by_its_steps(nats_server: EmbeddedServer) -> None:
    """A step's policy is changed while the job waits; a fork from a step runs that step and what follows, no other."""
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        await on.submit("chain", "d", {})
        handle = client.handle("d")
        await handle.signal("hello")  # waits until a host has taken it up
        await client.set_policy("d", "second", timeout_s=7)
        await handle.signal("go")
        assert await handle.result(DEADLINE_S) == 8
        timeouts = {r.event.call: r.event.timeout_s for r in await on.events("d") if isinstance(r.event, CallTool)}
        assert [call for call, timeout_s in timeouts.items() if timeout_s == 7] == ["second/double:1"]
        fork = await client.fork("d", from_="second", new_id="f")
        assert await fork.result(DEADLINE_S) == 8
        assert [key for key in SEEN if key.startswith("f/")] == ["f/second/double:1", "f/third/double:1"]
        copied = [call.call for call in (await fork.view()).calls if call.copied]
        assert "first/double:1" in copied and not [call for call in copied if call.startswith(("second", "third"))]
        check_decisions(await on.events("f"))
