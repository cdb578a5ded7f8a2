"""Random documents as real jobs: many at once, on two hosts of which one stops, end as the reference says."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import msgspec
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from actors import App, Retry
from actors.interpreter.component import workflow_component
from actors.testing import replay
from actors.workflow.document import Document
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.failure import TerminalError
from bus.messages import Ended, JobCompleted, JobOwned
from bus.streams import EVENTS, stream_info
from store.log import Recorded
from tests.reference_interpreter import reference_run
from tests.test_random_workflows import Maker
from tests.troupe import check_decisions, troupe
from tests.waiting import wait_until

NUMBER = 30
app = App("random", version="1.0.0")


@app.tool(retry=Retry(attempts=1))
async def work(n: int, fail: bool = False) -> int:
    """One more."""
    if fail:
        raise TerminalError("it is broken", code="broken")
    return n + 1


class Unordered(Maker):
    """Draws documents whose end does not depend on what is faster: no joins but for all."""

    def tie(self, step: dict[str, Any], needs: list[str], made: list[dict[str, Any]]) -> None:
        """Let a step wait for others."""
        del made
        step["needs"] = needs

    def _join(self, of: int) -> dict[str, Any]:
        del of
        return {}


def _drawn(number: int) -> list[Document]:
    """The same documents on every run."""
    found: list[Document] = []

    @settings(max_examples=number, phases=[Phase.generate], derandomize=True, database=None, deadline=None)
    @given(st.data())
    def draw(data: st.DataObject) -> None:
        found.append(Unordered(data.draw).document())

    draw()
    return [msgspec.structs.replace(document, name=f"made-{number}") for number, document in enumerate(found)]


def _told(end: object) -> tuple[str, Any]:
    """An end as the reference says it; by which of several failures a job failed is chance."""
    return ("completed", msgspec.json.decode(end.output)) if isinstance(end, JobCompleted) else ("failed", None)


async def test_random_documents_end_as_the_reference_says(nats_server: EmbeddedServer) -> None:
    """Conditions, maps, loops and failures, taken over in the middle; each decision once, and replays agree."""
    documents = _drawn(NUMBER)
    everything = App("random", version="1.0.0")
    everything.components += [*app.components, *(workflow_component(each, app="random") for each in documents)]
    moment = random.Random(4).randint(40, 160)
    async with troupe(nats_server.url, everything, hosts=2, park_after_s=0.3) as on:
        for document in documents:
            await on.submit(document.name, document.name, {})
        await wait_until(lambda: _has_events(on.bus, moment), 60)
        held = len(on.hosts[0].running)
        await on.hosts[0].stop()
        await on.all_end([document.name for document in documents])
        logs = {document.name: await on.events(document.name) for document in documents}
    assert held, "the host that stopped held no job"
    for document in documents:
        await _check(everything, document, logs[document.name])
    owned = [sum(isinstance(r.event, JobOwned) for r in log) for log in logs.values()]
    assert max(owned) > 1


async def _has_events(bus: Bus, number: int) -> bool:
    info = await stream_info(bus, EVENTS)
    assert info is not None
    return bool(info["state"]["messages"] >= number)


async def _check(everything: App, document: Document, log: list[Recorded]) -> None:
    check_decisions(log)
    status, result = await asyncio.to_thread(reference_run, document, {})
    end = next(r.event for r in log if isinstance(r.event, Ended))
    assert _told(end) == (status, result if status == "completed" else None), document
    component = everything.find("job", document.name, None)
    assert component is not None
    (await replay(component, log)).check()
