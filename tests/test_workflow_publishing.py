"""Publishing as people do it: by the command line, by the Python client, by a request to a gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

import cli
from actors import App, Client, ToolContext
from actors.components.registry import Registry
from actors.gateway.gateway import Gateway
from actors.gateway.sweep import Sweep
from actors.workflow.document import Document
from actors.workflow.source import Source, read_source
from actors.workflow.writing import plain
from actors.workflow_versions.batch import read_batch
from actors.workflow_versions.publishing import judge
from bus import subjects
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import CallTool, Event, JobSubmitted
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.service import ask
from bus.streams import ensure_streams
from store.log import append_unfenced
from tests.test_cli import environment

ORDER = """\
name: pub-order
version: 1.0.0
description: Quote and ship.
category: shop
labels: {team: sales}
input: {type: object, required: [sku], properties: {sku: {type: string}}}
params: {limit: {schema: {type: integer}, default: 3}}
steps:
  - {id: quote, kind: tool, run: pub_quote, with: {sku: '${ input.sku }'}}
"""
CIRCLE = """\
name: pub-circle
version: 1.0.0
steps:
  - {id: again, kind: job, run: pub-circle, when: "now == now"}
"""
PARENT = """\
name: pub-parent
version: 1.0.0
steps:
  - {id: child, kind: job, run: pub-order, with: {sku: A1}}
"""


class Shell:
    """Commands in this process: importing the command line for each would take most of the time."""

    def __init__(self, server: EmbeddedServer, folder: Path) -> None:
        self.folder = folder
        self.url = server.url
        self._env = environment(server.url, folder)

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        """(exit code, standard output, standard error)."""
        done = CliRunner().invoke(cli.app, ["workflow", *arguments], env=self._env, catch_exceptions=False)
        return done.exit_code, done.stdout, done.stderr

    def json(self, *arguments: str, code: int = 0) -> Any:
        """What a command prints as JSON."""
        exit_code, out, err = self(*arguments, "--json")
        assert exit_code == code, err
        return json.loads(out)

    def write(self, name: str, text: str) -> str:
        """A file."""
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return str(file)


async def _registered(url: str) -> None:
    app = App("pub", version="1.0.0")

    @app.tool
    async def pub_quote(ctx: ToolContext, sku: str) -> int:
        """A price."""
        return len(sku)

    async with await Bus.connect(ConnectOptions(servers=[url])) as bus:
        await ensure_streams(bus)
        await Registry(bus).register(pub_quote.info())


@pytest.fixture
def shell(nats_server: EmbeddedServer, tmp_path: Path) -> Shell:
    """A server with one tool."""
    asyncio.run(_registered(nats_server.url))
    return Shell(nats_server, tmp_path)


@pytest.fixture
async def client(nats_server: EmbeddedServer) -> AsyncIterator[Client]:
    """A client of the same server."""
    await _registered(nats_server.url)
    async with Client.connect(nats_server.url) as opened:
        yield opened


def test_a_folder_is_published_as_a_whole_or_not_at_all(shell: Shell) -> None:
    """All findings of all files at once and nothing published; then all of it, with what refers to each other; again
    nothing is new.
    """
    shell.write("all/b.yaml", PARENT.replace("pub-order", "pub-ordr"))
    shell.write("all/deep/a.yaml", ORDER.replace("pub_quote", "pub_qoute"))
    shell.write("all/workflow.schema.json", "{}")
    shell.write("all/.hidden.yaml", "no")
    folder = str(shell.folder / "all")
    found = shell.json("publish", folder, code=1)
    assert {finding["code"] for finding in found["findings"]} == {"unknown_component"}
    assert len(found["findings"]) == 2 and found["published"] == []
    code, out, err = shell("publish", folder)
    assert code == 1 and out == "" and "did you mean 'pub_quote'?" in err and err.endswith("nothing was published\n")
    assert shell.json("list") == []
    shell.write("all/b.yaml", PARENT)
    shell.write("all/deep/a.yaml", ORDER)
    dry = shell.json("publish", folder, "--dry-run", "--param", "limit:=7")
    assert [(each["name"], each["existing"]) for each in dry["published"]] == [
        ("pub-parent", False), ("pub-order", False)
    ]  # fmt: skip
    assert shell.json("list") == []
    assert shell.json("publish", folder, "--param", "limit:=7") == {**dry, "dry_run": False}
    again = shell.json("publish", folder, "--param", "limit:=7")["published"]
    assert [each["existing"] for each in again] == [True, True]
    assert "default: 7" in shell("show", "pub-order")[1]
    listed = {each["name"]: each for each in shell.json("list", "--category", "shop", "--label", "team=sales")}
    assert listed.keys() == {"pub-order"} and listed["pub-order"]["newest"]
    assert "pub-order  1.0.0" in " ".join(shell("list")[1].split("\n")).replace("   ", "  ")


def test_documents_are_checked_with_each_other_and_shown_over_published_ones(shell: Shell) -> None:
    """One that runs itself, one that runs another of the same go, and one that extends a published one."""
    shell.write("some/loop.yaml", CIRCLE)
    shell.write("some/user.yaml", CIRCLE.replace("name: pub-circle", "name: pub-user"))
    assert shell("validate", str(shell.folder / "some")) == (0, "2 files checked, all is well\n", "")
    file = shell.write("some/loop.yaml", CIRCLE)
    assert shell("publish", str(file))[0] == 0
    heir = shell.write("heir.yaml", "extends: pub-circle@1.0.0\nname: pub-heir2\nversion: 1.0.0\n")
    code, out, _ = shell("show", "--merged", str(heir))
    assert code == 0 and "run: pub-circle" in out and "name: pub-heir2" in out


async def _appended(url: str, *events: Event) -> None:
    async with await Bus.connect(ConnectOptions(servers=[url])) as bus:
        for event in events:
            await append_unfenced(bus, Blobs(bus), "default", event)


def test_a_job_of_a_published_workflow_is_drawn(shell: Shell) -> None:
    """By its steps in the version that it has; one whose log does not fit is drawn from that alone, with a word why."""
    shell.json("publish", shell.write("p.yaml", ORDER.replace("pub-order", "pub-drawn")))
    begun = JobSubmitted(job="", workflow="pub-drawn", version="1.0.0", input=msgspec.Raw(b'{"sku":"A1"}'))
    called = CallTool(job="", call="quote/pub_quote:1", name="pub_quote", version=1, input=begun.input)
    for job, call in (("pub-fits", called.call), ("pub-differs", "other:1")):
        events = [msgspec.structs.replace(begun, job=job), msgspec.structs.replace(called, job=job, call=call)]
        asyncio.run(_appended(shell.url, *events))
    code, out, err = shell("graph", "pub-fits")
    assert (code, err) == (0, "") and 's_quote["quote: tool pub_quote<br/>running' in out
    code, out, err = shell("graph", "pub-differs")
    assert code == 0 and "other:1: tool<br/>running" in out and "drawn from its log alone" in err


def test_versions(shell: Shell) -> None:
    """What breaks, and what becomes of a version: publish, diff, deprecate, show, search, export, import."""
    text = ORDER.replace("pub-order", "pub-v")
    first = shell.write("v.yaml", text)
    shell.json("publish", first)
    # the same version with another content
    code, _, err = shell("publish", shell.write("v.yaml", text.replace("Quote", "Ask")))
    assert code == 1 and "is published with another content: $.description" in err and "version 1.0.1" in err
    # a break under a minor version
    broken = shell.write("v.yaml", text.replace("[sku]", "[sku, qty]").replace("1.0.0", "1.1.0"))
    code, _, err = shell("publish", broken)
    assert code == 1 and "$.input.qty is required now" in err and "2.0.0, or publish it by force" in err
    changed = shell.json("diff", "pub-v", broken, code=1)
    assert not changed["compatible"] and changed["changes"][0]["path"] == "$.input.qty"
    assert "1 of 1 change breaks who uses it" in shell("diff", "pub-v", broken)[1]
    assert shell.json("diff", broken, "pub-v@1.0.0")["compatible"]
    assert shell.json("publish", broken, "--force")["published"][0]["changes"][0]["breaking"]
    # deprecated
    assert shell.json("deprecate", "pub-v@1.1.0", "--message", "use 1.0", "--on", "2999-01-31")["deprecated"]["on"]
    assert [each["version"] for each in shell.json("list", "--category", "shop") if each["name"] == "pub-v"] == [
        "1.0.0"
    ]
    assert [each["version"] for each in shell.json("list", "--deprecated")] == ["1.1.0"]
    code, out, err = shell("show", "pub-v@1.1.0")
    assert code == 0 and out.startswith("name: pub-v\nversion: 1.1.0\n") and "2999-01-31: use 1.0" in err
    assert shell.json("show", "pub-v@1.1.0")["deprecated"]["message"] == "use 1.0"
    assert [each["version"] for each in shell.json("search", "quote", "pub-v", "--all-versions")] == ["1.1.0", "1.0.0"]
    assert shell("search", "nothing", "like", "it")[0] == 1
    assert shell.json("deprecate", "pub-v@1.1.0", "--undo")["deprecated"] is None
    # out, and in again
    files = shell.json("export", "pub-v", str(shell.folder / "out"))
    assert [Path(each["file"]).name for each in files] == ["pub-v-1.1.0.yaml", "pub-v-1.0.0.yaml"]
    again = shell.json("import", str(shell.folder / "out"))["published"]
    assert [each["existing"] for each in again] == [True, True]
    shell.json("publish", shell.write("other.yaml", ORDER))
    everything = shell.json("export", "--format", "json", str(shell.folder / "every"))
    assert sorted(each["name"] for each in everything) == ["pub-order", "pub-v", "pub-v"]
    # as reference pages
    pages = shell.json("docs", "--out", str(shell.folder / "pages"))["pages"]
    assert {"workflows/pub-v.md", "components/tool-pub_quote.md"} <= set(pages)
    assert "components/job-pub-v.md" not in pages
    page = (shell.folder / "pages" / "workflows" / "pub-v.md").read_text()
    assert "| version | `1.1.0` |\n| other versions | `1.0.0` |\n" in page
    assert shell("docs", "--out", str(shell.folder / "pages"), "--check")[0] == 0


def test_wrong_use(shell: Shell) -> None:
    """What is not there or cannot be is exit code 2, with what would be right."""
    (empty := shell.folder / "empty").mkdir()
    for arguments, says in (
        (("show", "pub-nobody"), "no workflow pub-nobody is published"),
        (("show", "a b"), "holds ' '"),
        (("deprecate", "pub-order"), "which version of pub-order?"),
        (("deprecate", "pub-order@1.0.0", "--on", "soon"), "such as 2027-01-31"),
        (("publish", str(shell.folder / "none")), "cannot be read: no such file"),
        (("publish", str(empty)), "holds no document"),
        (("publish", shell.write("o.yaml", ORDER), "--param", "limt=1"), "did you mean 'limit'?"),
        (("list", "--label", "team"), "cannot read the label"),
        (("diff", "x.yaml", "y.yaml"), "x.yaml cannot be read"),
        (("export", "pub-nobody", str(shell.folder / "x")), "no workflow pub-nobody"),
    ):  # fmt: skip
        code, _, err = shell(*arguments)
        assert code == 2 and says in err, (arguments, err)


async def test_the_client(client: Client, tmp_path: Path) -> None:
    """Publish a file, values or a document; get, list, deprecate; all findings are in one error."""
    workflows = client.workflows
    file = tmp_path / "order.yaml"
    file.write_text(ORDER.replace("pub-order", "pub-client"))
    assert not (await workflows.publish(file, params={"limit": 9}, by="ann")).existing
    found = await workflows.get("pub-client")
    document = found.read()
    assert (found.by, document.params["limit"].default) == ("ann", 9)
    assert (await workflows.publish(document)).existing
    values = {**plain(document), "version": "1.1.0", "steps": [{"id": "a"}, {"id": "a"}]}
    with pytest.raises(UsageError, match="3 findings") as caught:
        await workflows.publish(values)
    assert caught.value.code == "bad_workflow"
    with pytest.raises(UsageError) as caught:
        await workflows.publish(msgspec.structs.replace(document, description="Other."))
    assert caught.value.code == "version_taken"
    await workflows.deprecate("pub-client", "1.0.0", "no more", date(2999, 1, 1))
    (listed,) = await workflows.list("pub-client")
    assert listed.deprecated is not None and listed.deprecated.on == date(2999, 1, 1)
    await workflows.undeprecate("pub-client", "1.0.0")
    heir = {"extends": "pub-client@1.0.0", "name": "pub-heir", "params": {"limit": 1}, "description": "Another."}
    await workflows.publish(heir)
    assert (await workflows.get("pub-heir")).read().params["limit"].default == 1
    with pytest.raises(UsageError, match="no workflow pub-client@8") as caught:
        await workflows.publish({**heir, "extends": "pub-client@8.0.0"})
    assert caught.value.code == "unknown_base"
    with pytest.raises(UsageError, match="no workflow pub-client@2"):
        await workflows.get("pub-client", "2.0.0")


async def test_the_services(client: Client) -> None:
    """``api.<workspace>.workflows.*``: the same, as any NATS client may ask for it."""
    bus = client.bus
    registry = Registry(bus)
    await registry.start()
    gateway = Gateway(bus, registry, sweep=NoSweep(bus, Blobs(bus), registry))
    await gateway.start()

    async def call(verb: str, **body: Any) -> Any:
        return json.loads(await ask(bus, subjects.api("any", "workflows", verb), json.dumps(body).encode()))

    try:
        text = ORDER.replace("pub-order", "pub-api")
        done = await call("publish", text=text, by="nats", params={"limit": 4})
        assert (done["name"], done["existing"]) == ("pub-api", False)
        value = (await call("get", name="pub-api"))["document"]
        assert value["params"]["limit"]["default"] == 4
        assert (await call("publish", document=value))["existing"]
        listed = await call("list", text="pub-api", labels={"team": "sales"})
        assert listed["total"] == 1 and listed["workflows"][0]["by"] == "nats"
        marked = await call("deprecate", name="pub-api", version="1.0.0", message="old", on="2999-01-01")
        assert marked["deprecated"] == {"message": "old", "on": "2999-01-01"} and "document" not in marked
        assert (await call("deprecate", name="pub-api", version="1.0.0", undo=True))["deprecated"] is None
        for verb, body, code in (
            ("publish", {}, "bad_request"),
            ("publish", {"text": text.replace("Quote", "Ask")}, "version_taken"),
            ("publish", {"text": text.replace("pub_quote", "nobody")}, "unknown_component"),
            ("get", {"name": "pub-nobody"}, "unknown_workflow"),
            ("list", {"txt": "a"}, "bad_request"),
        ):
            with pytest.raises(UsageError) as caught:
                await call(verb, **body)
            assert caught.value.code == code, verb
    finally:
        await gateway.stop()
        await registry.stop()


class NoSweep(Sweep):
    """The server is shared: requests of other tests are not to be swept."""

    def start(self) -> None:
        pass


# ---- pure


def _judge(document: Document, beside: Any) -> Any:
    return judge(document, [], beside, limit_bytes=1_000_000)


def _source(name: str, text: str) -> Source:
    return read_source(name, text.encode())


def test_a_batch_is_judged_together() -> None:
    """One version twice in it, a break between two versions in it, and parameters that nobody has."""
    plain = "name: b\nversion: 1.0.0\nsteps:\n  - {id: a, kind: wait, signal: go}\n"
    same = read_batch([_source("1", plain), _source("2", plain)], [], {}, _judge)
    assert not same.findings and len(same.ready) == 1
    other = read_batch([_source("1", plain), _source("2", plain + "category: x\n")], [], {}, _judge)
    assert [(found.file, found.line, found.code) for found in other.findings] == [("2", 2, "duplicate_version")]
    late = plain.replace("1.0.0", "1.1.0") + "input: {required: [x]}\n"
    broken = read_batch([_source("2", late), _source("1", plain)], [], {}, _judge)
    assert [(found.file, found.code) for found in broken.findings] == [("2", "breaking_change")]
    with pytest.raises(UsageError, match="no document has the parameter 'x'"):
        read_batch([_source("1", plain)], [], {"x": 1}, _judge)
    needy = read_batch([_source("1", plain + "params: {who: {}}\n")], [], {}, _judge)
    assert [(found.line, found.code) for found in needy.findings] == [(5, "missing_param")]
