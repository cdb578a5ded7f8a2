"""The client against a real server; a few lines in the place of a host append how jobs end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from actors import App, Client, Job, UsageError
from actors.clients.outcome import JobCancelledError, JobFailedError, JobRejectedError
from actors.components.component import InvalidInput
from actors.components.registry import Registry
from actors.gateway.gateway import Gateway
from actors.jobs.ends import SHARED_FROM
from actors.jobs.requests import (
    MAX_INPUT_BYTES,
    JobRequest,
    publish_request,
    publish_schedule,
    publish_wake,
    same_json,
)
from bus import headers as h
from bus import jobid
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import BusClosed, BusUnreachable, StreamFull, TooLarge
from bus.event import Parent
from bus.failure import Failure
from bus.messages import Event, JobCancelled, JobCompleted, JobFailed, JobRejected, JobSubmitted, ReplyProgress, Signal
from bus.objects import Blobs
from bus.options import resolve_options
from bus.reader import Stored, read_all
from bus.streams import JOBS, ensure_streams
from store.log import append_unfenced, read_job
from tests.waiting import wait_until

app = App("shop", version="1.2.0")
numbers = itertools.count()


class Receipt(msgspec.Struct):
    total: int


@app.job
async def order(job: Job, sku: str, qty: int = 1) -> Receipt:
    """Order something."""
    return Receipt(qty)


@app.job
async def words(job: Job, priority: str) -> str:
    """Has an input with the name of a word of submit."""
    return priority


@app.tool
def quote(sku: str) -> int:
    """A tool."""
    return 1


async def connect(server: EmbeddedServer) -> Bus:
    bus = await Bus.connect(resolve_options(server.url, env={}), name="test client")
    await ensure_streams(bus)
    return bus


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[Bus]:
    """A connection of the test's own to the shared server, as a host has one."""
    async with await connect(server) as opened:
        yield opened


@pytest.fixture
async def client(server: EmbeddedServer, bus: Bus) -> AsyncIterator[Client]:
    """A client in a workspace of its own."""
    async with Client.connect(server.url, workspace=f"client-{next(numbers)}") as opened:
        yield opened


async def append(bus: Bus, client: Client, *events: Event) -> None:
    for event in events:
        await append_unfenced(bus, Blobs(bus), client.workspace, event)


def submitted(job: str, **fields: Any) -> JobSubmitted:
    return JobSubmitted(job=job, workflow="order", version="1.2.0", **fields)


def completed(job: str, output: bytes = b'{"total":7}') -> JobCompleted:
    return JobCompleted(job=job, output=msgspec.Raw(output))


async def queued(bus: Bus, client: Client) -> list[Stored]:
    return await read_all(bus, JOBS, f"jobs.{client.workspace}.>")


# ---- submit


async def test_component_is_published_at_once(bus: Bus, client: Client) -> None:
    """A submit of a component is one request with a job id of the client's, its input and its priority."""
    handle = await client.submit(order, "A1", qty=2, priority="high")
    (stored,) = await queued(bus, client)
    assert stored.subject == f"jobs.{client.workspace}.order.high"
    assert stored.headers[h.JOB_ID] == handle.id
    assert json.loads(stored.body) == {"sku": "A1", "qty": 2}
    assert handle.workspace == client.workspace


async def test_bad_input_never_leaves(bus: Bus, client: Client) -> None:
    """Wrong arguments, ids, priorities and targets are refused here, and nothing is published."""
    with pytest.raises(InvalidInput) as caught:
        await client.submit(order, sku="A1", qty="two")
    assert caught.value.path == "$.qty"
    for target, options, code in [
        (order, {"sku": "A1", "job_id": "a.b"}, "bad_name"),
        (order, {"sku": "A1", "priority": "urgent"}, "bad_priority"),
        (order, {"sku": "A1", "job_id": "a", "idempotency_key": "b"}, "bad_job_id"),
        (order, {"sku": "A1", "idempotency_key": ""}, "bad_job_id"),
        (order, {"sku": "A1", "input": {"sku": "A1"}}, "bad_input"),
        (order, {"input": b"[1]"}, "invalid_input"),
        (quote, {"sku": "A1"}, "bad_target"),
        ("order", {"input": {1, object()}}, "invalid_input"),
    ]:
        with pytest.raises(UsageError) as refused:
            await client.submit(target, **options)
        assert refused.value.code == code
    with pytest.raises(UsageError, match="give them by name"):
        await client.submit("order", "A1")
    assert await queued(bus, client) == []


async def test_input_takes_reserved_words(bus: Bus, client: Client) -> None:
    """A workflow whose input is named like a word of submit gets it with ``input``, as an object or as JSON."""
    await client.submit(words, input={"priority": "p"})
    await client.submit(words, input=b'{"priority": "p"}')
    assert [json.loads(stored.body) for stored in await queued(bus, client)] == [{"priority": "p"}] * 2


async def test_big_input_goes_by_reference(bus: Bus, client: Client) -> None:
    """Over 256 KB the request carries the sha256 of the input; over 8 MiB it is refused."""
    raw = json.dumps({"sku": "x" * 400_000}).encode()
    await client.submit(order, input=raw)
    (stored,) = await queued(bus, client)
    assert stored.body == b""
    assert await Blobs(bus).get(stored.headers[h.JOB_BLOB]) == raw
    with pytest.raises(TooLarge):
        await client.submit(order, sku="x" * MAX_INPUT_BYTES)


async def test_same_id_is_the_same_job(bus: Bus, client: Client) -> None:
    """A known id is not requested again; with other input it is refused; the same key makes the same id."""
    await append(bus, client, submitted("j1", input=msgspec.Raw(b'{"qty":1,"sku":"A1"}')), completed("j1"))
    handle = await client.submit(order, input={"sku": "A1", "qty": 1}, job_id="j1")
    assert await handle.result(5) == Receipt(7)
    assert await queued(bus, client) == []
    with pytest.raises(UsageError) as caught:
        await client.submit(order, sku="B2", job_id="j1")
    assert caught.value.code == "job_id_conflict"
    by_key = await client.submit(order, sku="A1", idempotency_key="k")
    assert by_key.id == jobid.from_message_id(client.workspace, "k")


async def test_name_goes_through_a_gateway(server: EmbeddedServer, bus: Bus, client: Client) -> None:
    """A name is checked by a gateway against the registry; without one the error says what to start."""
    with pytest.raises(BusUnreachable, match="no gateway answers"):
        await client.submit("order", sku="A1")
    registry = Registry(bus)
    await registry.start()
    await registry.register(order.info())
    gateway = Gateway(bus, registry)
    await gateway.start()
    handle = await client.submit("order", sku="A1", qty=2)
    await client.submit("order@1", input={"sku": "x" * 1_500_000})
    with pytest.raises(UsageError, match="did you mean order"):
        await client.submit("ordr", sku="A1")
    with pytest.raises(UsageError) as caught:
        await client.submit("order", sku=1)
    assert caught.value.path == "$.sku"
    stored = await queued(bus, client)
    assert stored[0].headers[h.JOB_ID] == handle.id
    assert h.JOB_BLOB in stored[1].headers
    await append(bus, client, completed(handle.id))
    assert await handle.result(5) == {"total": 7}
    await gateway.stop()
    await registry.stop()


# ---- results


async def test_result_is_typed(bus: Bus, client: Client) -> None:
    """The result of a component has its type, be the end there before or after it is asked for."""
    early, late = await client.submit(order, sku="A1"), await client.submit(order, sku="A1")
    await append(bus, client, completed(early.id))
    waiting = asyncio.create_task(late.result(10))
    assert await early.result(10) == Receipt(7)
    await append(bus, client, submitted(late.id), completed(late.id, b'{"total":8}'))
    assert await waiting == Receipt(8)
    assert await late.result() == Receipt(8)
    assert await client.result(late.id, timeout_s=5) == {"total": 8}
    assert await client.handle(late.id, order).result(5) == Receipt(8)


async def test_other_ends_raise(bus: Bus, client: Client) -> None:
    """Failed, cancelled and rejected are three exceptions, with the facts as attributes."""
    failure = Failure(code="no_stock", message="nothing left", traceback="Traceback ...")
    ends: list[Event] = [
        JobFailed(job="f", failure=failure),
        JobCancelled(job="c", by="ann", reason="late"),
        JobRejected(job="r", workflow="ordr", failure=Failure(code="unknown_workflow", message="none", hint="order?")),
    ]
    await append(bus, client, *ends)
    with pytest.raises(JobFailedError, match="job f failed: no_stock: nothing left") as failed:
        await client.result("f", timeout_s=5)
    assert failed.value.failure == failure
    with pytest.raises(JobCancelledError, match="job c was cancelled by ann: late") as cancelled:
        await client.result("c", timeout_s=5)
    assert (cancelled.value.by, cancelled.value.reason) == ("ann", "late")
    with pytest.raises(JobRejectedError, match=r"job r was rejected: unknown_workflow: none \(order\?\)"):
        await client.result("r", timeout_s=5)


async def test_rejection_of_an_earlier_try_is_not_the_end(bus: Bus, client: Client) -> None:
    """A job that was rejected once and then requested again ends as the second request does."""
    rejected = JobRejected(job="j1", workflow="order", failure=Failure(code="unknown_workflow", message="none"))
    await append(bus, client, rejected)
    handle = await client.submit(order, sku="A1", job_id="j1")
    waiting = asyncio.create_task(handle.result(10))
    await append(bus, client, submitted("j1"), completed("j1"))
    assert await waiting == Receipt(7)
    assert await client.result("j1", timeout_s=5) == {"total": 7}


async def test_big_result(bus: Bus, client: Client) -> None:
    """A result over the size of a message arrives whole."""
    handle = await client.submit(order, sku="A1")
    waiting = asyncio.create_task(client.result(handle.id, timeout_s=10))
    await append(bus, client, completed(handle.id, json.dumps("x" * 2_000_000).encode()))
    assert len(await waiting) == 2_000_000


async def test_time_out_leaves_the_job(bus: Bus, client: Client) -> None:
    """A result that does not come in time raises TimeoutError, and can be asked for again."""
    handle = await client.submit(order, sku="A1")
    with pytest.raises(TimeoutError, match="it goes on"):
        await handle.result(0.05)
    await append(bus, client, completed(handle.id))
    assert await handle.result(10) == Receipt(7)


async def test_many_results_at_once(bus: Bus, client: Client) -> None:
    """Far more waiters than subscriptions each get their own result, and nothing is left behind."""
    handles = [await client.submit(order, sku="A1") for _ in range(SHARED_FROM * 10)]
    before = len(client.bus.client._subs)
    waiting = [asyncio.create_task(handle.result(20)) for handle in handles]
    for i, handle in enumerate(handles):
        await append(bus, client, completed(handle.id, b'{"total":%d}' % i))
    results = await asyncio.gather(*waiting)
    assert [receipt.total for receipt in results] == list(range(len(handles)))
    assert len(client.bus.client._subs) == before


async def test_several_wait_for_one_job(bus: Bus, client: Client) -> None:
    """Two waiters for one job both get its end; one that is cancelled takes nothing from the other."""
    handle = await client.submit(order, sku="A1")
    one, two, three = (asyncio.create_task(client.result(handle.id)) for _ in range(3))
    await wait_until(lambda: len(client._ends._waiters.get(handle.id, ())) == 3)
    three.cancel()
    await append(bus, client, completed(handle.id))
    assert await asyncio.gather(one, two) == [{"total": 7}] * 2


async def test_end_that_nobody_heard_is_read(bus: Bus, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose doorbell is dead finds the end in the log."""
    monkeypatch.setattr("actors.jobs.ends.LOOK_S", 0.05)
    monkeypatch.setattr(client._ends, "_on_message", lambda _: None)
    handle = await client.submit(order, sku="A1")
    waiting = asyncio.create_task(handle.result(10))
    await append(bus, client, completed(handle.id))
    assert await waiting == Receipt(7)


async def test_result_survives_a_server_restart(nats_server: EmbeddedServer) -> None:
    """A job that ends while the client is cut off is known right after the reconnect."""
    async with await connect(nats_server) as bus, Client.connect(nats_server.url) as client:
        handle = await client.submit(order, sku="A1")
        waiting = asyncio.create_task(handle.result())
        await wait_until(lambda: bool(client._ends._waiters))
        nats_server.kill()
        await nats_server.wait()
        await nats_server.restart()
        await bus.settle()
        await append(bus, client, completed(handle.id))
        assert await asyncio.wait_for(waiting, 10) == Receipt(7)


async def test_submit_waits_for_the_server(nats_server: EmbeddedServer) -> None:
    """A submit that meets a killed server is stored, under its one id, when the server is back."""
    async with await connect(nats_server) as bus, Client.connect(nats_server.url) as client:
        nats_server.kill()
        await nats_server.wait()
        task = asyncio.create_task(client.submit(order, sku="A1"))
        await nats_server.restart()
        handle = await asyncio.wait_for(task, 30)
        await bus.settle()
        assert {stored.headers[h.JOB_ID] for stored in await queued(bus, client)} == {handle.id}


async def test_closed_client_lets_its_waiters_go(server: EmbeddedServer, bus: Bus) -> None:
    """Whoever waits when the client is closed gets a BusClosed; a bus that was lent stays open."""
    client = await Client.connect(bus=bus, workspace="closing")
    waiting = asyncio.create_task(client.result("j1"))
    await wait_until(lambda: bool(client._ends._waiters))
    await client.close()
    with pytest.raises(BusClosed):
        await waiting
    with pytest.raises(BusClosed):
        await client.result("j1")
    assert bus.is_online


# ---- view, follow, signals


async def test_get_and_follow(bus: Bus, client: Client) -> None:
    """A job is shown as it stands, and followed from its first event or from a sequence on."""
    await append(bus, client, submitted("j1"), ReplyProgress(job="j1", call="c", attempt=1, done=1))
    assert (await client.get("j1")).workflow == "order"
    with pytest.raises(UsageError):
        await client.get("nope")
    seen = []
    async with contextlib.aclosing(client.follow("j1")) as items:
        async for item in items:
            seen.append(item)
            if len(seen) == 2:
                await append(bus, client, completed("j1"))
            if len(seen) == 3:
                break
    async with contextlib.aclosing(client.handle("j1").follow(seen[1].sequence)) as items:
        assert (await anext(items)).sequence == seen[2].sequence


async def test_signal_and_cancel(bus: Bus, client: Client) -> None:
    """A signal stands in the log and wakes the job; a handle waits for a host to take the job up."""
    handle = await client.submit(order, sku="A1")
    with pytest.raises(UsageError) as caught:
        await client.cancel(handle.id)
    assert caught.value.code == "unknown_job"
    cancelling = asyncio.create_task(handle.cancel("late", by="ann"))
    await append(bus, client, submitted(handle.id))
    sequence = await cancelling
    await handle.signal("approve", {"ok": True})
    signals = [r for r in await read_job(bus, Blobs(bus), client.workspace, handle.id) if isinstance(r.event, Signal)]
    assert signals[0].sequence == sequence
    assert [r.event.name for r in signals if isinstance(r.event, Signal)] == ["cancel", "approve"]
    wakes = [stored.headers[h.JOB_WAKE] for stored in await queued(bus, client) if h.JOB_WAKE in stored.headers]
    assert wakes == ["signal.cancel", "signal.approve"]
    await append(bus, client, completed(handle.id))
    with pytest.raises(UsageError) as ended:
        await handle.cancel()
    assert ended.value.code == "job_ended"
    with pytest.raises(UsageError, match="no JSON"):
        await client.signal(handle.id, "approve", object())


# ---- requests


async def test_request_carries_its_headers(bus: Bus, client: Client) -> None:
    """Parent, trace and message id travel as headers that a host reads back."""
    parent = Parent(workspace="default", job="p", call="job:größe:1", workflow="order")
    request = JobRequest(workflow="order", job="c1", workspace=client.workspace, parent=parent, traceparent="00-1-2-03",
                         message_id="m1")  # fmt: skip
    await publish_request(bus, Blobs(bus), request)
    (stored,) = await queued(bus, client)
    assert msgspec.json.decode(stored.headers[h.JOB_PARENT], type=Parent) == parent
    assert (stored.headers[h.TRACEPARENT], stored.headers[h.MSG_ID]) == ("00-1-2-03", "m1")


async def test_schedule_becomes_a_wake_up(bus: Bus, client: Client) -> None:
    """A schedule turns into a wake-up request when it is due; a later one for the job replaces it."""
    far, soon = datetime.now(UTC) + timedelta(hours=1), datetime.now(UTC) + timedelta(milliseconds=300)
    await publish_schedule(bus, client.workspace, "order", "j1", far)
    await publish_schedule(bus, client.workspace, "order", "j1", soon)
    (wake,) = await wait_until(lambda: queued(bus, client))
    assert wake.subject == f"jobs.{client.workspace}.order"
    assert (wake.headers[h.JOB_ID], wake.headers[h.JOB_WAKE], wake.body) == ("j1", "timer", b"")
    assert await read_all(bus, JOBS, f"timers.{client.workspace}.>") == []
    with pytest.raises(ValueError, match="time zone"):
        await publish_schedule(bus, client.workspace, "order", "j1", datetime(2026, 1, 1))  # noqa: DTZ001


async def test_full_queue_is_backpressure() -> None:
    """A wake-up waits while the account is full, and is stored once there is room."""
    limits = "jetstream { max_file_store: 2MB }\n"
    async with await EmbeddedServer.start(config=limits) as small, await connect(small) as bus:
        await fill(bus)
        waking = asyncio.create_task(publish_wake(bus, "default", "order", "j1", "reply"))
        refused = Client(bus).submit(order, sku="A1")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(refused, 0.3)
        assert not waking.done()
        await bus.api("STREAM.DELETE.FILLER")
        await asyncio.wait_for(waking, 10)
        assert len(await read_all(bus, JOBS, "jobs.>")) == 1


async def fill(bus: Bus) -> None:
    """Fill the account with another stream."""
    await bus.api("STREAM.CREATE.FILLER", {"name": "FILLER", "subjects": ["filler"], "storage": "file"})
    for size in (100_000, 10_000, 1_000, 10):
        with contextlib.suppress(StreamFull):
            while True:
                await bus.append("filler", b"x" * size)


def test_same_json() -> None:
    """Spaces and key order do not count; types, values and the order of lists do."""
    assert same_json(b'{"a": 1, "b": [1, 2]}', b'{"b":[1,2],"a":1}')
    assert same_json(b"", b"{}")
    for other in (b'{"a":true,"b":[1,2]}', b'{"a":1,"b":[2,1]}', b'{"a":"1","b":[1,2]}'):
        assert not same_json(b'{"a":1,"b":[1,2]}', other)
