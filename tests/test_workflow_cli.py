"""``callboard workflow`` as a user sees it: output, exit codes, with and without a server."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from actors import App
from actors.components.registry import Registry
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.options import ConnectOptions
from bus.streams import ensure_streams
from tests.test_cli import ROOT, Shell

GOOD = """\
name: order
version: 1.0.0
steps:
  - {id: quote, kind: tool, run: flow_quote@1, with: {sku: A1}}
  - {id: ship, kind: tool, run: flow_quote, with: {sku: '${ steps.quote.output }'}, needs: [quote], when: 'now != null'}
"""
BAD = GOOD.replace("needs: [quote]", "needs: [quot]")


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell with no server to be reached."""
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "bad.yaml").write_text(BAD)
    return Shell("nats://127.0.0.1:9", tmp_path)


def test_a_valid_document_needs_no_server(shell: Shell, tmp_path: Path) -> None:
    """Offline nothing is connected to; all is well is exit code 0, and as JSON an empty list."""
    file = str(tmp_path / "good.yaml")
    assert shell("workflow", "validate", "--offline", file) == (0, "1 file checked, all is well\n", "")
    assert shell.json("workflow", "validate", "--offline", "--json", file) == []


def test_findings_are_exit_code_1(shell: Shell, tmp_path: Path) -> None:
    """Each finding has its place in a form that editors link, and the same facts as JSON."""
    good, bad = str(tmp_path / "good.yaml"), str(tmp_path / "bad.yaml")
    code, out, _ = shell("workflow", "validate", "--offline", good, bad)
    assert code == 1
    assert f"{bad}:5:93: there is no step 'quot' [unknown_step]\n" in out
    assert "      at $.steps[1].needs[0]\n      -> did you mean 'quote'?\n" in out
    assert out.endswith("2 files checked, 2 findings\n")
    code, out, _ = shell("workflow", "validate", "--offline", "--json", good, bad)
    found = {finding["code"]: finding for finding in json.loads(out)}
    assert code == 1 and found.keys() == {"unknown_step", "not_before"}
    assert found["unknown_step"] == {
        "file": bad, "line": 5, "column": 93, "path": "$.steps[1].needs[0]", "code": "unknown_step",
        "message": "there is no step 'quot'", "hint": "did you mean 'quote'?",
    }  # fmt: skip


def test_a_folder_is_checked_as_a_whole(shell: Shell, tmp_path: Path) -> None:
    """All documents in it, but not the schema that editors use."""
    (tmp_path / "workflow.schema.json").write_text("{}")
    code, out, _ = shell("workflow", "validate", "--offline", str(tmp_path))
    assert code == 1 and "bad.yaml:5:93" in out and out.endswith("2 files checked, 2 findings\n")


def test_wrong_use_and_no_server(shell: Shell, tmp_path: Path) -> None:
    """A file that is not there is exit code 2, a server that is not there exit code 3."""
    code, _, err = shell("workflow", "validate", "--offline", str(tmp_path / "none.yaml"))
    assert code == 2 and "none.yaml cannot be read: no such file" in err
    (tmp_path / "empty").mkdir()
    code, _, err = shell("workflow", "validate", "--offline", str(tmp_path / "empty"))
    assert code == 2 and "holds no document" in err
    assert shell("workflow", "validate")[0] == 2
    assert shell("workflow", "validate", str(tmp_path / "good.yaml"))[0] == 3


def test_the_schema_is_printed(shell: Shell) -> None:
    """What editors use is one JSON Schema."""
    schema = shell.json("workflow", "schema")
    assert schema["$schema"].endswith("2020-12/schema")
    assert {"ToolStep", "ParallelStep"} <= schema["$defs"].keys()
    version = schema["$defs"]["Document"]["properties"]["version"]["pattern"]
    assert re.search(version, "1.2.0-rc.1") and not re.search(version, "1.0")


def test_pictures(shell: Shell, tmp_path: Path) -> None:
    """A valid document is drawn in each format; one with faults is not, and the faults are told."""
    good, bad = str(tmp_path / "good.yaml"), str(tmp_path / "bad.yaml")
    code, out, _ = shell("workflow", "graph", good)
    assert (code, out.splitlines()) == (0, [
        "flowchart TD",
        '  s_quote["quote: tool flow_quote@1"]',
        '  s_ship["ship: tool flow_quote"]',
        '  s_quote -->|"now != null"| s_ship',
    ])  # fmt: skip
    code, out, _ = shell("workflow", "graph", good, "--format", "dot")
    assert code == 0 and '  "quote" -> "ship" [label="now != null"]\n' in out
    code, out, _ = shell("workflow", "graph", good, "--format", "svg")
    assert code == 0 and out.startswith("<svg ") and out.endswith("</svg>\n") and "now != null" in out
    code, out, err = shell("workflow", "graph", bad)
    assert (code, out) == (1, "") and "[unknown_step]" in err
    assert shell("workflow", "graph", good, "--format", "png")[0] == 2


def test_pictures_of_jobs(shell: Shell, tmp_path: Path) -> None:
    """A snapshot is drawn without a server, as of any sequence; what is no document and no job is told."""
    file = str(ROOT / "tests" / "histories" / "shop-approved.json")
    code, out, _ = shell("workflow", "graph", file)
    assert code == 0 and 'title: "order 1.2.0, job shop-approved"' in out and "quote:1: tool<br/>completed" in out
    code, out, _ = shell("workflow", "graph", file, "--at", "3", "--format", "svg")
    assert code == 0 and "running" in out and "ship:1" not in out
    code, _, err = shell("workflow", "graph", str(tmp_path / "good.yaml"), "--at", "3")
    assert code == 2 and "has no sequences" in err
    assert shell("workflow", "graph", "none.yaml")[0] == 2
    assert shell("workflow", "graph", "some-job")[0] == 3


EXTENDING = """\
extends: {file: good.yaml}
version: 1.1.0
declare: {speed: {schema: {type: integer}}}
override: {ship: {with: {speed: '${ params.speed }'}, when: null}}
"""


def test_what_extends_another_is_shown_as_one(shell: Shell, tmp_path: Path) -> None:
    """The merged document is valid input, which is shown as the same text; graph and validate understand it too."""
    (tmp_path / "ext.yaml").write_text(EXTENDING)
    file = str(tmp_path / "ext.yaml")
    code, merged, err = shell("workflow", "show", "--merged", file, "--param", "speed:=3")
    assert (code, err) == (0, "")
    assert "speed: '${ params.speed }'" in merged and "default: 3" in merged and "extends" not in merged
    (tmp_path / "again.yaml").write_text(merged)
    assert shell("workflow", "show", "--merged", str(tmp_path / "again.yaml")) == (0, merged, "")
    code, as_json, _ = shell("workflow", "show", "--merged", file, "--param", "speed:=3", "--format", "json")
    (tmp_path / "again.json").write_text(as_json)
    assert shell("workflow", "show", str(tmp_path / "again.json"), "--format", "json") == (0, as_json, "")
    assert json.loads(as_json)["version"] == "1.1.0"
    assert "extends: {file: good.yaml}\n" in shell("workflow", "show", file)[1]
    assert 's_ship["ship: tool flow_quote"]' in shell("workflow", "graph", file)[1]
    assert shell("workflow", "validate", "--offline", file)[0] == 0
    code, out, _ = shell("workflow", "validate", "--offline", "--final", file)
    assert code == 1 and f"{file}:3:11: the parameter 'speed' has no value [missing_param]" in out
    code, out, _ = shell("workflow", "validate", "--offline", "--final", file, "--param", "speed=fast")
    assert code == 1 and f"{file}:3:11: 'fast' is not of type 'integer' [bad_default]" in out
    (tmp_path / "good.yaml").unlink()
    code, out, err = shell("workflow", "show", "--merged", file)
    assert (code, out) == (1, "") and "good.yaml cannot be read: no such file or directory [unknown_base]" in err


async def test_online_the_registry_is_asked(server: EmbeddedServer, shell: Shell, tmp_path: Path) -> None:
    """With a server the components of the system count: those that there are, and what they take."""
    file, url = str(tmp_path / "good.yaml"), server.url

    async def flow_quote(sku: str) -> str:
        return ""

    async with await Bus.connect(ConnectOptions(servers=[url]), timeout_s=10) as bus:
        await ensure_streams(bus)
        code, out, _ = shell("workflow", "validate", "--nats", url, file)
        assert code == 1 and out.count("[unknown_component]") == 2
        await Registry(bus).register(App("flow", version="1.0.0").tool(flow_quote).info())
    assert shell("workflow", "validate", "--nats", url, file)[0] == 0
    (tmp_path / "typo.yaml").write_text(GOOD.replace("{sku: A1}", "{sku: 1}").replace("flow_quote,", "flow_qoute,"))
    code, out, _ = shell("workflow", "validate", "--nats", url, str(tmp_path / "typo.yaml"))
    assert code == 1
    assert "1 is not of type 'string' [bad_input]" in out and "did you mean 'flow_quote'?" in out


def test_the_hook_runs_a_command_that_there_is(shell: Shell, tmp_path: Path) -> None:
    """What pre-commit runs is what is installed, and it takes the names of files."""
    import yaml

    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    assert hook["id"] == "callboard-validate"
    command, *arguments = hook["entry"].split()
    assert command in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert [shell(*arguments, str(tmp_path / name))[0] for name in ("good.yaml", "bad.yaml")] == [0, 1]
