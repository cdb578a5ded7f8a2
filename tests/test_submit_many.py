"""Bulk submit: all or nothing is sent, nothing is sent twice, and a run that was killed is finished by the next one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import cli
from actors import App, Job
from actors.clients.bulk_submit import CHUNK
from actors.clients.client import Client
from actors.clients.entries import BadEntries
from actors.components.registry import Registry
from bus import headers as h
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.reader import read_all
from bus.streams import EVENTS, JOBS
from tests.stage import ROOT
from tests.test_cli import environment
from tests.troupe import Troupe, troupe
from tests.waiting import wait_until

DEADLINE_S = 60
app = App("many", version="1.0.0")


@app.job
async def double(job: Job, n: int, key: str = "") -> int:
    """Twice as much; seven is too much."""
    if n == 7:
        raise ValueError("seven")
    return 2 * n


@app.job
async def other(job: Job, n: int) -> int:
    """Another workflow."""
    return n


@contextlib.asynccontextmanager
async def place(server: EmbeddedServer, *, hosts: int = 1) -> AsyncIterator[Troupe]:
    """Hosts, and a registry that knows the app."""
    async with troupe(server.url, app, hosts=hosts) as on:
        registry = Registry(on.bus)
        await registry.start()
        for component in app.components:
            await registry.register(component.info())
        yield on
        await registry.stop()


async def times_submitted(on: Troupe) -> list[str]:
    """The jobs in the log, as often as they were taken up."""
    return [stored.subject.split(".")[2] for stored in await read_all(on.bus, EVENTS, "log.default.*.job.submitted")]


async def test_many_inputs_at_once(nats_server: EmbeddedServer) -> None:
    """Handles in order; the same batch again is the same jobs; without a name they are new ones."""
    async with place(nats_server, hosts=2) as on, Client(on.bus) as client:
        inputs = [{"n": 10 + n} for n in range(1000)]
        handles = await client.submit_many("double", inputs, batch="b")
        assert len({handle.id for handle in handles}) == 1000
        assert await handles[3].result(DEADLINE_S) == 26
        again = await client.submit_many(double, inputs, batch="b")
        assert [handle.id for handle in again] == [handle.id for handle in handles]
        await on.all_end(handle.id for handle in handles)
        third = await client.submit_many(double, inputs[:5], batch="b")
        assert await third[0].result(DEADLINE_S) == 20
        fresh = await client.submit_many(double, inputs[:5])
        await on.all_end(handle.id for handle in fresh)
        ids = await times_submitted(on)
        assert len(ids) == len(set(ids)) == 1005
        assert await client.submit_many("double", []) == []


async def test_bad_inputs_and_taken_ids(nats_server: EmbeddedServer) -> None:
    """One bad input, and nothing is sent; an id that is another job's is told; one that was rejected is free."""
    async with place(nats_server) as on, Client(on.bus) as client:
        with pytest.raises(BadEntries) as caught:
            await client.submit_many("double", [{"n": 1}, {"m": 2}, {"n": "x"}, b"{"])
        assert [bad.line for bad in caught.value.bad] == [2, 3, 4]
        with pytest.raises(BadEntries):
            await client.submit_many(double, [{"n": 1}, {"n": "x"}])
        for wrong in ("nobody", "double@7"):
            with pytest.raises(UsageError):
                await client.submit_many(wrong, [{"n": 1}])
        assert not await read_all(on.bus, JOBS, ">")
        await on.bus.append("jobs.default.double", b'{"n":"x"}', headers={h.JOB_ID: "free"})
        await on.end("free")
        (handle,) = await client.submit_many(double, [{"n": 4, "key": "free"}], id_field="key")
        assert handle.id == "free" and await handle.result(DEADLINE_S) == 8
        (same,) = await client.submit_many(double, [{"key": "free", "n": 4}], id_field="key")
        assert await same.result(DEADLINE_S) == 8
        with pytest.raises(BadEntries, match="belongs to another job"):
            await client.submit_many(double, [{"n": 5, "key": "free"}], id_field="key")


async def test_the_server_is_killed_meanwhile(nats_server: EmbeddedServer) -> None:
    """What was under way is sent again, and each job runs once."""
    async with place(nats_server) as on, Client(on.bus) as client:
        inputs = [{"n": 10 + n} for n in range(4 * CHUNK)]
        submitting = asyncio.create_task(client.submit_many(double, inputs, batch="b"))

        async def begun() -> bool:
            return len(await read_all(on.bus, JOBS, "jobs.>")) > 0 or len(await times_submitted(on)) > 0

        await wait_until(begun, DEADLINE_S)
        nats_server.kill()
        await nats_server.restart()
        handles = await submitting
        await on.all_end((handle.id for handle in handles), deadline_s=DEADLINE_S)
        ids = await times_submitted(on)
        assert len(ids) == len(set(ids)) == len(inputs)


# ---- the command


class Cli:
    """``callboard submit`` on one server."""

    def __init__(self, url: str, tmp_path: Path) -> None:
        self.env = environment(url, tmp_path)

    async def __call__(self, *arguments: str, stdin: bytes = b"", **env: str) -> tuple[int, Any, str]:
        """(exit code, what it printed as JSON, standard error)."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "cli", "submit", *arguments, cwd=ROOT, env=self.env | env,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(stdin), DEADLINE_S)
        assert process.returncode is not None
        return process.returncode, json.loads(out) if out.strip() else None, err.decode()


async def test_a_file_from_the_command_line(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Bad lines are listed and stop it, or are left out; results are waited for and counted; a re-run does nothing."""
    async with place(nats_server, hosts=2) as on:
        submit, file = Cli(nats_server.url, tmp_path), tmp_path / "orders.jsonl"
        file.write_text("".join(f'{{"n": {n}}}\n' for n in range(20)) + '{"m": 1}\n{"n": }\n')
        code, said, err = await submit("double", "--from", str(file), "--json")
        assert code == 2 and said["submitted"] == 0 and [bad["line"] for bad in said["bad"]] == [21, 22]
        assert "line 21: " in err and "line 22: " in err and "nothing was submitted: 2 lines of 22" in err
        assert not await times_submitted(on) and not await read_all(on.bus, JOBS, ">")
        code, said, _ = await submit("double", "--from", str(file), "--skip-bad", "--wait")
        assert (code, said["submitted"], said["existing"], len(said["bad"])) == (1, 20, 0, 2)
        assert said["outcomes"] == {"completed": 19, "failed": 1}
        file.write_text("".join(f'{{"n": {n}}}\n' for n in range(100, 120)))
        for submitted in (20, 0):
            code, said, _ = await submit("double", "--from", "-", "--batch", "b", "--wait", stdin=file.read_bytes())
            assert (code, said["submitted"], said["existing"]) == (0, submitted, 20 - submitted)
            assert said["outcomes"] == {"completed": 20}
        lines = b'{"input": {"n": 1}, "id": "env-1", "priority": "high"}\n{"input": {"n": 2}, "delay_s": 3600}\n'
        code, said, err = await submit(
            "double", "--from", "-", "--envelope", "--wait", "--timeout", "3", "--deadline", "2h", stdin=lines
        )
        assert (code, said["submitted"], said["outcomes"]) == (4, 2, {"completed": 1}) and "1 job did not end" in err
        async with Client(on.bus) as client:
            view = await client.get("env-1")
            assert view.priority == "high" and view.deadline_at and len(await client.find_jobs(states=["planned"])) == 1
        code, said, err = await submit("other", "--from", "-", "--envelope", stdin=lines)
        assert code == 1 and said["bad"][0]["line"] == 1 and "line 1: job id 'env-1' belongs to another job" in err


@pytest.mark.parametrize(
    "wrong", [["--from", "/nonexistent"], ["--from", "-", "--job-id", "x"], ["--skip-bad"], ["n:=1", "--from", "-"]]
)
def test_wrong_use(wrong: list[str]) -> None:
    """What cannot be meant is said before anything is asked of a server."""
    assert CliRunner().invoke(cli.app, ["submit", "double", *wrong]).exit_code == 2


async def test_killed_and_run_again(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A run that is killed half-way has submitted a part; run again it submits the rest, and each job runs once."""
    async with place(nats_server) as on:
        submit, file, marker = Cli(nats_server.url, tmp_path), tmp_path / "orders.jsonl", tmp_path / "died"
        number = 10 * CHUNK
        file.write_text("".join(f'{{"n": {10 + n}}}\n' for n in range(number)))
        code, _, _ = await submit("double", "--from", str(file), **{VARIABLE: f"bulk.after_chunk:3:{marker}"})
        assert code == -signal.SIGKILL and marker.exists()
        code, said, _ = await submit("double", "--from", str(file), "--wait")
        assert code == 0 and said["submitted"] + said["existing"] == number and said["existing"] >= 3 * CHUNK
        assert said["outcomes"] == {"completed": number}

        async def no_requests() -> bool:
            return not await read_all(on.bus, JOBS, ">")

        await wait_until(no_requests, DEADLINE_S)
        ids = await times_submitted(on)
        assert len(ids) == len(set(ids)) == number
