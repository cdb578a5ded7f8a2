"""The gateway's services, the layer over NATS micro below them, and the sweep, on a real server."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import App, Job
from actors.components.component import InvalidInput
from actors.components.input_check import check_input
from actors.components.registry import Registry
from actors.gateway.gateway import Gateway
from actors.gateway.sweep import Sweep
from actors.jobs.requests import JobRequest, publish_request, publish_wake
from bus import headers as h
from bus import jobid, subjects
from bus.connection import Bus, NoResponder
from bus.embedded import EmbeddedServer
from bus.errors import StreamFull, UsageError
from bus.event import Parent
from bus.failure import Failure
from bus.messages import (
    DeadKept,
    JobAmended,
    JobCompleted,
    JobRejected,
    JobSubmitted,
    ReplyCompleted,
    ReplyFailed,
    Signal,
)
from bus.objects import Blobs
from bus.options import resolve_options
from bus.reader import Stored, read_all
from bus.service import Service, ServiceFailed, ServiceRequest, ask, describe_error, discover
from bus.streams import EVENTS, JOBS, ensure_consumer, ensure_streams, stream_info
from store.log import append_unfenced, read_job
from tests.waiting import wait_until

app = App("shop", version="1.2.0")


class Item(msgspec.Struct):
    sku: str
    qty: int = 1


@app.job
async def order(job: Job, items: list[Item], note: str | None = None) -> int:
    """Order items."""
    return len(items)


@dataclass
class Place:
    """A gateway at work on a server of its own."""

    bus: Bus
    blobs: Blobs
    registry: Registry
    gateway: Gateway

    async def call(self, verb: str, body: Any = None, *, noun: str = "jobs", ws: str = "default") -> Any:
        """One request, as any NATS client would make it."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else b""
        return json.loads(await ask(self.bus, subjects.api(ws, noun, verb), raw))

    async def refused(self, verb: str, body: Any, *, noun: str = "jobs") -> UsageError:
        """The error that such a request is answered with."""
        with pytest.raises(UsageError) as caught:
            await self.call(verb, body, noun=noun)
        return caught.value

    async def queued(self) -> list[Stored]:
        """What stands in JOBS."""
        return await read_all(self.bus, JOBS, "jobs.>")

    async def events(self, job: str, ws: str = "default") -> list[Any]:
        """The events of one job."""
        return [r.event for r in await read_job(self.bus, self.blobs, ws, job)]

    async def rejections(self) -> list[JobRejected]:
        """Every rejection in the log."""
        stored = await read_all(self.bus, EVENTS, "log.*.*.job.rejected")
        return [msgspec.json.decode(s.body, type=JobRejected) for s in stored]

    async def put(self, subject: str, body: bytes = b"{}", **headers: str) -> int:
        """A bare publish; ``Job_Id="x"`` becomes the header ``Job-Id``."""
        return await self.bus.append(subject, body, headers={k.replace("_", "-"): v for k, v in headers.items()})


async def connect(server: EmbeddedServer) -> Bus:
    return await Bus.connect(resolve_options(server.url, env={}), name="test gateway")


class SweepOnCall(Sweep):
    """Does not sweep by itself."""

    def start(self) -> None:
        pass


@pytest.fixture
async def place(nats_server: EmbeddedServer) -> AsyncIterator[Place]:
    """A gateway whose sweep runs only when a test asks for it, and a registry that knows ``order``."""
    async with await connect(nats_server) as bus:
        await ensure_streams(bus)
        registry, blobs = Registry(bus), Blobs(bus)
        await registry.start()
        await registry.register(order.info())
        gateway = Gateway(bus, registry, sweep=SweepOnCall(bus, blobs, registry, grace_s=0))
        await gateway.start()
        yield Place(bus, blobs, registry, gateway)
        await gateway.stop()
        await registry.stop()


# ---- services


@pytest.fixture
async def bus(server: EmbeddedServer) -> AsyncIterator[Bus]:
    """A connection to the shared server."""
    async with await connect(server) as opened:
        yield opened


async def started(bus: Bus, name: str, **handlers: Any) -> Service:
    service = Service()
    await service.start(bus, name=name, version="1.0.0", description="For a test", metadata={"node": "n1"})
    for endpoint, handler in handlers.items():
        await service.add_endpoint(endpoint, f"test.{name}.{endpoint}", handler)
    return service


async def test_submit_for_later(place: Place) -> None:
    """A delayed job is planned at once, with no host anywhere; once, and under an id of its own."""
    body = {"workflow": "order", "input": {"items": []}, "delay_s": 3600, "deadline_s": 60, "idempotency_key": "k1"}
    first = await place.call("submit", body)
    view = await place.call("get", {"job": first["job"]})
    assert (view["state"], view["workflow"], view["input"]) == ("planned", "order", {"items": []})
    assert view["starts_at"] < view["deadline_at"] and not await place.queued()
    again = await place.call("submit", {**body, "delay_s": 7200})
    assert again["existing"] and again["job"] == first["job"]
    assert (await place.call("get", {"job": first["job"]}))["starts_at"] == view["starts_at"]
    conflict = await place.refused("submit", {**body, "input": {"items": [], "note": "x"}})
    assert conflict.code == "job_id_conflict"
    assert (await place.call("cancel", {"job": first["job"]}))["sequence"], "the next host that runs removes it"
    for wrong, code in [
        ({"at": "2026-12-01T08:00:00"}, "bad_instant"), ({"delay_s": 1, "at": "2030-12-01T08:00:00Z"}, "bad_argument"),
        ({"deadline_at": "2020-01-01T00:00:00Z"}, "bad_deadline"), ({"delay_s": -1}, "bad_duration"),
    ]:  # fmt: skip
        error = await place.refused("submit", {"workflow": "order", "input": {"items": []}, **wrong})
        assert error.code == code, wrong


async def test_requests_are_served_side_by_side(bus: Bus) -> None:
    """A request that takes long keeps no other one of its endpoint waiting."""
    release = asyncio.Event()

    async def handle(request: ServiceRequest) -> bytes:
        if request.body == b"slow":
            await release.wait()
        release.set()
        return request.body

    service = await started(bus, "side", echo=handle)
    answers = await asyncio.gather(*(ask(bus, "test.side.echo", body) for body in (b"slow", b"fast")))
    assert answers == [b"slow", b"fast"]
    await service.stop()


async def test_errors_cross_the_wire(bus: Bus) -> None:
    """A UsageError arrives as one; what any other exception says stays on this side."""

    async def wrong(_: ServiceRequest) -> bytes:
        raise UsageError("no such\nthing", code="unknown_thing", path="$.thing", hint="look")

    async def broken(_: ServiceRequest) -> bytes:
        raise ValueError("secret")

    async def full(_: ServiceRequest) -> bytes:
        raise StreamFull("jobs.x", "maximum bytes exceeded")

    async def big(_: ServiceRequest) -> bytes:
        return b"x" * 2_000_000

    service = await started(bus, "errors", wrong=wrong, broken=broken, full=full, big=big)
    with pytest.raises(UsageError) as usage:
        await ask(bus, "test.errors.wrong")
    assert (usage.value.code, usage.value.path, usage.value.hint) == ("unknown_thing", "$.thing", "look")
    msg = await bus.request("test.errors.broken")
    assert b"secret" not in msg.data
    assert msg.headers is not None and "secret" not in str(msg.headers)
    with pytest.raises(ServiceFailed, match="its log says why"):
        await ask(bus, "test.errors.broken")
    with pytest.raises(StreamFull):
        await ask(bus, "test.errors.full")
    with pytest.raises(UsageError, match="the answer has"):
        await ask(bus, "test.errors.big")
    await service.stop()
    with pytest.raises(NoResponder):
        await ask(bus, "test.errors.wrong")


async def test_statistics_are_those_of_the_handlers(bus: Bus) -> None:
    """Requests, errors and time spent are counted where the work is done, in a task."""

    async def handle(request: ServiceRequest) -> bytes:
        if request.body == b"bad":
            raise UsageError("bad")
        return b""

    service = await started(bus, "stats", work=handle)
    await asyncio.gather(*(bus.request("test.stats.work", body) for body in (b"", b"", b"bad")))
    stats = json.loads((await bus.request("$SRV.STATS.stats")).data)
    endpoint = stats["endpoints"][0]
    assert (endpoint["num_requests"], endpoint["num_errors"], endpoint["last_error"]) == (3, 1, "400:bad")
    assert endpoint["processing_time"] > 0
    await service.stop()


async def test_stop_finishes_what_was_begun(bus: Bus) -> None:
    """A request that is being served when its service stops is still answered."""
    entered, release = asyncio.Event(), asyncio.Event()

    async def handle(_: ServiceRequest) -> bytes:
        entered.set()
        await release.wait()
        return b"done"

    service = await started(bus, "stopping", work=handle)
    answer = asyncio.create_task(ask(bus, "test.stopping.work"))
    await entered.wait()
    stop = asyncio.create_task(service.stop())
    release.set()
    assert await answer == b"done"
    await stop


async def test_request_without_reply_is_served(bus: Bus) -> None:
    """A bare publish on a service's subject does its work; there is nobody to answer."""
    served = asyncio.Event()

    async def handle(_: ServiceRequest) -> bytes:
        served.set()
        return b"x"

    service = await started(bus, "mute", work=handle)
    await bus.publish("test.mute.work")
    await asyncio.wait_for(served.wait(), 5)
    await service.stop()


async def test_discover_finds_what_runs(bus: Bus) -> None:
    """Services are found by name with their metadata, and gone after their stop."""
    one, two = await started(bus, "seek"), await started(bus, "seek")
    found = await discover(bus, "seek")
    assert {info.id for info in found} == {one.id, two.id}
    assert found[0].meta("node") == "n1"
    await one.stop()
    await two.stop()
    assert await discover(bus, "seek") == []


@pytest.mark.parametrize("error", [UsageError("x"), StreamFull("s", "d"), RuntimeError("secret"), NoResponder("s")])
def test_every_error_has_a_status(error: Exception) -> None:
    """Whatever a handler raises becomes a status and a body that can be sent."""
    status, body = describe_error(error)
    assert status in (400, 403, 500, 503)
    assert b"secret" not in msgspec.json.encode(body)


# ---- submit


async def test_submit_puts_a_request_into_the_queue(place: Place) -> None:
    """A good request is answered with the job's id, workspace and workflow, and stands in JOBS under that id."""
    answer = await place.call("submit", {"workflow": "order", "input": {"items": []}, "priority": "high"}, ws="shop-1")
    assert answer | {"job": ""} == {"job": "", "workspace": "shop-1", "workflow": "order", "version": "1.2.0"}
    stored = (await place.queued())[0]
    assert stored.subject == "jobs.shop-1.order.high"
    assert stored.headers[h.JOB_ID] == answer["job"]
    assert json.loads(stored.body) == {"items": []}


@pytest.mark.parametrize(
    ("body", "code", "path", "words"),
    [
        ({"workflow": "ordr"}, "unknown_workflow", "workflow", "did you mean order"),
        ({"workflow": "order", "input": {"items": [{"sku": "a"}, {"sku": "b", "qty": "2"}]}},
         "invalid_input", "$.items[1].qty", 'expected integer, got string "2"'),
        ({"workflow": "order", "input": {}}, "invalid_input", "$.items", "missing required field `items`"),
        ({"workflow": "order", "input": {"items": [{}]}}, "invalid_input", "$.items[0].sku", "missing required field"),
        ({"workflow": "order", "input": {"items": [], "notes": ""}}, "invalid_input", "$.notes", "did you mean `note`"),
        ({"workflow": "order", "input": []}, "invalid_input", "$", "expected object, got array []"),
        ({"workflow": "order", "input": {"items": []}, "job_id": "a.b"}, "bad_name", "job id", "holds '.'"),
        ({"workflow": "order", "input": {"items": []}, "job_id": ""}, "bad_name", "job id", "empty"),
        ({"workflow": "order", "input": {"items": []}, "job_id": "x" * 129}, "bad_name", "job id", "the limit is 128"),
        ({"workflow": "order", "input": {"items": []}, "priority": "urgent"}, "bad_request", "$.priority", "urgent"),
        ({"workflow": "order", "input": {"items": []}, "version": 2}, "old_version", "version", "1.2.0, not 2"),
        ({"workflow": "order", "input": {"items": []}, "version": "x"}, "bad_version", "version", "semantic"),
        ({"workflow": "order", "inputs": {}}, "bad_request", "$", "inputs"),
        ({"workflow": "order", "input_blob": "../x"}, "bad_request", "$.input_blob", "sha256"),
        ({"workflow": "order", "input_blob": "0" * 64}, "bad_request", "$.input_blob", "not in the object store"),
        ({"workflow": 7}, "bad_request", "$.workflow", "Expected `str`"),
        ({}, "bad_request", "$", "workflow"),
        (b"{workflow: order}", "invalid_json", "$", "not JSON"),
        (b"\xff", "invalid_json", "$", "not JSON"),
    ],
)  # fmt: skip
async def test_bad_submit_is_refused_precisely(place: Place, body: Any, code: str, path: str, words: str) -> None:
    """What is wrong with a request, where, and what would be right: in the answer, and nothing in the queue."""
    error = await place.refused("submit", body)
    assert (error.code, error.path) == (code, path)
    assert words in str(error)
    assert await place.queued() == []


async def test_job_id_again(place: Place) -> None:
    """The same id with the same input is the same job; with another input or workflow it is refused."""
    submitted = JobSubmitted(job="j1", workflow="order", version="1.2.0", input=msgspec.Raw(b'{"note":"n","items":[]}'))
    await append_unfenced(place.bus, place.blobs, "default", submitted)
    body = {"workflow": "order", "input": {"items": [], "note": "n"}, "job_id": "j1"}
    assert (await place.call("submit", body))["existing"] is True
    assert await place.queued() == []
    error = await place.refused("submit", body | {"input": {"items": []}})
    assert (error.code, error.path) == ("job_id_conflict", "job_id")
    await append_unfenced(place.bus, place.blobs, "default", JobSubmitted(job="j2", workflow="other", version="1.0.0"))
    assert "workflow 'other'" in str(await place.refused("submit", body | {"job_id": "j2"}))


async def test_idempotency_key_makes_the_id(place: Place) -> None:
    """The same key in a workspace is the same job id; in another workspace it is another."""
    body = {"workflow": "order", "input": {"items": []}, "idempotency_key": "k"}
    ids = [(await place.call("submit", body, ws=ws))["job"] for ws in ("a", "a", "b")]
    assert ids == [jobid.from_message_id(ws, "k") for ws in ("a", "a", "b")]
    assert (await place.refused("submit", body | {"job_id": "x"})).code == "bad_job_id"


async def test_submit_by_blob(place: Place) -> None:
    """An input over the size of a message goes by its sha256, and the request carries it on."""
    raw = json.dumps({"items": [], "note": "x" * 1_500_000}).encode()
    await place.call("submit", {"workflow": "order", "input_blob": await place.blobs.put(raw), "job_id": "big"})
    stored = (await place.queued())[0]
    assert stored.body == b""
    assert await place.blobs.get(stored.headers[h.JOB_BLOB]) == raw


async def test_workflow_registered_a_moment_ago(place: Place) -> None:
    """A submit right after a registration by another node finds the workflow."""
    other = App("late")

    @other.job
    async def late(job: Job) -> None: ...

    await Registry(place.bus).register(late.info())
    assert (await place.call("submit", {"workflow": "late.late@0"}))["workflow"] == "late"


@settings(max_examples=50)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_check_input_only_ever_refuses(value: Any) -> None:
    """Any JSON is taken or refused with a path, and what is taken can be decoded by the component."""
    path = ""
    try:
        check_input(order.info(), value)
        order.decode_input(msgspec.json.encode(value))
    except InvalidInput as error:
        path = error.path
    assert path.startswith("$") or "items" in value


def test_check_input_follows_no_reference_to_the_net() -> None:
    """A schema that points elsewhere is an error of that schema, and no request to anybody."""
    info = msgspec.structs.replace(order.info(), input_schema={"$ref": "http://127.0.0.1:1/x"}, digest="elsewhere")
    check_input(info, {"anything": 1})


def test_broken_schema_leaves_the_decision_to_the_host() -> None:
    """A registered schema that is no schema refuses nobody."""
    check_input(msgspec.structs.replace(order.info(), input_schema={"type": 7}, digest="broken"), {})


# ---- the other services


async def test_get_and_signals(place: Place) -> None:
    """A job is shown as it stands; cancel, pause, resume and signal land in its log and wake it."""
    submitted = JobSubmitted(job="j1", workflow="order", version="1.2.0")
    await append_unfenced(place.bus, place.blobs, "default", submitted)
    assert (await place.call("get", {"job": "j1"}))["workflow"] == "order"
    await place.call("cancel", {"job": "j1", "reason": "late", "by": "ann"})
    await place.call("pause", {"job": "j1"})
    await place.call("resume", {"job": "j1", "children": False})
    answer = await place.call("signal", {"job": "j1", "name": "approve", "data": {"ok": True}})
    signals = [event for event in await place.events("j1") if isinstance(event, Signal)]
    assert [s.name for s in signals] == ["cancel", "pause", "resume", "approve"]
    assert [json.loads(bytes(s.data)) for s in signals[1:3]] == [{"children": True}, {"children": False}]
    assert json.loads(bytes(signals[0].data)) == {"reason": "late"}
    assert (signals[0].by, json.loads(bytes(signals[3].data))) == ("ann", {"ok": True})
    assert answer["sequence"] > 0
    wakes = [(s.subject, s.headers[h.JOB_ID], s.headers[h.JOB_WAKE]) for s in await place.queued()]
    assert wakes[3] == ("jobs.default.order", "j1", "signal.approve")


async def test_terminate(place: Place) -> None:
    """A word to end now lands in the log with its reason, and wakes the job."""
    await append_unfenced(place.bus, place.blobs, "default", JobSubmitted(job="j2", workflow="order", version="1.2.0"))
    answer = await place.call("terminate", {"job": "j2", "reason": "stuck", "by": "ann"})
    (signal,) = [event for event in await place.events("j2") if isinstance(event, Signal)]
    assert (signal.name, signal.by, json.loads(bytes(signal.data))) == ("terminate", "ann", {"reason": "stuck"})
    assert answer["sequence"] > 0
    assert [s.headers[h.JOB_WAKE] for s in await place.queued()] == ["signal.terminate"]


async def test_fork(place: Place) -> None:
    """A dry run puts nothing into the queue; a fork puts one request; a bad input is refused at once."""
    submitted = JobSubmitted(job="j3", workflow="order", version="1.2.0", input=msgspec.Raw(b'{"items": []}'))
    await append_unfenced(place.bus, place.blobs, "default", submitted)
    at = await append_unfenced(place.bus, place.blobs, "default", ReplyCompleted(job="j3", call="now:1", op="local"))
    looked = await place.call("fork", {"job": "j3", "from": "now", "dry_run": True})
    assert (looked["anew"], looked["reused_count"], await place.queued()) == (["now:1"], 0, [])
    made = await place.call("fork", {"job": "j3", "from": "now", "id": "f3"})
    assert made["forked_from"] == {"workspace": "default", "job": "j3", "sequence": at, "step": "now"}
    (request,) = await place.queued()
    assert (request.subject, request.headers[h.JOB_ID], request.body) == ("jobs.default.order", "f3", b'{"items": []}')
    assert json.loads(request.headers[h.JOB_FORK]) == made["forked_from"]
    refused = await place.refused("fork", {"job": "j3", "from": "now", "input": {"items": "none"}})
    assert refused.path == "$.items"
    assert (await place.refused("fork", {"job": "j3", "from": "nothing"})).code == "unknown_step"


async def test_amend(place: Place) -> None:
    """A change stands in the log and wakes the job; a change that cannot be is refused with its place."""
    await append_unfenced(place.bus, place.blobs, "default", JobSubmitted(job="j4", workflow="order", version="1.2.0"))
    change = {"type": "set_policy", "target": "quote", "retry": {"attempts": 7}}
    answer = await place.call("amend", {"job": "j4", "change": change, "by": "ann"})
    assert (answer["sequence"] > 0, answer["in_flight"]) == (True, [])
    (amended,) = [event for event in await place.events("j4") if isinstance(event, JobAmended)]
    assert (amended.by, msgspec.to_builtins(amended.change)) == ("ann", change)
    assert [s.headers[h.JOB_WAKE] for s in await place.queued()] == ["amended"]
    exploded = await place.refused("amend", {"job": "j4", "change": {"type": "explode"}})
    assert (exploded.code, exploded.hint) == (
        "bad_request", "one of set_policy, add_steps, add_items, finish_map, skip_step")  # fmt: skip
    assert await place.call("find", {"states": ["paused"]}) == {"jobs": [], "total": 0}
    finish = {"type": "finish_map", "step": "each"}
    assert (await place.refused("amend", {"job": "j4", "change": finish})).code == "not_a_document"


async def test_signals_that_cannot_be(place: Place) -> None:
    """An unknown job, one that has ended and a name that is no token are each refused with the reason."""
    await append_unfenced(place.bus, place.blobs, "default", JobSubmitted(job="j1", workflow="order", version="1.2.0"))
    await append_unfenced(place.bus, place.blobs, "default", JobCompleted(job="j1"))
    assert (await place.refused("cancel", {"job": "j1"})).code == "job_ended"
    assert (await place.refused("cancel", {"job": "nope"})).code == "unknown_job"
    assert (await place.refused("get", {"job": "nope"})).code == "unknown_job"
    assert (await place.refused("signal", {"job": "j1", "name": "a.b"})).code == "bad_name"
    assert (await place.refused("cancel", {"job": "a b"})).code == "bad_name"


async def test_get_of_a_job_too_big_for_one_message(place: Place) -> None:
    """A job whose input does not fit an answer is shown without its bulk."""
    raw = msgspec.Raw(json.dumps({"note": "x" * 1_500_000}).encode())
    event = JobSubmitted(job="j1", workflow="order", version="1.2.0", input=raw)
    await append_unfenced(place.bus, place.blobs, "default", event)
    assert (await place.call("get", {"job": "j1"})).get("input") is None


async def test_list_pages_through_components(place: Place) -> None:
    """The list filters, pages, and shows schemas when asked to."""
    many = [msgspec.structs.replace(order.info(), name=f"w{i:02}") for i in range(25)]
    await asyncio.gather(*(place.registry.register(info) for info in many))
    first = await place.call("list", {"kind": "job", "limit": 20}, noun="components")
    assert (first["total"], first["next_offset"], len(first["components"])) == (26, 20, 20)
    rest = await place.call("list", {"offset": 20}, noun="components")
    assert [c["name"] for c in rest["components"]] == [f"w{i:02}" for i in range(19, 25)]
    one = await place.call("list", {"name": "order", "schemas": True}, noun="components")
    assert one["components"][0]["input_schema"]["required"] == ["items"]
    assert (await place.call("list", {"app": "none"}, noun="components"))["total"] == 0
    assert (await place.refused("list", {"kind": "x"}, noun="components")).code == "bad_request"


@pytest.mark.skipif(not shutil.which("nats"), reason="the stock nats CLI is not on PATH")
async def test_stock_cli(place: Place, nats_server: EmbeddedServer) -> None:
    """``nats micro ls|info|stats`` show the gateway, and ``nats req`` submits a job."""

    async def cli(*args: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "nats", "-s", nats_server.url, *args, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        return (await process.communicate())[0].decode()

    assert "callboard-api" in await cli("micro", "ls")
    assert "api.*.jobs.submit" in await cli("micro", "info", "callboard-api")
    answer = await cli("req", "api.default.jobs.submit", '{"workflow":"order","input":{"items":[]}}', "--raw")
    assert json.loads(answer)["workflow"] == "order"
    refused = await cli("req", "api.default.jobs.submit", '{"workflow":"ordre"}')
    assert "Nats-Service-Error-Code: 400" in refused
    assert "did you mean order?" in refused
    assert "jobs-submit" in await cli("micro", "stats", "callboard-api")


# ---- the sweep


async def test_request_for_unknown_workflow_is_refused_with_a_trace(place: Place) -> None:
    """It leaves the queue as job.rejected under the id that a host would have given it, with a near name."""
    sequence = await place.put("jobs.default.ordr", b'{"a":1}')
    stored = (await place.queued())[0]
    await place.gateway.sweep.sweep()
    assert await place.queued() == []
    job = jobid.from_delivery(stored.stored_ns, sequence)
    letter, event = await place.events(job)
    assert isinstance(letter, DeadKept) and isinstance(event, JobRejected)
    assert (letter.stream, letter.stream_sequence, letter.failure) == (JOBS, sequence, event.failure)
    assert (event.workflow, event.failure.code, bytes(event.input)) == ("ordr", "unknown_workflow", b'{"a":1}')
    assert event.failure.hint == "did you mean order?"


@pytest.mark.parametrize(
    ("headers", "job", "asked"),
    [
        ({"Job_Id": "mine"}, "mine", ""),
        ({"Nats_Msg_Id": "k"}, jobid.from_message_id("default", "k"), ""),
        ({"Job_Id": "no.token"}, None, "no.token"),
    ],
)
async def test_rejection_stands_under_the_requested_id(
    place: Place, headers: dict[str, str], job: str | None, asked: str
) -> None:
    """Job-Id and Nats-Msg-Id decide the id as they do for a host; an illegal one is told beside a fresh one."""
    await place.put("jobs.default.nobody", b"not JSON", **headers)
    await place.gateway.sweep.sweep()
    (event,) = await place.rejections()
    assert event.requested_job == asked
    assert job in (None, event.job)
    assert bytes(event.input) == b'"not JSON"'


@pytest.mark.parametrize(
    ("subject", "workspace"),
    [
        ("jobs.a", "default"),
        ("jobs.a.b.c.d", "a"),
        ("jobs.a.order.urgent", "a"),
        ("jobs.a$.order.urgent", "default"),
    ],
)
async def test_malformed_subject_is_refused(place: Place, subject: str, workspace: str) -> None:
    """A subject that is no request never stays, be it for a workflow that exists or a wake-up."""
    await place.put(subject, Job_Id="x")
    await place.put(subject, Job_Id="y", Job_Wake="timer")
    await place.gateway.sweep.sweep()
    assert await place.queued() == []
    stored = await read_all(place.bus, EVENTS, "log.*.*.job.rejected")
    assert [subjects.parse_event(s.subject).workspace for s in stored] == [workspace] * 2
    assert {event.failure.code for event in await place.rejections()} == {"bad_subject"}


async def test_sweep_leaves_what_may_still_run(place: Place) -> None:
    """A known workflow, a wake-up, a workflow that only has a consumer, and a timer stay where they are."""
    await ensure_consumer(place.bus, JOBS, "job-forgotten-normal", ["jobs.*.forgotten"], ack_wait_s=5)
    for subject in ("jobs.default.order", "jobs.default.order.low", "jobs.default.forgotten"):
        await place.put(subject)
    await publish_wake(place.bus, "default", "gone", "j1", "signal.x")
    await place.gateway.sweep.sweep()
    await place.gateway.sweep.sweep()
    assert len(await place.queued()) == 4
    assert await place.rejections() == []


async def test_grace_lets_a_starting_node_register(place: Place) -> None:
    """A workflow that is registered within the grace period gets its early requests."""
    sweep = Sweep(place.bus, place.blobs, place.registry, grace_s=3600)
    await place.put("jobs.default.soon")
    await sweep.sweep()
    await place.registry.register(msgspec.structs.replace(order.info(), name="soon"))
    await place.gateway.sweep.sweep()
    assert len(await place.queued()) == 1


async def test_two_gateways_and_a_half_done_one_reject_once(place: Place) -> None:
    """Racing sweeps, and one that repeats what a killed one began, leave one rejection for each request."""
    ids = [f"j{i}" for i in range(40)]
    for job in ids:
        await place.put("jobs.default.nobody", Job_Id=job)
    half = JobRejected(job="j0", workflow="nobody", failure=place_failure())
    await append_unfenced(place.bus, place.blobs, "default", half)
    sweeps = [Sweep(place.bus, place.blobs, place.registry, grace_s=0) for _ in range(3)]
    await asyncio.gather(*(sweep.sweep() for sweep in sweeps))
    assert await place.queued() == []
    assert sorted(event.job for event in await place.rejections()) == sorted(ids)


def place_failure() -> Failure:
    return Failure(code="unknown_workflow", message="no workflow is named 'nobody'")


async def test_second_request_under_a_rejected_id_is_answered_too(place: Place) -> None:
    """A rejection before a request was stored is not its answer: it gets one of its own."""
    for _ in range(2):
        await place.put("jobs.default.nobody", Job_Id="again")
        await place.gateway.sweep.sweep()
    assert [event.job for event in await place.rejections()] == ["again", "again"]


async def test_rejection_never_touches_a_job_that_exists(place: Place) -> None:
    """A request that reuses a live job's id is refused under an id of its own, which names the one asked for."""
    await append_unfenced(
        place.bus, place.blobs, "default", JobSubmitted(job="live", workflow="order", version="1.2.0")
    )
    await place.put("jobs.default.nobody", Job_Id="live")
    await place.gateway.sweep.sweep()
    assert len(await place.events("live")) == 1
    (event,) = await place.rejections()
    assert event.requested_job == "live"
    assert event.job != "live"


async def test_rejected_child_answers_its_parent(place: Place) -> None:
    """A parent that waits for a child nobody can run gets a failed reply and a wake-up."""
    parent = Parent(workspace="default", job="p1", call="job:child:1", workflow="order")
    await publish_request(place.bus, place.blobs, JobRequest(workflow="nobody", job="c1", parent=parent))
    await place.gateway.sweep.sweep()
    (reply,) = await place.events("p1")
    assert isinstance(reply, ReplyFailed)
    assert (reply.call, reply.failure.code) == ("job:child:1", "unknown_workflow")
    (wake,) = await place.queued()
    assert (wake.headers[h.JOB_ID], wake.headers[h.JOB_WAKE]) == ("p1", "reply")


async def test_sweep_runs_by_itself(place: Place) -> None:
    """Started with its own period, it needs no call, and outlives errors of the bus."""
    sweep = Sweep(place.bus, place.blobs, place.registry, period_s=0.05, grace_s=0)
    sweep.start()
    await place.put("jobs.default.nobody", Job_Id="j1")
    await wait_until(place.rejections)
    await place.bus.api(f"STREAM.DELETE.{JOBS}")
    await ensure_streams(place.bus)
    await place.put("jobs.default.nobody", Job_Id="j2")
    await wait_until(lambda: gone(place.bus))
    await sweep.stop()
    assert {event.job for event in await place.rejections()} == {"j1", "j2"}


async def gone(bus: Bus) -> bool:
    info = await stream_info(bus, JOBS)
    return info is not None and info["state"]["messages"] == 0
