"""Submissions while the server is away: kept on this machine, delivered once, by whoever comes first."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from actors.clients.client import Client
from actors.clients.offline import hold_request
from actors.doctor.doctor import examine
from actors.jobs.requests import JobRequest
from bus.connection import Bus
from bus.crash import VARIABLE
from bus.destination import destination_of
from bus.embedded import EmbeddedServer
from bus.errors import BusUnreachable, OutboxFull, TooLarge, UsageError
from bus.messages import JobCompleted
from bus.options import ConnectOptions
from bus.outbox import BYTES_VARIABLE, Outbox
from bus.paths import DATA_DIR_VARIABLE
from bus.reader import read_all
from bus.streams import JOBS, ensure_streams
from store.log import read_job
from tests.apps.five import five
from tests.stage import ROOT, stage
from tests.test_cli import Shell, environment
from tests.waiting import wait_until

DEADLINE_S = 60
NOBODY = "nats://127.0.0.1:9"
CHILD = ROOT / "tests" / "children" / "offline_client.py"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data directory of the test's own process; that of ``stage`` and ``Shell`` too."""
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path / "data"))
    return tmp_path / "data"


async def held(data: Path) -> list[str]:
    """What lies in the outbox of the clients, as ``workspace/job``."""
    outbox = Outbox(data / "outbox" / "client.db")
    try:
        return [one.about for one in await outbox.pending()] if outbox.exists() else []
    finally:
        await outbox.close()


async def ended(bus: Bus, job: str) -> bool:
    """Whether the job has completed, and did so once."""
    client = Client(bus)
    ends = [r for r in await read_job(bus, client.blobs, "default", job) if isinstance(r.event, JobCompleted)]
    assert len(ends) <= 1
    return bool(ends)


class Submitter:
    """A client in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def submit(self, count: int, prefix: str) -> list[str]:
        """What became of each: ``held`` or ``sent``."""
        assert self._process.stdin
        self._process.stdin.write(f"{count} {prefix}\n".encode())
        return [await self.line() for _ in range(count)]

    async def line(self) -> str:
        """The next thing that it says."""
        assert self._process.stdout
        async with asyncio.timeout(DEADLINE_S):
            return (await self._process.stdout.readline()).decode().strip()

    async def kill(self) -> None:
        """Kill -9."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()


@contextlib.asynccontextmanager
async def submitter(url: str, tmp_path: Path) -> AsyncIterator[Submitter]:
    """A client that runs beside the test."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CHILD), url, env=environment(url, tmp_path), stdin=pipe, stdout=pipe, cwd=ROOT
    )
    child = Submitter(process)
    try:
        assert await child.line() == "ready"
        yield child
    finally:
        await child.kill()


@contextlib.asynccontextmanager
async def node(url: str, tmp_path: Path) -> AsyncIterator[None]:
    """``callboard node`` with the app of five steps."""
    command = [sys.executable, "-m", "cli", "node", "tests.apps.five:app", "--name", "n1", "--nats", url]
    with (tmp_path / "node.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment(url, tmp_path), stdout=log, stderr=log, cwd=ROOT
        )
    try:
        yield
    finally:
        process.terminate()
        await asyncio.wait_for(process.wait(), DEADLINE_S)


async def test_fifty_jobs_of_a_killed_client(nats_server: EmbeddedServer, tmp_path: Path, data: Path) -> None:
    """A client submits while the server is away and is killed; a node that starts later delivers: all end, once."""
    jobs = [f"off-{n}" for n in range(50)]
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await ensure_streams(bus)
        async with submitter(nats_server.url, tmp_path) as client:
            nats_server.kill()
            assert set(await client.submit(50, "off")) == {"held"}
            await client.kill()
        assert await held(data) == [f"default/{job}" for job in jobs]
        await nats_server.restart()
        await bus.settle()
        async with node(nats_server.url, tmp_path):

            async def all_ended() -> bool:
                return all([await ended(bus, job) for job in jobs])

            await wait_until(all_ended, DEADLINE_S)
            assert await held(data) == []
            effects = Counter((tmp_path / "ledger").read_text().splitlines())
            assert effects == {f"{job}/step:{n}": 1 for job in jobs for n in range(1, 6)}


async def _nothing_held(data: Path) -> bool:
    return not await held(data)


async def test_client_that_goes_on_delivers(nats_server: EmbeddedServer, tmp_path: Path, data: Path) -> None:
    """The connection comes back: the client delivers in the background, and its handle gets the result."""
    async with stage(nats_server.url, tmp_path) as on, Client.connect(nats_server.url) as client:
        sent = await client.submit(five, start=1, offline_ok=True)
        assert not sent.held and isinstance(await sent.result(DEADLINE_S), int)
        nats_server.kill()
        late = await client.submit(five, start=1, offline_ok=True)
        by_name = await client.submit("five", start=1, offline_ok=True)
        assert late.held and by_name.held and len(await held(data)) == 2
        waiting = asyncio.create_task(late.result(DEADLINE_S))
        await nats_server.restart()
        assert await waiting == await by_name.result(DEADLINE_S) == await sent.result()
        await wait_until(lambda: _nothing_held(data), DEADLINE_S, what="the outbox knows that all was delivered")
        assert Counter(on.effects()).most_common(1)[0][1] == 1


async def test_back_in_time(nats_server: EmbeddedServer, tmp_path: Path, data: Path) -> None:
    """A server that is back at once has been given the request itself; nothing is kept."""
    async with stage(nats_server.url, tmp_path), Client.connect(nats_server.url) as client:
        nats_server.kill()
        submitting = asyncio.create_task(client.submit(five, start=1, offline_ok=True))
        await nats_server.restart()
        handle = await submitting
        assert isinstance(await handle.result(DEADLINE_S), int)
        assert await held(data) == []


async def test_missing_gateway_is_no_outage(nats_server: EmbeddedServer, data: Path) -> None:
    """The server is there and nobody serves the name: that is said, and nothing is kept."""
    async with Client.connect(nats_server.url) as client:
        with pytest.raises(BusUnreachable, match="no gateway"):
            await client.submit("five", start=1, offline_ok=True)
        assert await held(data) == []


async def test_what_cannot_be_kept(nats_server: EmbeddedServer, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no server would take is refused at once; so is what only a gateway can resolve, and what has no room."""
    where = destination_of(ConnectOptions(servers=[NOBODY]))
    with pytest.raises(TooLarge):
        await hold_request(JobRequest(workflow="w", job="a", input=b"1" * 9_000_000), where)
    with pytest.raises(UsageError, match="workflow"):
        await hold_request(JobRequest(workflow="no name", job="a"), where)
    monkeypatch.setenv(BYTES_VARIABLE, "300")
    with pytest.raises(OutboxFull, match=BYTES_VARIABLE):
        await hold_request(JobRequest(workflow="w", job="a", input=b"1" * 300), where)
    assert await held(data) == []
    async with Client.connect(nats_server.url) as client:
        nats_server.kill()
        with pytest.raises(UsageError, match="cannot be resolved"):
            await client.submit("five@1", start=1, offline_ok=True)


# ---- the command line


async def run(shell: Shell, *arguments: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """A command, without stopping the loop of the test."""
    return await asyncio.to_thread(shell, *arguments, env=env)


async def test_submit_offline_and_list(nats_server: EmbeddedServer, tmp_path: Path, data: Path) -> None:
    """The id on standard output, what became of it on standard error; with --wait the exit code says "goes on"."""
    shell = Shell(NOBODY, tmp_path)
    code, out, err = await run(shell, "submit", "five", "start:=1", "--offline-ok", "--job-id", "mine")
    assert code == 0 and json.loads(out) == {"job": "mine", "workspace": "default", "workflow": "five", "held": True}
    assert "held in the outbox" in err and "callboard outbox list" in err
    code, out, err = await run(shell, "submit", "five", "start:=1", "--offline-ok", "--wait")
    assert code == 4 and "callboard result" in err
    code, out, err = await run(shell, "submit", "five", "start:=1")
    assert code == 3 and "hint" in err
    code, out, _ = await run(shell, "outbox", "list", "--json")
    listed = json.loads(out)
    assert code == 0 and listed["messages"] == 2 and listed["held"][0]["about"] == "default/mine"
    assert listed["held"][0]["destination"] == "localhost:9" and not listed["held"][0]["in_use"]
    code, out, _ = await run(shell, "outbox", "list")
    assert "default/mine" in out and "2 messages" in out and "localhost:9" in out
    # Another server: nothing is delivered there, and why is said.
    code, out, _ = await run(shell, "outbox", "flush", "--nats", nats_server.url)
    assert code == 0 and "0 delivered" in out and "2 for other servers or users" in out
    code, out, err = await run(shell, "outbox", "drop", "mine")
    assert code == 0 and "default/mine" in out
    code, out, err = await run(shell, "outbox", "drop", "mine")
    assert code == 2 and "callboard outbox list" in err
    assert len(await held(data)) == 1


async def test_next_submit_and_flush_deliver(nats_server: EmbeddedServer, tmp_path: Path, data: Path) -> None:
    """The next submission takes along what is held; flush does so by hand, and big inputs go by the object store."""
    shell = Shell(nats_server.url, tmp_path)
    big = tmp_path / "big.json"
    big.write_text(json.dumps({"start": 1, "text": "x" * 400_000}))
    nats_server.kill()
    code, _, _ = await run(shell, "submit", "five", "--input", f"@{big}", "--job-id", "big", "--offline-ok")
    assert code == 0
    await nats_server.restart()
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await ensure_streams(bus)
        code, out, err = await run(shell, "outbox", "flush", "--json")
        assert code == 0 and json.loads(out)["delivered"] == 1, err
        [stored] = await read_all(bus, JOBS, "jobs.>")
        assert stored.headers["Job-Id"] == "big" and not stored.body
        nats_server.kill()
        await run(shell, "submit", "five", "start:=1", "--job-id", "later", "--offline-ok")
        await nats_server.restart()
        await bus.settle()
        # No gateway: this one fails, and what is held has gone out all the same.
        code, _, err = await run(shell, "submit", "five", "start:=1")
        assert code == 3 and "delivered 1 that" in err
        assert [s.headers["Job-Id"] for s in await read_all(bus, JOBS, "jobs.>")] == ["big", "later"]
    assert await held(data) == []


@pytest.mark.parametrize("point", ["outbox.before_send", "outbox.after_send"])
async def test_killed_while_it_delivers(nats_server: EmbeddedServer, tmp_path: Path, data: Path, point: str) -> None:
    """Killed before or after the server has it: who comes next delivers, and it is in the queue once."""
    shell = Shell(nats_server.url, tmp_path)
    async with await Bus.connect(ConnectOptions(servers=[nats_server.url])) as bus:
        await ensure_streams(bus)
        for job in ("a", "b", "c"):
            await hold_request(JobRequest(workflow="w", job=job), bus.destination)
        code, _, _ = await run(shell, "outbox", "flush", env={VARIABLE: f"{point}:1:{tmp_path / 'died'}"})
        assert code == -9 and len(await held(data)) == 3
        nats_server.kill()
        await nats_server.restart()
        code, out, _ = await run(shell, "outbox", "flush")
        assert code == 0 and "3 delivered" in out and not await held(data)
        await bus.settle()
        assert [s.headers["Job-Id"] for s in await read_all(bus, JOBS, "jobs.>")] == ["a", "b", "c"]


@pytest.mark.parametrize(("point", "count"), [("outbox.before_put", 0), ("outbox.after_put", 1)])
async def test_killed_while_it_keeps(tmp_path: Path, data: Path, point: str, count: int) -> None:
    """A submission that was killed over it is kept whole or not at all."""
    shell = Shell(NOBODY, tmp_path)
    env = {VARIABLE: f"{point}:1:{tmp_path / 'died'}"}
    code, out, _ = await run(shell, "submit", "five", "start:=1", "--offline-ok", env=env)
    assert code == -9 and not out and len(await held(data)) == count


async def test_doctor_tells_what_waits(nats_server: EmbeddedServer, data: Path) -> None:
    """Something that is held though the server is there is a finding, with what to do; an empty outbox is none."""
    options = ConnectOptions(servers=[nats_server.url])
    await hold_request(JobRequest(workflow="w", job="a"), destination_of(ConnectOptions(servers=[NOBODY])))
    [found] = [finding for finding in await examine(options) if finding.what == "outbox"]
    assert found.level == "ok" and "client holds 1 message" in found.detail
    outbox = Outbox(data / "outbox" / "client.db")
    await outbox._file.run("UPDATE message SET stored_at = stored_at - 100")
    [found] = [finding for finding in await examine(options) if finding.what == "outbox"]
    assert found.level == "warn" and "callboard outbox flush" in found.advice
    await outbox.remove([held.event_id for held in await outbox.pending()])
    await outbox.close()
    assert not [finding for finding in await examine(options) if finding.what == "outbox"]


async def test_refused_credentials_are_no_outage(tmp_path: Path, data: Path) -> None:
    """Who is not let in is told so: a job that is kept for that server would never get there."""
    config = 'authorization { user: ann, password: "right" }'
    async with await EmbeddedServer.start(config=config) as locked:
        shell = Shell(locked.url, tmp_path)
        env = {"NATS_USER": "ann", "NATS_PASSWORD": "wrong"}
        code, _, err = await run(shell, "submit", "five", "start:=1", "--offline-ok", env=env)
        assert code == 3 and "credentials" in err
        assert await held(data) == []


async def test_help_shows_the_option(tmp_path: Path) -> None:
    """The option is in the help of submit, and the noun in the list of commands."""
    shell = Shell(NOBODY, tmp_path)
    assert "--offline-ok" in (await run(shell, "submit", "--help"))[1]
    assert "outbox" in (await run(shell, "--help"))[1]
    assert os.environ.get("CALLBOARD_TEST_LEDGER") is None
