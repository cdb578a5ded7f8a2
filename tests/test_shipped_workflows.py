"""Workflows over real nodes: shipped with an app, published while nodes run, and a job that outlives its version."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml

from actors import Client
from bus.embedded import EmbeddedServer
from bus.messages import JobCompleted, JobOwned, JobSubmitted
from tests.nodes import Town, town
from tests.waiting import wait_until

TARGET = "tests.apps.documents:app"
SHIPPED = """\
name: shipped
version: VERSION
params: {says: {}}
steps:
  - {id: price, kind: tool, run: price, with: {sku: abc}}
  - {id: go, kind: wait, signal: go, needs: [price]}
  - {id: end, kind: set, values: {of: "WORD"}, needs: [go]}
result: {word: "${ steps.end.output.of }", says: "${ params.says }", price: "${ steps.price.output }"}
"""


@pytest.fixture
async def place(nats_server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[Town]:
    """A server and no node yet; jobs park soon."""
    async with town(nats_server.url, tmp_path) as it:
        it.env["CALLBOARD_PARK_AFTER_S"] = "0.3"
        yield it


def ships(place: Town, version: str, word: str) -> None:
    """What the app of the next node ships."""
    file = place.folder / f"shipped-{version}-{word}.yaml"
    file.write_text(SHIPPED.replace("VERSION", version).replace("WORD", word))
    place.env |= {"CALLBOARD_TEST_DOCUMENT": str(file), "CALLBOARD_TEST_APP_VERSION": version}


async def done(place: Town, *arguments: str) -> Any:
    """What a command that succeeds prints as JSON."""
    code, out, err = await place.cli(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


async def waits(place: Town, job: str) -> None:
    """Until it waits for its signal, out of memory."""

    async def is_parked() -> bool:
        return any(recorded.event.kind == "job.waiting" for recorded in await place.events(job))

    await wait_until(is_parked, 60)


@pytest.mark.timeout(240)
async def test_a_job_outlives_the_version_that_it_began_with(place: Town) -> None:
    """The app moves to another major while a job waits: on a node that has only the new one the job is resumed from the
    bucket, survives kill -9 of its host, and ends as it began. New jobs run on the new one. A third node that ships
    another content under the same version does not start.
    """
    ships(place, "1.0.0", "old")
    first = await place.node("n1", target=TARGET)
    assert "workflow shipped 1.0.0: published" in first.log
    await place.submit("shipped", "old-1", {})
    await waits(place, "old-1")
    first.process.send_signal(signal.SIGTERM)
    assert await first.end() == 0
    ships(place, "2.0.0", "new")
    second = await place.node("n2", target=TARGET)
    await place.submit("shipped", "new-1", {})
    await waits(place, "new-1")
    async with Client.connect(bus=place.bus) as client:
        await client.signal("old-1", "go")
        await second.kill("host-1")
        await client.signal("new-1", "go")
    for job, word, version in (("old-1", "old", "1.0.0"), ("new-1", "new", "2.0.0")):
        end = await place.end(job, deadline_s=90)
        assert isinstance(end, JobCompleted), end
        assert json.loads(bytes(end.output)) == {"word": word, "says": "hello", "price": 3}
        events = [recorded.event for recorded in await place.events(job)]
        assert {e.version for e in events if isinstance(e, JobSubmitted | JobOwned)} == {version}
    listed = await done(place, "workflow", "list", "--all-versions")
    assert [(each["version"], each["app"], each["by"]) for each in listed] == [
        ("2.0.0", "documents", "app documents 2.0.0"),
        ("1.0.0", "documents", "app documents 1.0.0"),
    ]
    ships(place, "2.0.0", "changed")
    third = await place.node("n3", target=TARGET, up=False)
    assert await third.end() == 2
    assert "workflow shipped 2.0.0 is published with another content" in third.log
    assert "hint:  give yours version 2.0.1" in third.log


@pytest.mark.timeout(240)
async def test_published_while_nodes_run(place: Town) -> None:
    """A node that runs published workflows serves one from the moment at which it is published, and its next version;
    the process that runs them may be killed; it is shown with its node, and deprecated versions warn who submits.
    """
    node = await place.node("n1", "--workflows", target=TARGET)
    assert (await node.actors())["workflows"].doing == "idle"
    document = yaml.safe_load(SHIPPED.replace("shipped", "live").replace("VERSION", "1.0.0").replace("WORD", "one"))
    async with Client.connect(bus=place.bus) as client:
        await client.workflows.publish(document, params={"says": "hi"})
        jobs = [await client.submit("live") for _ in range(3)]
        for job in jobs:
            await waits(place, job.id)
        document = {**document, "version": "1.1.0", "result": {"word": "two", "says": "", "price": 0}}
        await client.workflows.publish(document, params={"says": "hi"})
        await node.kill("workflows")
        for job in jobs:
            await job.signal("go")
        for job in jobs:
            assert (await job.result(90))["word"] == "one"
        new = await client.submit("live@1.1.0")
        await waits(place, new.id)
        await new.signal("go")
        assert (await new.result(60))["word"] == "two"
        await client.workflows.deprecate("live", "1.0.0", "use 1.1", date(2999, 1, 1))
    shown = {row["component"]["version"]: row["replicas"] for row in await done(place, "components", "live")}
    assert shown == {"1.0.0": {"n1": 1}, "1.1.0": {"n1": 1}}
    code, _, err = await place.cli("submit", "live@1.0.0", "--job-id", "live-late")
    assert code == 0 and "warning: workflow live 1.0.0 is deprecated; new jobs are refused from 2999-01-01" in err
    await done(place, "workflow", "deprecate", "live@1.0.0", "--message", "use 1.1", "--on", "2001-01-01")
    code, _, err = await place.cli("submit", "live@1.0.0")
    assert code == 2 and "new jobs are refused from 2001-01-01: use 1.1" in err
