"""Requests that cannot be: each is refused with a trace that says what and where, and the next one is served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.jobs.requests import MAX_INPUT_BYTES, JobRequest, publish_request
from bus import headers as h
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import TooLarge, UsageError
from bus.event import Parent
from bus.messages import CallJob, JobCompleted, JobRejected, JobSubmitted, ReplyFailed
from bus.reader import Stored, read_all
from bus.service import ask as ask_service
from bus.streams import EVENTS, JOBS, stream_info
from store.log import append_unfenced, recorded
from tests.stage import Stage, stage
from tests.waiting import wait_until

BAD = "tests.apps.bad:app"
GOOD = b'{"items": [{"sku": "A1", "qty": 2}]}'


async def trace(on: Stage, subject: str = "log.*.*.job.rejected") -> tuple[Stored, JobRejected]:
    """The one rejection in the log."""

    async def found() -> list[Stored]:
        return await read_all(on.bus, EVENTS, subject)

    stored = await wait_until(found)
    assert len(stored) == 1
    event = (await recorded(on.blobs, stored[0])).event
    assert isinstance(event, JobRejected)
    return stored[0], event


async def check_serves(on: Stage) -> None:
    """The queue is empty and not blocked: a good job completes, and no process has died."""
    await on.submit("order", "good", GOOD)
    end = await on.end("good")
    assert isinstance(end, JobCompleted), end
    assert bytes(end.output) == b"2"
    assert all(status.restarts == 0 for status in on.supervisor.statuses())

    async def queue_is_empty() -> bool:
        info = await stream_info(on.bus, JOBS)
        assert info is not None
        return bool(info["state"]["messages"] == 0)

    await wait_until(queue_is_empty)


# ---- the input

INPUTS = {
    "empty": (b"", "invalid_input", "$.items", "missing required field `items`"),
    "no JSON": (b'{"items": [}', "invalid_json", "$", "at byte 11"),
    "no UTF-8": (b'{"items": "\xff"}', "invalid_json", "$", "0xff is not UTF-8"),
    "Python": (b"{'items': []}", "invalid_json", "$", "looks like Python"),
    "an array": (b"[1]", "invalid_input", "$", "Expected `object`, got `array`"),
    "nested": (b'{"items": [{"sku": "A", "qty": "two"}]}', "invalid_input", "$.items[0].qty", "Expected `int`"),
    "missing": (b'{"items": [{"qty": 1}]}', "invalid_input", "$.items[0].sku", "missing required field `sku`"),
    "unknown": (b'{"items": [], "nota": 1}', "invalid_input", "$.nota", "unknown field `nota`"),
    "deep": (b'{"items": ' + b"[" * 5000 + b"]" * 5000 + b"}", "invalid_input", "$.items[0]", "Expected `object`"),
}  # fmt: skip


@pytest.mark.parametrize("case", INPUTS)
async def test_bad_input(nats_server: EmbeddedServer, tmp_path: Path, case: str) -> None:
    """The trace stands under the job's id, with code, path, words, and the input as it came."""
    body, code, path, words = INPUTS[case]
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        await on.submit("order", "bad", body)
        stored, event = await trace(on)
        assert stored.subject == "log.default.bad.job.rejected"
        assert (event.failure.code, event.failure.path) == (code, path)
        assert words in f"{event.failure.message} {event.failure.hint}"
        assert event.failure.retryable is False
        assert event.workflow == "order"
        if case == "unknown":
            assert event.failure.hint == "did you mean `note`?"
        assert event.input is not None
        await check_serves(on)


async def test_input_over_the_limit(tmp_path: Path) -> None:
    """A client cannot send it; one that lies in the object store, or fits the server's own limit, is refused."""
    async with (
        await EmbeddedServer.start(config="max_payload: 16MB") as server,
        stage(server.url, tmp_path, BAD, only=("order",)) as on,
    ):
        huge = b'{"items": [], "note": "' + b"x" * MAX_INPUT_BYTES + b'"}'
        with pytest.raises(TooLarge, match=r"8,388,6.. bytes, the limit is 8,388,608"):
            await publish_request(on.bus, on.blobs, JobRequest(workflow="order", job="huge", input=huge))
        await on.submit("order", "huge", huge)
        stored, event = await trace(on, "log.default.huge.job.rejected")
        assert event.failure.code == "too_large"
        assert len(stored.body) < 10_000
        digest = await on.blobs.put(huge)
        await on.submit("order", "blob", b"", **{h.JOB_BLOB: digest})
        _, event = await trace(on, "log.default.blob.job.rejected")
        assert event.failure.code == "too_large"
        await check_serves(on)


# ---- headers and subjects


@pytest.mark.parametrize("job_id", ["a.b", "a b", "a*", "é", "x" * 129])
async def test_job_id_with_illegal_characters(nats_server: EmbeddedServer, tmp_path: Path, job_id: str) -> None:
    """The trace stands under an id of its own and names the one that was asked for."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        await on.submit("order", job_id, GOOD)
        stored, event = await trace(on)
        assert event.failure.code == "bad_name"
        assert event.requested_job == job_id
        assert stored.subject == f"log.default.{event.job}.job.rejected"
        await check_serves(on)


BAD_HEADERS = {
    "no JSON": {h.JOB_PARENT: "nobody"},
    "no object": {h.JOB_PARENT: "[]"},
    "other fields": {h.JOB_PARENT: '{"job": 5}'},
    "illegal names": {h.JOB_PARENT: '{"workspace": "a b", "job": "*", "call": "x", "workflow": ">"}'},
}


@pytest.mark.parametrize("case", BAD_HEADERS)
async def test_bad_parent_header(nats_server: EmbeddedServer, tmp_path: Path, case: str) -> None:
    """Refused with the header's name; nobody is told a reply that nobody asked for."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        await on.submit("order", "bad", GOOD, **BAD_HEADERS[case])
        _, event = await trace(on)
        assert (event.failure.code, event.failure.path) == ("bad_header", h.JOB_PARENT)
        assert await read_all(on.bus, EVENTS, "log.*.*.reply.>") == []
        await check_serves(on)


async def test_parent_of_a_rejected_child_is_told(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Its call fails with the reason, and the parked parent gets a wake-up."""
    parent = Parent("default", "parent-1", "order:1", "elsewhere")
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        call = CallJob(job="parent-1", call="order:1", name="order", version=1, child="bad")
        await append_unfenced(on.bus, on.blobs, "default", call)
        await on.submit("order", "bad", b"{}", **{h.JOB_PARENT: msgspec.json.encode(parent).decode()})
        await trace(on)

        async def wake_up() -> list[Stored]:
            return await read_all(on.bus, JOBS, "jobs.default.elsewhere")

        wakes = await wait_until(wake_up)
        assert wakes[0].headers[h.JOB_WAKE] == "reply"
        replies = [r.event for r in await on.events("parent-1") if isinstance(r.event, ReplyFailed)]
        assert [(e.call, e.failure.code) for e in replies] == [("order:1", "invalid_input")]


async def test_workspace_with_illegal_characters(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """It gets a trace and takes no place of others."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        await on.bus.append("jobs.my:space.order", GOOD)
        _, event = await trace(on)
        assert event.failure.code == "bad_name"
        await check_serves(on)


async def test_blob_that_is_not_there(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A reference to nothing is refused after some tries, not tried for ever."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        await on.submit("order", "bad", b"", **{h.JOB_BLOB: "0" * 64})
        _, event = await trace(on)
        assert (event.failure.code, event.failure.path) == ("blob_missing", h.JOB_BLOB)
        await on.submit("order", "worse", b"", **{h.JOB_BLOB: "../../etc/passwd > *"})
        _, event = await trace(on, "log.default.worse.job.rejected")
        assert (event.failure.code, event.failure.path) == ("bad_header", h.JOB_BLOB)
        await check_serves(on)


async def test_wake_up_for_nobody(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A wake-up for a job that does not exist is dropped."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        await on.submit("order", "nobody", b"", **{h.JOB_WAKE: "signal.x"})
        await on.submit("order", "nobody", b"garbage", **{h.JOB_WAKE: "\u20ac"})
        await check_serves(on)
        assert await on.events("nobody") == []


# ---- ids that come again


async def test_same_id_and_input_is_the_same_job(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Spaces and the order of keys do not count; the job runs once."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        await on.submit("order", "twice", b'{"items": [{"sku": "A", "qty": 2}], "note": null}')
        await on.end("twice")
        await on.submit("order", "twice", b'{"note":null, "items":[{"qty":2,"sku":"A"}]}')
        await check_serves(on)
        assert sum(isinstance(r.event, JobSubmitted) for r in await on.events("twice")) == 1
        assert await read_all(on.bus, EVENTS, "log.*.*.job.rejected") == []


@pytest.mark.parametrize("second", [b'{"items": []}', b'{"items": 5}', b"no JSON", b""])
async def test_same_id_with_other_input(nats_server: EmbeddedServer, tmp_path: Path, second: bytes) -> None:
    """The second request is refused under an id of its own; the first job's log and end stay as they are."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        await on.submit("order", "taken", GOOD)
        first = await on.end("taken")
        before = [r.sequence for r in await on.events("taken")]
        await on.submit("order", "taken", second)
        _, event = await trace(on)
        assert event.job != "taken"
        assert event.requested_job == "taken"
        assert event.failure.code in ("job_id_conflict", "invalid_input", "invalid_json")
        assert [r.sequence for r in await on.events("taken")] == before
        assert isinstance(first, JobCompleted)
        await check_serves(on)


async def test_same_id_in_another_workflow(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """An id belongs to one job, whatever its workflow."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order", "ask")) as on:
        await on.submit("order", "taken", GOOD)
        await on.end("taken")
        await on.submit("ask", "taken", {"tool": "act", "mode": "ok"})
        _, event = await trace(on)
        assert (event.failure.code, event.requested_job, event.workflow) == ("job_id_conflict", "taken", "ask")
        await check_serves(on)


async def test_good_request_after_a_rejected_one(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """An id under which a request was refused can be used again once the input is right."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        await on.submit("order", "again", b"{}")
        await trace(on)
        await on.submit("order", "again", GOOD)

        async def completed() -> bool:
            return any(isinstance(r.event, JobCompleted) for r in await on.events("again"))

        await wait_until(completed)


async def test_message_id(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """``Nats-Msg-Id`` makes one job, also when the server has forgotten the id; per workspace."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        config = (await on.bus.api(f"STREAM.INFO.{JOBS}"))["config"]
        await on.bus.api(f"STREAM.UPDATE.{JOBS}", config | {"duplicate_window": 100_000_000})

        async def publish(workspace: str) -> bool:
            msg = await on.bus.request(f"jobs.{workspace}.order", GOOD, headers={h.MSG_ID: "order-77"})
            return not msgspec.json.decode(msg.data).get("duplicate", False)

        assert await publish("default")

        async def stored_again() -> bool:
            return await publish("default")

        await wait_until(stored_again)
        await wait_until(lambda: publish("other"))
        await check_serves(on)
        submitted = await read_all(on.bus, EVENTS, "log.*.*.job.submitted")
        jobs = {stored.subject.split(".")[1] + "/" + stored.subject.split(".")[2][:1] for stored in submitted}
        assert len(submitted) == 3  # the good one, and one for each workspace
        assert {"default/m", "other/m"} < jobs


# ---- nobody takes it


async def test_unknown_workflow(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A bare publish is refused with a near miss by a node's gateway; the service answers so at once."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order",), gateway=True) as on:
        await on.submit("order", "first", GOOD)
        await on.end("first")
        await on.submit("ordr", "lost", GOOD)
        stored, event = await trace(on)
        assert stored.subject == "log.default.lost.job.rejected"
        assert event.failure.code == "unknown_workflow"
        assert event.failure.hint == "did you mean order?"
        error = await refused(on.bus, {"workflow": "ordr", "input": {}})
        assert (error.code, error.path, error.hint) == ("unknown_workflow", "workflow", "did you mean order?")
        error = await refused(on.bus, {"workflow": "order", "input": {"items": [{"sku": 1}]}})
        assert (error.code, error.path) == ("invalid_input", "$.items[0].sku")
        await check_serves(on)


async def refused(bus: Bus, body: dict[str, Any]) -> UsageError:
    """The error that the gateway answers."""
    with pytest.raises(UsageError) as caught:
        await ask_service(bus, "api.default.jobs.submit", msgspec.json.encode(body))
    return caught.value
