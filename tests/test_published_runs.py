"""Published workflows run: which version a new job takes, which one an old job keeps, and what a host hears of."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors import App, Client, Job
from actors.clients.handle import JobHandle
from actors.clients.outcome import JobRejectedError
from actors.components.registry import Registry
from actors.gateway.gateway import Gateway
from actors.node.process import Actor
from actors.node.published_role import host_published
from actors.node.roster import Choice, roster
from actors.operations.hosting import Hosting
from actors.replays import verdict
from bus import headers as h
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.leases import LeaseBook
from bus.messages import CallJob, JobSubmitted
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.outbox import Outbox
from bus.reader import read_all
from bus.streams import EVENTS, JOBS, ensure_streams
from store.log import read_job
from tests.test_workflow_publishing import NoSweep, Shell
from tests.waiting import wait_until

DAY = date(2001, 2, 3)


def text(name: str, version: str, says: str, *, waits: bool = False) -> dict[str, Any]:
    """A workflow that says a word, after a signal if it waits."""
    steps: list[dict[str, Any]] = [{"id": "word", "kind": "set", "values": {"says": says}}]
    if waits:
        steps = [{"id": "go", "kind": "wait", "signal": "go"}, {**steps[0], "needs": ["go"]}]
    return {"name": name, "version": version, "steps": steps, "result": "${ steps.word.output.says }"}


@dataclass
class Place:
    """A server with a gateway, a host of published workflows, and a client."""

    bus: Bus
    client: Client

    async def publish(self, document: dict[str, Any], **more: Any) -> None:
        """Publish it."""
        await self.client.workflows.publish(document, **more)

    async def events(self, job: str) -> list[Any]:
        """The job's log."""
        return [recorded.event for recorded in await read_job(self.bus, self.client.blobs, "default", job)]

    async def version(self, job: str) -> str:
        """The version that a job began with, once it has."""

        async def found() -> str:
            return next((e.version for e in await self.events(job) if isinstance(e, JobSubmitted)), "")

        return await wait_until(found, 30)

    async def parked(self, job: str) -> None:
        """Until the job waits and has left memory."""

        async def is_parked() -> bool:
            events = await self.events(job)
            return bool(events) and events[-1].kind == "job.waiting"

        await wait_until(is_parked, 30)


@contextlib.asynccontextmanager
async def published_host(url: str, folder: Path, name: str) -> AsyncIterator[None]:
    """The role, in this process."""
    async with await Bus.connect(ConnectOptions(servers=[url]), name=name) as bus:
        actor = Actor(name, "n1", bus, Blobs(bus), LeaseBook(folder / f"{name}.log"), Outbox(folder / f"{name}.box"))
        stop = await host_published(actor)
        try:
            yield
        finally:
            await stop()
            actor.leases.close()


@pytest.fixture
async def place(nats_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    """Nothing is published yet."""
    monkeypatch.setenv("CALLBOARD_PARK_AFTER_S", "0.2")
    async with contextlib.AsyncExitStack() as stack:
        bus = await stack.enter_async_context(await Bus.connect(ConnectOptions(servers=[nats_server.url])))
        await ensure_streams(bus)
        registry = Registry(bus)
        await registry.start()
        stack.push_async_callback(registry.stop)
        gateway = Gateway(bus, registry, sweep=NoSweep(bus, Blobs(bus), registry))
        await gateway.start()
        stack.push_async_callback(gateway.stop)
        await stack.enter_async_context(published_host(nats_server.url, tmp_path, "workflows"))
        client = await stack.enter_async_context(Client.connect(bus=bus))
        yield Place(bus, client)


async def test_a_job_keeps_its_version(place: Place) -> None:
    """A job that waits while newer versions come ends as the one that it began with; new ones take the newest, or the
    version that they ask for.
    """
    await place.publish(text("keep", "1.0.0", "one", waits=True))
    old = await place.client.submit("keep")
    await place.parked(old.id)
    await place.publish(text("keep", "1.1.0", "one and more"))
    await place.publish(text("keep", "2.0.0", "two"))
    assert await (await place.client.submit("keep@2.0.0")).result(30) == "two"  # the host knows it from here on
    newest = await place.client.submit("keep")
    assert await newest.result(30) == "two"
    assert await (await place.client.submit("keep@1")).result(30) == "one and more"
    assert await (await place.client.submit("keep@1.1.0")).result(30) == "one and more"
    with pytest.raises(UsageError) as caught:
        await place.client.submit("keep@3")
    assert (caught.value.code, caught.value.hint) == ("unknown_version", "there is 2.0.0, 1.1.0, 1.0.0")
    await old.signal("go")
    assert await old.result(30) == "one"
    assert [await place.version(handle.id) for handle in (old, newest)] == ["1.0.0", "2.0.0"]


async def test_deprecated_versions(place: Place) -> None:
    """New jobs take another version; asked for, it works with a warning until its day; what runs goes on."""
    await place.publish(text("depr", "1.0.0", "one", waits=True))
    await place.publish(text("depr", "1.1.0", "one and more"))
    await place.client.workflows.deprecate("depr", "1.1.0", "use 1.0.0", date(2999, 1, 1))

    async def old_by_default() -> JobHandle[Any] | None:
        job = await place.client.submit("depr")
        return job if await place.version(job.id) == "1.0.0" and not job.warning else None

    by_default = await wait_until(old_by_default, 30)
    assert by_default is not None
    asked = await place.client.submit("depr@1.1.0")
    assert asked.warning.endswith("new jobs are refused from 2999-01-01: use 1.0.0")
    assert await asked.result(30) == "one and more"
    for version in ("1.0.0", "1.1.0"):
        await place.client.workflows.deprecate("depr", version, "no more", DAY)
    await wait_until(lambda: _refuses(place, "depr"), 30)
    await by_default.signal("go")
    assert await by_default.result(30) == "one"


async def _refuses(place: Place, name: str) -> bool:
    """Whether a gateway refuses new jobs, and a host too."""
    with contextlib.suppress(UsageError):
        await place.client.submit(name)
        return False
    job = f"bare-{os.urandom(4).hex()}"
    await place.bus.append(f"jobs.default.{name}", b"{}", headers={h.JOB_ID: job})
    try:
        await place.client.result(job, timeout_s=2)
    except JobRejectedError as error:
        return "new jobs are refused from 2001-02-03: no more" in str(error)
    except TimeoutError:  # taken by a host that had not heard of it yet
        return False
    return False


async def test_children_take_the_major_that_is_named(place: Place) -> None:
    """A step that runs ``sub@1`` gets the newest of that major, also if there is a newer one; ``sub@1.0.0`` itself."""
    for version, says in (("1.0.0", "old"), ("1.5.0", "right"), ("2.0.0", "new")):
        await place.publish(text("sub", version, says))
    steps = [
        {"id": "one", "kind": "job", "run": "sub@1"},
        {"id": "any", "kind": "job", "run": "sub"},
        {"id": "exact", "kind": "job", "run": "sub@1.0.0"},
    ]
    result = {step["id"]: f"${{ steps.{step['id']}.output }}" for step in steps}
    await place.publish({"name": "parent", "version": "1.0.0", "steps": steps, "result": result})
    job = await place.client.submit("parent")
    assert await job.result(60) == {"one": "right", "any": "new", "exact": "old"}
    calls = [event for event in await place.events(job.id) if isinstance(event, CallJob)]
    assert [await place.version(call.child) for call in calls] == ["1.5.0", "2.0.0", "1.0.0"]


async def test_hosts_share_what_is_published(place: Place, nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A second host that starts later takes its part; jobs of the first go on when it leaves; what nobody registered is
    registered.
    """
    await place.publish(text("share", "1.0.0", "one", waits=True))
    await place.bus.append("$KV.registry.job.share.1.0.0", b"", headers={"KV-Operation": "DEL"})
    jobs = [await place.client.submit("share") for _ in range(10)]
    async with published_host(nats_server.url, tmp_path, "second"):
        registry = Registry(place.bus)
        await registry.start()
        await wait_until(lambda: registry.get("job", "share", "1.0.0") is not None, 30)
        await registry.stop()
        jobs += [await place.client.submit("share") for _ in range(10)]
        for job in jobs:
            await job.signal("go")
    assert await asyncio.gather(*(job.result(60) for job in jobs)) == ["one"] * 20


async def test_input_is_checked_by_the_document(place: Place) -> None:
    """A gateway says what is wrong with an input before there is a job."""
    document = {**text("strict", "1.0.0", "one"), "input": {"type": "object", "required": ["sku"]}}
    await place.publish(document)
    with pytest.raises(UsageError, match="sku"):
        await place.client.submit("strict")
    assert await (await place.client.submit("strict", sku="A1")).result(30) == "one"


# ---- without a server


def test_the_role_is_asked_for() -> None:
    """A node runs a host of published workflows if it is told to, in a group of its own."""
    assert [spec.name for spec in roster("m:app", [], Choice(gateway=False))] == []
    (spec,) = roster("m:app", [], Choice(gateway=False, workflows=True))
    assert (spec.name, spec.group, spec.argv[-1]) == ("workflows", "workflows", "workflows")


def test_documents_of_an_app(tmp_path: Path) -> None:
    """A file beside the module, a mapping, with parameters; each version once; all findings in one error."""
    app = App("shop", version="3.0.0")
    steps = "steps: [{id: x, kind: wait, signal: s}]"
    (tmp_path / "a.yaml").write_text(f"name: a\nversion: 1.0.0\nparams: {{p: {{}}}}\n{steps}\n")
    made = app.workflow(tmp_path / "a.yaml", params={"p": 3})
    assert (made.kind, made.name, made.version, made.app, made.keeps_version) == ("job", "a", "1.0.0", "shop", True)
    app.workflow({**text("a", "1.1.0", "x"), "$schema": "workflow.schema.json"})
    assert [(each.version, each.schema) for each in app.documents] == [("1.0.0", None), ("1.1.0", None)]
    assert app.documents[0].params["p"].default == 3
    for document, says in (
        (text("a", "1.0.0", "y"), "a job a 1.0.0 already: a document"),
        ({"name": "b", "version": "1"}, "cannot be a workflow of app shop"),
        ("test_published_runs.py.no", "cannot be read: no such file"),
    ):
        with pytest.raises(UsageError, match=says):
            app.workflow(document)
    with pytest.raises(UsageError, match="no value"):
        app.workflow(tmp_path / "a.yaml")

    async def a(job: Job) -> str:
        """The same name as a function."""
        return job.id

    with pytest.raises(UsageError, match="as a document and as a function"):
        app.job(version="2.0.0")(a)


async def test_what_a_host_runs() -> None:
    """The app's own documents go on with exactly their version, whether there is a bucket or not."""
    app = App("own")
    for version in ("1.0.0", "1.2.0", "2.0.0"):
        app.workflow(text("w", version, version))
    hosting = Hosting(None, None, app, None, "h")  # type: ignore[arg-type]
    assert hosting.newest("w").version == "2.0.0"
    assert (hosting.newest("w", "1").version, hosting.newest("w", "1.2.0").version) == ("1.2.0", "1.2.0")
    found = [hosting.workflow("w", version) for version in ("1.0.0", "1.1.0", "2.0.0")]
    assert [each and each.version for each in found] == ["1.0.0", None, "2.0.0"]
    for version, says in (("1.0.0", "1.0.0"), ("1.1.0", "has no job w 1.1.0"), ("3.0.0", r"has no job w 3\.x")):
        submitted = JobSubmitted(job="j", workflow="w", version=version)
        if version == says:
            assert verdict._workflow(app, submitted).version == version
            continue
        with pytest.raises(UsageError, match=says):
            verdict._workflow(app, submitted)
    for name, wanted, says in (("w", "3", "has no w 3"), ("w", "1.0.0", "has no w 1.0.0"), ("x", "", "not in app")):
        with pytest.raises(UsageError, match=says):
            hosting.newest(name, wanted)


def test_defaults_of_the_input() -> None:
    """What the input's schema says of a property is taken where nothing is given for it."""
    document = {
        **text("d", "1.0.0", "x"),
        "input": {"properties": {"qty": {"type": "integer", "default": 2}, "sku": {}}},
    }
    component = App("own").workflow(document)
    assert component.decode_input(b"") == {"value": {"qty": 2}}
    assert component.decode_input(b'{"qty": 0, "sku": null}') == {"value": {"qty": 0, "sku": None}}
    assert App("own").workflow(text("d", "1.0.0", "x")).decode_input(b"[1]") == {"value": [1]}


# ---- trying


async def test_a_document_is_tried(place: Place, nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """It runs in the command's own process: nothing is published, and nothing of it stays but the log."""
    shell = Shell(nats_server, tmp_path)
    waits = shell.write(
        "waits.json", msgspec.json.encode(text("tried", "1.0.0", "${ params.word }", waits=True)).decode()
    )
    plain = {**text("tried", "1.0.0", "${ params.word }"), "params": {"word": {}},
             "input": {"type": "object", "required": ["sku"]}}  # fmt: skip
    file = shell.write("plain.json", msgspec.json.encode(plain).decode())
    assert await asyncio.to_thread(shell, "try", file, "sku=A1", "--param", "word=yes") == (0, '"yes"\n', "")
    code, _, err = await asyncio.to_thread(shell, "try", file, "--param", "word=yes")
    assert code == 2 and "missing required field `sku`" in err
    code, _, err = await asyncio.to_thread(shell, "try", file, "sku=A1")
    assert code == 1 and "the parameter 'word' has no value" in err
    code, _, err = await asyncio.to_thread(shell, "try", waits, "--timeout", "1")
    assert code == 1 and "unknown_name" in err  # it has no such parameter
    shell.write("waits.json", msgspec.json.encode(text("tried", "1.0.0", "x", waits=True)).decode())
    code, _, err = await asyncio.to_thread(shell, "try", waits, "--timeout", "1")
    assert code == 1 and "did not end within 1 s and is terminated" in err
    ends = [stored.subject.split(".", 3)[3] for stored in await read_all(place.bus, EVENTS, "log.try.*.job.*")]
    assert [end for end in ends if end in ("job.completed", "job.failed", "job.cancelled")] == [
        "job.completed", "job.cancelled"
    ]  # fmt: skip
    assert await place.client.workflows.list() == []
    names = (await place.bus.api(f"CONSUMER.NAMES.{JOBS}"))["consumers"] or []
    assert not [name for name in names if name.startswith("job-try-")]
