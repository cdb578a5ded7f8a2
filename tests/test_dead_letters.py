"""Dead letters: what nobody can work on is kept with the reason before it goes, listed once, and can be re-driven."""

from __future__ import annotations

import base64
import contextlib
import re
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.dead_letters.dead_letters import (
    Letter,
    Redriven,
    drop,
    fold_letters,
    keep_letter,
    letter_body,
    list_letters,
    read_letter,
    redrive,
    retry_job,
)
from bus import headers as h
from bus.connection import Bus
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.errors import BusError, PermissionRefused, UsageError
from bus.failure import Failure
from bus.messages import (
    DeadDropped,
    DeadKept,
    DeadRedriven,
    Ended,
    Event,
    JobCompleted,
    JobFailed,
    JobRejected,
    JobRetried,
    JobSubmitted,
    ReplyFailed,
)
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.reader import read_all
from bus.streams import EVENTS, JOBS, ensure_streams
from store.log import Recorded, append_unfenced
from tests.stage import ROOT, Stage, stage
from tests.waiting import wait_until

APP = "tests.apps.letters:app"
LIMIT_S = 60.0
BAD = Failure(code="x", message="bad")

# ---- the fold


def kept(sequence: int, *, stream: str = "EVENTS", call: str = "a:1") -> DeadKept:
    return DeadKept(
        job="j", failure=BAD, subject="s", stream=stream, stream_sequence=sequence, deliveries=1, call=call,
    )  # fmt: skip


letter_events: st.SearchStrategy[Event] = st.one_of(
    st.builds(kept, st.integers(1, 4), stream=st.sampled_from(("JOBS", "EVENTS"))),
    st.builds(lambda n: DeadRedriven(job="j", letter=n), st.integers(1, 12)),
    st.builds(lambda n: DeadDropped(job="j", letter=n, reason="r"), st.integers(1, 12)),
)


@given(st.lists(letter_events, max_size=12))
def test_a_message_has_one_letter(events: list[Event]) -> None:
    """Under the id of the first time that it was written; what became of it was said after it was written."""
    log = [Recorded(n, event) for n, event in enumerate(events, 1)]
    letters = fold_letters("w", log)
    first: dict[tuple[str, int], int] = {}
    for r in log:
        if isinstance(r.event, DeadKept):
            first.setdefault((r.event.stream, r.event.stream_sequence), r.sequence)
    assert {(letter.stream, letter.sequence): letter.id for letter in letters} == first
    for letter in letters:
        ids = {r.sequence for r in log if isinstance(r.event, DeadKept)
               and (r.event.stream, r.event.stream_sequence) == (letter.stream, letter.sequence)}  # fmt: skip
        closing = [r.event for r in log if isinstance(r.event, DeadRedriven | DeadDropped)
                   and r.event.letter in ids and r.sequence > r.event.letter]  # fmt: skip
        last = closing[-1] if closing else None
        state = {type(None): "kept", DeadRedriven: "redriven", DeadDropped: "dropped"}[type(last)]
        assert (letter.state, letter.closed_at) == (state, last.at if last else None)


@given(st.binary(max_size=300))
def test_any_bytes_fit_into_a_letter(body: bytes) -> None:
    """The body of a letter crosses the wire unharmed, whatever it was."""
    event = msgspec.json.decode(msgspec.json.encode(keep(body)), type=DeadKept)
    assert base64.b64decode(event.body) == body


def keep(body: bytes) -> DeadKept:
    return msgspec.structs.replace(kept(1), body=letter_body(body))


# ---- on a server, with real processes


def mend(on: Stage, what: str) -> None:
    Path(f"{on.ledger}.{what}").touch()


async def letters(on: Stage, *, closed: bool = False) -> list[Letter]:
    return await list_letters(on.bus, "default", closed=closed)


async def one_letter(on: Stage) -> Letter:
    """The only one, once it is there."""
    found = await wait_until(lambda: letters(on), LIMIT_S)
    assert len(found) == 1, found
    return found[0]


async def last_end(on: Stage, job: str, *, since: int = 0) -> Event:
    """How the job ended after ``since``."""

    async def ended() -> list[Event]:
        return [r.event for r in await on.events(job) if isinstance(r.event, Ended) and r.sequence > since]

    return (await wait_until(ended, LIMIT_S))[0]


async def ended_at(on: Stage, job: str) -> int:
    """Where the job's last end stands."""
    return max(r.sequence for r in await on.events(job) if isinstance(r.event, Ended))


async def redriven(on: Stage, *ids: int) -> list[Redriven]:
    return await redrive(on.bus, on.blobs, "default", ids, by="ann")


async def test_a_call_that_kills_each_process(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Its job fails with how the process died, the letter has it whole, calls beside it are unharmed; once the tool is
    mended the letter is re-driven, and the job ends with each effect counted once."""
    async with stage(nats_server.url, tmp_path, APP, only=("fragile", "step", "deadly")) as on:
        await on.submit("fragile", "f", {"start": 1})
        for n in range(6):
            await on.submit("fragile", f"good{n}", {"start": -9})
        end = await last_end(on, "f")
        assert isinstance(end, JobFailed) and end.failure.code == "process_died"
        assert "SIGKILL" in end.failure.message
        for n in range(6):
            assert isinstance(await last_end(on, f"good{n}"), JobCompleted)
        letter = await one_letter(on)
        assert (letter.job, letter.call, letter.kind, letter.failure) == ("f", "deadly:1", "call", end.failure)
        assert letter.deliveries >= 3
        whole = await read_letter(on.bus, on.blobs, "default", letter.id)
        assert msgspec.json.decode(whole.body)["input"] == {"n": 2}
        assert [(a.attempt, a.failure.code) for a in whole.attempts if a.failure] == [(1, "process_died")]
        mend(on, "deadly")
        failed_at = await ended_at(on, "f")
        assert await redriven(on, letter.id) == [Redriven(letter.id, "f", "retried")]
        end = await last_end(on, "f", since=failed_at)
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"4"
        assert await letters(on) == []
        (closed,) = await letters(on, closed=True)
        assert (closed.state, closed.closed_by) == ("redriven", "ann")
        mine = [line for line in on.effects() if line.startswith("f/")]
        assert Counter(mine) == {"f/step:1": 1, "f/deadly:1": 1, "f/step:2": 1}


@pytest.mark.parametrize("point", ["dead.before_kept:1", "dead.after_kept:1"])
async def test_killed_between_the_letter_and_the_reply(nats_server: EmbeddedServer, tmp_path: Path, point: str) -> None:
    """Whatever the moment, there is one letter and one reply, and the letter came first."""
    marker = tmp_path / "died"
    env = {VARIABLE: f"{point}:{marker}"}
    async with stage(nats_server.url, tmp_path, APP, env=env, only=("fragile", "step", "deadly")) as on:
        await on.submit("fragile", "f", {"start": 1})
        end = await last_end(on, "f")
        assert isinstance(end, JobFailed) and end.failure.code == "process_died"
        assert marker.exists(), "nothing came by the crash point"
        letter = await one_letter(on)
        (reply,) = [r.sequence for r in await on.events("f") if isinstance(r.event, ReplyFailed)]
        assert letter.id < reply
        mend(on, "deadly")
        failed_at = await ended_at(on, "f")
        await redriven(on, letter.id)
        assert isinstance(await last_end(on, "f", since=failed_at), JobCompleted)
        assert await letters(on) == []


UNREADABLE = {
    "no JSON": (b"\xff\x00garbage", ""),
    "no command": (b'{"type": "signal", "job": "j", "name": "x"}', ""),
    "another job's": (b'{"type": "call.tool", "job": "k", "call": "step:7", "name": "step", "version": 1}', "step:7"),
    "a field of a wrong type": (b'{"type": "call.tool", "job": "j", "call": "step:7", "name": 5}', "step:7"),
}


@pytest.mark.parametrize("case", UNREADABLE)
async def test_a_command_that_nobody_can_read(nats_server: EmbeddedServer, tmp_path: Path, case: str) -> None:
    """It is answered as far as its call can be told, and kept as it came; without a call it can only be dropped."""
    body, call = UNREADABLE[case]
    async with stage(nats_server.url, tmp_path, APP, only=("brittle", "step", "broken")) as on:
        sequence = await on.bus.append("log.default.j.call.tool.step.v1", body, headers={"X-From": "somebody"})
        letter = await one_letter(on)
        assert (letter.call, letter.stream, letter.sequence) == (call, EVENTS, sequence)
        assert letter.headers["X-From"] == "somebody"
        whole = await read_letter(on.bus, on.blobs, "default", letter.id)
        assert whole.body == body
        (outcome,) = await redriven(on, letter.id)
        assert outcome.how == "refused" and outcome.refused
        assert len(await letters(on)) == 1
        await drop(on.bus, "default", [letter.id], by="ann", reason="a joke")
        assert await letters(on) == []
        (closed,) = await letters(on, closed=True)
        assert (closed.state, closed.closed_by, closed.reason) == ("dropped", "ann", "a joke")


async def is_served(on: Stage, workflow: str) -> bool:
    """Whether a host has made the consumer of that workflow: from then on its requests are not refused."""
    with contextlib.suppress(BusError):
        return bool(await on.bus.api(f"CONSUMER.INFO.{JOBS}.job-{workflow}-normal"))
    return False


async def test_a_request_that_is_refused_comes_back_when_its_workflow_is_there(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """The request as it came, under the id that it had asked for; its headers go along, Nats-Msg-Id does not."""
    async with stage(nats_server.url, tmp_path, APP, only=("step",), gateway=True) as on:
        await on.submit("brittle", "r", {"start": 1}, **{h.MSG_ID: "once", "X-From": "somebody"})
        rejected = await last_end(on, "r")
        assert isinstance(rejected, JobRejected) and rejected.failure.code == "unknown_workflow"
        letter = await one_letter(on)
        assert (letter.job, letter.kind, letter.stream, letter.deliveries) == ("r", "request", JOBS, 0)
        (outcome,) = await redriven(on, letter.id)
        assert outcome.how == "published"
        again = await one_letter(on)
        assert again.id > letter.id, "it was refused once more, since nobody had it yet"
        await last_end(on, "r", since=again.id)
        assert again.headers["X-From"] == "somebody" and h.MSG_ID not in again.headers
        mend(on, "broken")
        async with stage(nats_server.url, tmp_path, APP, node="n2", only=("brittle", "broken")) as n2:
            rejected_at = await ended_at(n2, "r")
            await wait_until(lambda: is_served(n2, "brittle"), 60)
            await redriven(n2, again.id)
            end = await last_end(n2, "r", since=rejected_at)
            assert isinstance(end, JobCompleted) and bytes(end.output) == b"14"
            assert await letters(n2) == []


async def test_a_request_with_bad_input(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """What a host refuses is kept as well, however big; bytes that are no JSON stay as they were."""
    async with stage(nats_server.url, tmp_path, APP, only=("brittle",)) as on:
        body = b"\xff" * 600_000
        await on.submit("brittle", "r", body)
        letter = await one_letter(on)
        assert (letter.job, letter.kind, letter.deliveries) == ("r", "request", 1)
        assert (await read_letter(on.bus, on.blobs, "default", letter.id)).body == body
        (stored,) = await read_all(on.bus, EVENTS, "log.default.r.dead.kept")
        assert len(stored.body) < 10_000, "the bytes are in the object store"
        await redriven(on, letter.id)
        again = await one_letter(on)
        assert (await read_letter(on.bus, on.blobs, "default", again.id)).body == body


@pytest.mark.parametrize("point", ["dead.before_kept:1", "dead.after_kept:1"])
async def test_host_killed_while_it_refuses(nats_server: EmbeddedServer, tmp_path: Path, point: str) -> None:
    """One letter and one rejection, whenever the host dies."""
    marker = tmp_path / "died"
    async with stage(nats_server.url, tmp_path, APP, env={VARIABLE: f"{point}:{marker}"}, only=("brittle",)) as on:
        await on.submit("brittle", "r", b"{")
        assert isinstance(await last_end(on, "r"), JobRejected)
        assert marker.exists()
        assert (await one_letter(on)).job == "r"


async def test_a_job_that_takes_its_hosts_down(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """It fails as poison with a letter that has its input; re-driven, it goes on from its last record."""
    async with stage(nats_server.url, tmp_path, APP, only=("wild", "step")) as on:
        await on.submit("wild", "w", {"n": 4})
        end = await last_end(on, "w")
        assert isinstance(end, JobFailed) and end.failure.code == "poison"
        letter = await one_letter(on)
        assert (letter.job, letter.kind, letter.failure) == ("w", "job", end.failure)
        assert (await read_letter(on.bus, on.blobs, "default", letter.id)).body == b'{"n":4}'
        await redriven(on, letter.id)

        async def poison_again() -> bool:
            return len(await letters(on)) == 1

        await wait_until(poison_again, LIMIT_S, what="it has its tries anew, and fails anew")
        again = await one_letter(on)
        await last_end(on, "w", since=again.id)
        mend(on, "wild")
        failed_at = await ended_at(on, "w")
        await redriven(on, again.id)
        end = await last_end(on, "w", since=failed_at)
        assert isinstance(end, JobCompleted) and bytes(end.output) == b"6"
        assert Counter(on.effects()) == {"w/step:1": 1, "w/step:2": 1}


async def test_letters_of_one_job_are_one_retry(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Two calls of a job that died are given out again by one ``job.retried``; once more, there is nothing to do."""
    async with stage(nats_server.url, tmp_path, APP, only=("brittle", "step", "broken")) as on:
        await on.submit("brittle", "b", {"start": 1})
        assert isinstance(await last_end(on, "b"), JobFailed)
        ids = [
            await keep_letter(on.bus, on.blobs, "default", msgspec.structs.replace(kept(n, call="broken:1"), job="b"))
            for n in (1, 2)
        ]
        mend(on, "broken")
        assert [one.how for one in await redriven(on, *ids)] == ["retried", "retried"]
        assert isinstance(await last_end(on, "b", since=ids[-1]), JobCompleted)
        assert [one.how for one in await redriven(on, *ids)] == ["already", "already"]
        assert sum(isinstance(r.event, JobRetried) for r in await on.events("b")) == 1


async def test_a_job_that_went_on_without_a_call_does_not_get_it_again(
    nats_server: EmbeddedServer, tmp_path: Path
) -> None:
    """A letter of a job that completed, or that goes on, cannot be re-driven, and the answer says so."""
    async with stage(nats_server.url, tmp_path, APP, only=("caught", "step", "broken")) as on:
        await on.submit("caught", "c", {"n": 1})
        assert isinstance(await last_end(on, "c"), JobFailed)
        mend(on, "broken")
        await retry_job(on.bus, on.blobs, "default", "c")

        async def completed() -> bool:
            return any(isinstance(r.event, JobCompleted) for r in await on.events("c"))

        await wait_until(completed, LIMIT_S)
        letter = msgspec.structs.replace(kept(1, call="broken:1"), job="c")
        number = await keep_letter(on.bus, on.blobs, "default", letter)
        (outcome,) = await redriven(on, number)
        assert (outcome.how, outcome.refused) == (
            "refused", "job c is completed; only a failed job can be retried",
        )  # fmt: skip
        with pytest.raises(UsageError, match="no dead letter 999"):
            await redriven(on, number, 999)
        for strange in (b"{", b'{"type": "dead.kept"}'):
            await on.bus.append("log.default.c.dead.kept", strange)
        assert [letter.id for letter in await letters(on)] == [number]


async def test_a_client_may_see_to_letters_and_forge_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """With deploy/nats.conf a client retries, re-drives and drops; it writes no letter, and no end of a job."""
    for variable, value in PASSWORDS.items():
        monkeypatch.setenv(variable, value)
    text = (ROOT / "deploy" / "nats.conf").read_text()
    config = re.sub(r"^ *(port|http|store_dir):.*$", "", text, flags=re.MULTILINE)
    async with await EmbeddedServer.start(config=config) as server:
        admin = ConnectOptions(servers=[server.url], user="admin", password=PASSWORDS["ADMIN_PASSWORD"])
        shop = ConnectOptions(
            servers=[server.url], user="shop", password=PASSWORDS["CLIENT_PASSWORD"], inbox_prefix="_INBOX.shop"
        )
        async with await Bus.connect(admin) as bus:
            await ensure_streams(bus)
            blobs = Blobs(bus)
            for event in (
                JobSubmitted(job="j", workflow="w", version="1.0.0"),
                ReplyFailed(job="j", call="a:1", failure=BAD),
                kept(1),
                kept(2, stream="JOBS", call=""),
                JobFailed(job="j", failure=BAD),
            ):
                await append_unfenced(bus, blobs, "shop", event)
        async with await Bus.connect(shop) as bus:
            first, second = await list_letters(bus, "shop")
            (done,) = await redrive(bus, Blobs(bus), "shop", [first.id])
            assert done.how == "retried"
            await drop(bus, "shop", [second.id])
            assert await list_letters(bus, "shop") == []
            for kind in ("dead.kept", "job.failed", "job.completed"):
                with pytest.raises(PermissionRefused):
                    await bus.append(f"log.shop.j.{kind}", b"{}")


PASSWORDS = {"ADMIN_PASSWORD": "admin-secret", "NODE_PASSWORD": "node-secret", "CLIENT_PASSWORD": "client-secret",
             "TOOLS_PASSWORD": "tools-secret"}  # fmt: skip
