"""No SDK at first contact: the stock ``nats`` CLI submits jobs, follows events and looks around.

One server and one node, started as a user would, serve all tests of this file.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bus.embedded import EmbeddedServer
from bus.paths import DATA_DIR_VARIABLE
from tests.natscli import NatsCli, find_nats_cli
from tests.stage import ROOT
from tests.waiting import wait_until

SUBMIT = "api.default.jobs.submit"
SERVICES = {"order", "quote", "ship", "write_mail", "callboard-api"}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the node, its log and the CLI's home are."""
    return tmp_path_factory.mktemp("nats-cli")


@pytest.fixture(scope="module")
def url(scratch: Path) -> Iterator[str]:
    """A server with a node of the shop."""
    find_nats_cli()
    server = asyncio.run(EmbeddedServer.start())
    argv = (sys.executable, "-m", "cli", "node", "examples.shop:app", "--name", "n1", "--nats", server.url)
    env = {**os.environ, DATA_DIR_VARIABLE: str(scratch)}
    with (scratch / "node.log").open("wb") as log:
        node = subprocess.Popen(argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield server.url
    finally:
        node.terminate()
        try:
            node.wait(30)
        finally:
            node.kill()
            node.wait()
            asyncio.run(server.stop())


@pytest.fixture
async def nats(url: str, scratch: Path) -> NatsCli:
    """The CLI, once the node's services are there."""
    cli = NatsCli(find_nats_cli(), url, scratch)

    def is_ready() -> bool:
        _, services = cli.attempt("micro", "ls", "--json")  # an error as long as there is none
        return set(re.findall(r'"name":\s*"([\w.-]+)"', services)) >= SERVICES

    await wait_until(is_ready, 30, what=lambda: (scratch / "node.log").read_text())
    return cli


async def test_pub_starts_a_job_and_sub_shows_it(nats: NatsCli, tmp_path: Path) -> None:
    """A bare publish on the documented subject is a job, and its events are seen live from the first to the last."""
    with nats.subscribe("events.default.>", tmp_path / "sub") as events:
        nats.run("pub", "jobs.default.order", '{"sku": "A1", "qty": 2}')
        job = await wait_until(lambda: _submitted(events.text), 30, what=lambda: events.text)
        await wait_until(lambda: f"{job}.job.completed" in events.text, 30, what=lambda: events.text)
    kinds = re.findall(rf'on "events\.default\.{job}\.([\w.-]+)"', events.text)
    assert kinds[0] == "job.submitted" and kinds[-1] == "job.completed"
    assert {"job.owned", "call.tool.quote.v1", "call.tool.ship.v1", "reply.completed"} <= set(kinds)
    assert '"total":39.0' in events.text


def _submitted(shown: str) -> str:
    """The job of the first event that holds this input."""
    before, found, _ = shown.partition('"qty": 2}')
    return re.findall(r"events\.default\.([\w-]+)\.job\.submitted", before)[-1] if found else ""


async def test_sub_to_failures(nats: NatsCli, tmp_path: Path) -> None:
    """One subscription shows the failed jobs of all workspaces and nothing else, with the reason."""
    with nats.subscribe("events.*.*.job.failed", tmp_path / "sub") as events:
        nats.run("pub", "jobs.default.order", '{"sku": "A1"}')
        nats.run("pub", "jobs.default.order", '{"sku": "Z9"}')
        await wait_until(lambda: "unknown_sku" in events.text, 30, what=lambda: events.text)
    assert "nobody sells 'Z9'" in events.text
    assert "job.completed" not in events.text


async def test_pub_of_bad_input(nats: NatsCli, tmp_path: Path) -> None:
    """A bare publish of nonsense leaves a rejection that says what is wrong and where."""
    with nats.subscribe("events.*.*.job.rejected", tmp_path / "sub") as events:
        nats.run("pub", "jobs.default.order", '{"sku": "A1", "qty": "two"}')
        await wait_until(lambda: "qty" in events.text, 30, what=lambda: events.text)
        nats.run("pub", "jobs.default.order", "no json")
        await wait_until(lambda: "JSON" in events.text, 30, what=lambda: events.text)
        nats.run("pub", "jobs.default.oder", '{"sku": "A1"}')
        await wait_until(lambda: "did you mean" in events.text, 30, what=lambda: events.text)


async def test_stream_view_and_get(nats: NatsCli) -> None:
    """The stored log can be paged through, and read message by message, as plain JSON."""
    nats.run("pub", "jobs.default.order", '{"sku": "A1"}')

    def view() -> str:
        return nats.run_in_terminal("stream", "view", "EVENTS", "25", "--subject", "log.default.*.job.submitted")

    await wait_until(lambda: '"workflow":"order"' in view(), 30, what=view)
    first = nats.json("stream", "get", "EVENTS", "1", "--json")
    assert first["subject"].startswith("log._system.n1.node.started")
    assert "EVENTS" in nats.run("stream", "ls")


async def test_request_answers_with_the_job(nats: NatsCli, tmp_path: Path) -> None:
    """A request to the gateway answers with the job's id, under which its events are seen and its state is told."""
    body = '{"workflow": "order", "input": {"sku": "A1", "qty": 1}}'
    with nats.subscribe("events.default.>", tmp_path / "sub") as events:
        answer = nats.run("req", SUBMIT, body)
        found = re.search(r'"job(?:_id)?":\s*"(\w+)"', answer)
        assert found, answer
        await wait_until(
            lambda: f"events.default.{found[1]}.job.completed" in events.text, 30, what=lambda: events.text
        )
    view = nats.run("req", "api.default.jobs.get", f'{{"job": "{found[1]}"}}')
    assert '"state":"completed"' in view


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ('{"workflow": "oder", "input": {}}', "did you mean"),
        ('{"workflow": "order", "input": {"sku": "A1", "qty": "two"}}', "qty"),
        ('{"workflow": "order", "input": {"qty": 2}}', "sku"),
        ('{"workflow": "order", "input": {"sku": "A1", "colour": 1}}', "colour"),
        ("no json", "JSON"),
    ],
)
async def test_request_answers_with_the_error(nats: NatsCli, body: str, told: str) -> None:
    """What is wrong with a request is in the answer, with its place."""
    answer = nats.run("req", SUBMIT, body)
    assert told in answer
    assert "Nats-Service-Error" in answer


async def test_micro(nats: NatsCli) -> None:
    """Every component is a micro service, with its schema in its metadata and statistics of its calls."""
    info = nats.run("micro", "info", "quote")
    assert "tool.quote.v1.call" in info and "input_schema" in info
    assert "quote" in nats.run("micro", "stats", "quote")
    assert '"total":19.5' in nats.run("req", "tool.quote.v1.call", '{"sku": "A1"}')


async def test_kv_and_consumers(nats: NatsCli) -> None:
    """The registry is a plain bucket, and the backlog is seen for each workflow and priority."""
    assert "quote" in nats.run("kv", "ls", "registry")
    consumers = nats.run("consumer", "ls", "JOBS")
    assert {"job-order-high", "job-order-normal", "job-order-low"} <= set(re.findall(r"job-order-\w+", consumers))
