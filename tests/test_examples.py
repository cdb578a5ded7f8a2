"""The examples run as they are: real processes, real server, from the request to the result."""

from __future__ import annotations

import ast
from pathlib import Path

import msgspec
import pytest

from actors import Client
from actors.clients.outcome import JobFailedError
from bus.approval_events import ApprovalAsked
from bus.embedded import EmbeddedServer
from bus.errors import BusUnreachable, UsageError
from bus.messages import ReplyRetrying
from examples import approval, scheduled, shop, survey
from tests.stage import stage
from tests.waiting import wait_until

SURVEY, SHOP = "examples.survey:app", "examples.shop:app"


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A small directory with one of everything."""
    root = tmp_path / "code"
    files = {
        "a.py": "import os\nimport json.decoder\n\ndef short():\n    pass\n",
        "b.py": "from os import path\nfrom . import a\n\nclass B:\n  async def long(self):\n    x = 1\n    return x\n",
        "deep/c.py": "import os, sys\n",
        "broken.py": "def (:\n",
        "null.py": "x = 1\0\n",
        "latin.py": "x = 'é'\n",
        "notes.txt": "no code",
        "tests/test_a.py": "import a\n",
        ".hidden/d.py": "import os\n",
        "env/pyvenv.cfg": "",
        "env/e.py": "import os\n",
        "site-packages/f.py": "import os\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode("latin-1"))
    return root


async def test_survey_of_a_directory(nats_server: EmbeddedServer, tmp_path: Path, sources: Path) -> None:
    """Every source of the reader's own code is in the report once, tests too; what cannot be parsed is listed."""
    async with stage(nats_server.url, tmp_path, SURVEY) as s, Client.connect(bus=s.bus) as client:
        handle = await client.submit(survey.survey, path=str(sources), batch=2)
        report = await handle.result(30)
        events = await s.events(handle.id)
    assert isinstance(report, survey.Report)
    assert (report.files, report.functions, report.classes, report.unparsable) == (7, 2, 1, 3)
    assert report.lines == 5 + 7 + 1 + 1 + 1 + 1 + 1
    assert report.size_bytes == sum(
        (sources / name).stat().st_size for name in
        ("a.py", "b.py", "deep/c.py", "broken.py", "null.py", "latin.py", "tests/test_a.py")
    )  # fmt: skip
    assert report.longest_functions[0] == survey.LongFunction("long", 3, "b.py", 5)
    assert report.most_imported[0] == survey.ImportedModule("os", 3)
    assert [found.file for found in report.unparsable_files] == ["broken.py", "latin.py", "null.py"]
    calls = [r.event.call for r in events if r.event.kind.startswith("call.tool.parse_files")]
    assert len(calls) == len(set(calls)) == 4


async def test_survey_of_nothing(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """An empty directory gives an empty report, one that is not there fails the job, and a file is surveyed alone."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "one.py").write_text("import os\n")
    async with stage(nats_server.url, tmp_path, SURVEY) as s, Client.connect(bus=s.bus) as client:
        empty = await (await client.submit(survey.survey, path=str(tmp_path / "empty"))).result(30)
        one = await (await client.submit(survey.survey, path=str(tmp_path / "one.py"))).result(30)
        with pytest.raises(JobFailedError, match="there is no directory /nowhere"):
            await (await client.submit(survey.survey, path="/nowhere")).result(30)
    assert (empty.files, empty.lines, empty.longest_functions) == (0, 0, [])
    assert (one.files, one.path, one.largest_files[0].file) == (1, str(tmp_path.resolve()), "one.py")


def test_survey_takes_the_standard_library() -> None:
    """Without a path it is Python's own library, without its tests and what was installed beside it."""
    found = survey.find_sources.fn()
    files = [file for batch in found.batches for file in batch]
    assert len(files) == len(set(files)) > 100
    assert "ast.py" in files
    assert Path(ast.__file__).resolve().parent == Path(found.root)
    assert not [file for file in files if {"test", "tests", "site-packages"} & set(Path(file).parts)]


def test_parts_add_up_in_any_order(sources: Path) -> None:
    """The report does not depend on how files are put into batches."""
    files = [str(file.relative_to(sources)) for file in survey.walk(sources, set())]
    singles = [survey._survey_file(sources, file) for file in files]
    assert survey.merge(singles) == survey.merge([survey.merge(singles[:3]), survey.merge(singles[3:])])
    assert survey.merge(singles) == survey.merge(reversed(singles))


async def test_order(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """An order goes through, one with a moody supplier is tried again, and an unknown article fails with its code."""
    async with stage(nats_server.url, tmp_path, SHOP) as s, Client.connect(bus=s.bus) as client:
        receipt = await (await client.submit(shop.order, sku="A1", qty=2)).result(30)
        flaky = await client.submit(shop.order, sku="FLAKY")
        assert (await flaky.result(30)).total == 5.0
        retries = [r.event for r in await s.events(flaky.id) if isinstance(r.event, ReplyRetrying)]
        with pytest.raises(JobFailedError, match="nobody sells 'Z9'") as failed:
            await (await client.submit(shop.order, sku="Z9")).result(30)
    assert isinstance(receipt, shop.Receipt) and receipt.total == 39.0
    assert [event.attempt for event in retries] == [1, 2]
    assert failed.value.failure.code == "unknown_sku"


@pytest.mark.parametrize(("data", "end"), [(None, "job.completed"), (False, "job.failed")])
async def test_big_order_waits_for_a_word(
    nats_server: EmbeddedServer, tmp_path: Path, data: bool | None, end: str
) -> None:
    """A big order waits until it is approved or refused."""
    async with stage(nats_server.url, tmp_path, SHOP) as s, Client.connect(bus=s.bus) as client:
        handle = await client.submit(shop.order, sku="B2", qty=10)

        async def is_quoted() -> bool:
            return any(r.event.kind == "reply.completed" for r in await s.events(handle.id))

        await wait_until(is_quoted, 30)
        await handle.signal("approve", data)
        ended = await s.end(handle.id)
    assert ended.kind == end
    if end == "job.completed":
        assert msgspec.json.decode(ended.output, type=shop.Receipt).total == 1200.0


async def test_schedules(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Planned twice, everything is there once; a run by hand gives its report, under the schedule's name."""
    choice = {"gateway": True}
    async with (
        stage(nats_server.url, tmp_path, "examples.scheduled:app", **choice) as s,
        Client.connect(bus=s.bus) as client,
    ):

        async def is_planned() -> bool:
            try:
                await scheduled.plan(client)
                return (await client.get("reminder")).state == "planned"
            except (BusUnreachable, UsageError):  # gateway and host are just starting
                return False

        await wait_until(is_planned, 30)
        await scheduled.plan(client)
        assert [view.name for view in await client.schedules.list()] == ["check", "daily-report"]
        assert len(await client.find_jobs(states=["planned"])) == 1
        job = await client.schedules.run("daily-report", by="ann")
        found = await client.result(job, timeout_s=30)
    assert found == {"region": "north", "orders": 5, "run": job} and job.startswith("daily-report-")


async def test_refund_is_approved_with_an_edit(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A small refund is paid at once; another one waits for the support, which may lower it."""
    async with stage(nats_server.url, tmp_path, "examples.approval:app") as s, Client.connect(bus=s.bus) as client:
        small = await (await client.submit(approval.refund, order="B-2", amount=50.0)).result(30)
        handle = await client.submit(approval.refund, order="A-17", amount=120.0)

        async def has_asked() -> bool:
            return any(isinstance(r.event, ApprovalAsked) for r in await s.events(handle.id))

        await wait_until(has_asked, 30)
        await client.approve(handle.id, by="ann", roles=["support"], comment="opened", edit={"amount": 100})
        assert await handle.result(30) == approval.Refund("A-17", 100.0, "ann", "opened")
    assert small == approval.Refund("B-2", 15.0)
