"""Files that describe agents: what they say, all that is wrong with one at once, and the roles that come with us."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from actors import App, Budget, RequireApproval, Role
from actors.model.scripted import ScriptedModel, say
from actors.roles.front_matter import front_matter_schema
from actors.roles.plan import Plan
from actors.roles.role_file import read_role
from actors.roles.shelf import shipped_names
from actors.roles.work import Work
from actors.toolbox import Sql
from bus.errors import UsageError
from cli import app as cli_app

CLERK = """---
name: clerk
description: Answers questions about the stock.
model: anthropic:claude-sonnet-5
tools: [stock, sql, mail.send@2, chart?]
approve:
  - stock
  - {tool: send, when: input.pieces > 100, roles: [buyer]}
budget: {usd: 0.5, turns: 12, on_overrun: ask}
turns: 8
read_only: true
temperature: 0
---

You answer questions.
"""
BROKEN = """---
name: my clerk
modle: x
model: klaude:3
tools:
  - stock
  - stock
  - 3
  - stok
budget:
  usd: -1
  dollars: 3
turns: 0
approve:
  - tool: stock
    when: "input.x >"
    who: me
output: words
---
"""


def lines(text: str, known: set[str] | None = None) -> list[str]:
    """Line and code of each finding."""
    return [f"{found.line} {found.code}" for found in read_role("a.md", text.encode(), known).findings]


def test_a_file_says_what_a_decorator_would() -> None:
    """Settings and instructions come as they are written, with the defaults of agents."""
    role = read_role("clerk.md", CLERK.encode(), {"stock", "sql"}).role
    assert role is not None
    assert (role.name, role.turns, role.mendings, role.read_only) == ("clerk", 8, 3, True)
    assert role.budget == Budget(usd=0.5, turns=12, on_overrun="ask")
    assert role.approve[1] == RequireApproval(tool="send", when="input.pieces > 100", roles=("buyer",))
    assert role.instructions == "You answer questions."
    assert read_role("clerk.md", CLERK.replace("\n", "\r\n").encode()).role == role


def test_all_that_is_wrong_is_found_at_once_with_its_line() -> None:
    """A fault hides no other one: neither in the same field nor in the same list."""
    assert lines(BROKEN, {"stock"}) == [
        "2 bad_name", "3 unknown_field", "4 unknown_provider", "7 duplicate_tool", "8 bad_value", "9 unknown_tool",
        "11 bad_budget", "12 unknown_field", "13 bad_value", "16 bad_expression", "17 unknown_field", "18 bad_value",
        "20 no_instructions",
    ]  # fmt: skip
    hints = {found.path: found.hint for found in read_role("a.md", BROKEN.encode(), {"stock"}).findings}
    assert hints["$.modle"] == "did you mean 'model'?"
    assert hints["$.tools[3]"] == "did you mean 'stock'?"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ["1 no_front_matter"]),
        ("# A clerk\n", ["1 no_front_matter"]),
        ("---\nname: a\n", ["1 no_front_matter"]),
        ("---\nname: [\n---\nx", ["3 syntax"]),
        ("---\nname: a\nname: b\n---\nx", ["3 duplicate_key"]),
        ("---\n- a\n---\nx", ["2 no_front_matter"]),
        ("---\nmodel: anthropic:x\n---\nx", ["2 missing_field"]),
        ("---\nname: a\ntools: sql\n---\nx", ["3 bad_value"]),
        ("---\nname: a\ntools: [m.b@2]\napprove: [m.b@2, {tool: m.b}]\n---\nx", ["4 unknown_tool", "4 unknown_tool"]),
        ("---\nname: a\ntools: ['a b@x']\n---\nx", ["3 bad_ref"]),
    ],
)
def test_what_is_no_agent_file_says_where(text: str, found: list[str]) -> None:
    """Files that cannot be read at all have one finding, with a line that is in the file."""
    assert lines(text) == found


@given(st.text(alphabet="-:[]{}'\"\n ab#|>&*!%@`0,", max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever stands in a file, the reader gives a role or findings."""
    reading = read_role("a.md", f"---\nname: a\n{text}\n---\nx".encode())
    assert (reading.role is None) == bool(reading.findings)


def test_what_is_no_utf_8_says_where() -> None:
    """The line of the byte that is wrong."""
    (found,) = read_role("a.md", b"---\nname: a\n---\n\xff").findings
    assert (found.line, found.code) == (4, "syntax")


def test_roles_that_come_with_us_are_right() -> None:
    """Each reads, fits the schema that editors use, and becomes an agent of an app with the tools that it needs."""
    assert shipped_names() == ["analyst", "coder", "planner", "researcher", "reviewer", "writer"]
    app = App("desk")
    app.use(Sql("sqlite:///a.db"))
    for name in shipped_names():
        agent = app.role(name, tools=["python"]) if name == "coder" else app.role(name)
        assert agent.name == name
        assert agent.description
        assert agent.settings.model == "anthropic:claude-sonnet-5"
    analyst = app.find("agent", "analyst")
    assert analyst is not None
    assert analyst.agent is not None
    assert analyst.agent.tools == ("desk.sql@0", "desk.sql_schema@0")
    assert analyst.signature.returns is Work
    planner = app.find("agent", "planner")
    assert planner is not None
    assert planner.signature.returns is Plan


def test_the_app_says_what_the_file_does_not(tmp_path: Path) -> None:
    """Keywords outweigh the file; tools are found in the app; what is wrong with a file is one error with all of it."""
    app, script = App("desk"), ScriptedModel([say("hi")])

    @app.tool
    def stock(sku: str) -> int:
        """How many there are."""
        return len(sku)

    file = tmp_path / "clerk.md"
    file.write_text("---\nname: clerk\ntools: [stock, mail.send@2, chart?]\n---\nAnswer.\n")
    clerk = app.agent_file(file, model=script, turns=3, description="At the desk.")
    assert clerk.settings.turns == 3
    assert clerk.settings.tools == (stock, "mail.send@2")
    assert (clerk.description, clerk.settings.instructions) == ("At the desk.", "Answer.")
    assert sorted(clerk.input_schema["properties"]) == ["context", "task"]
    other = app.role(Role.load(file), name="counter", model="scripted:a:b", tools=[], output=dict[str, int])
    assert other.signature.returns == dict[str, int]
    with pytest.raises(UsageError, match="names no model"):
        app.role(Role.load(file), name="third")
    file.write_text("---\nname: clerk\ntools: [nothing]\nturns: 0\n---\nAnswer.\n")
    with pytest.raises(UsageError, match=r"(?s):3:9: .*no tool 'nothing'.*:4:1: "):
        app.agent_file(file, model=script)
    with pytest.raises(UsageError, match="cannot read"):
        app.agent_file("nowhere.md", model=script)
    with pytest.raises(UsageError, match="the app has no tool 'sql'"):
        app.role("analyst", model=script)


def test_commands(tmp_path: Path) -> None:
    """Roles are listed, printed and copied; files are checked with exit code 1 for findings; editors get a schema."""
    runner = CliRunner()
    assert [row["name"] for row in json.loads(runner.invoke(cli_app, ["roles", "list", "--json"]).stdout)] == (
        shipped_names()
    )
    assert "planner" in runner.invoke(cli_app, ["roles", "list"]).stdout
    assert runner.invoke(cli_app, ["roles", "show", "coder"]).stdout.startswith("---\nname: coder\n")
    assert json.loads(runner.invoke(cli_app, ["roles", "show", "coder", "--json"]).stdout)["name"] == "coder"
    folder = tmp_path / "roles"
    assert runner.invoke(cli_app, ["roles", "copy", "--to", str(folder), "analyst"]).exit_code == 0
    assert Role.load(folder / "analyst.md") == Role.shipped("analyst")
    assert runner.invoke(cli_app, ["roles", "copy", "--to", str(folder)]).exit_code == 2
    assert runner.invoke(cli_app, ["roles", "copy", "--to", str(folder), "--force"]).exit_code == 0
    files = [str(file) for file in sorted(folder.glob("*.md"))]
    assert len(files) == len(shipped_names())
    assert runner.invoke(cli_app, ["agent", "validate", *files]).exit_code == 0
    (tmp_path / "bad.md").write_text(BROKEN)
    done = runner.invoke(cli_app, ["agent", "validate", str(tmp_path / "bad.md"), "--json"])
    assert (done.exit_code, len(json.loads(done.stdout))) == (1, 12)
    done = runner.invoke(cli_app, ["agent", "validate", str(tmp_path / "bad.md"), "--app", "examples.shop:app"])
    assert (done.exit_code, "there is no tool" in done.stdout or "no tool 'stok'" in done.stdout) == (1, True)
    assert json.loads(runner.invoke(cli_app, ["agent", "schema"]).stdout) == json.loads(
        msgspec.json.encode(front_matter_schema())
    )
