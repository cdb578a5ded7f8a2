"""Reference pages: what they say, that they are the same each time, and how they are kept on a disk."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors import App, Breaker, Retry
from actors.components.component import ComponentInfo
from actors.reference.book import INDEX, book
from actors.reference.entry import MARK, Library, Workflow
from actors.reference.folder import Differences, compare, write
from actors.reference.markdown import cell, code, table
from actors.reference.schema_table import schema_lines
from actors.workflow.document import Document
from actors.workflow.outline import outline
from bus.errors import UsageError
from tests.documents import documents
from tests.test_cli import Shell

ORDER = {
    "name": "order", "version": "1.2.0", "description": "Quote, ask, ship.\n\nFor <b>all</b>.", "category": "shop",
    "labels": {"team": "sales"},
    "input": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string", "description": "a|b"}}},
    "params": {"limit": {"schema": {"type": "number"}, "default": 100, "description": "Ask above it."}, "who": {}},
    "steps": [
        {"id": "quote", "kind": "tool", "run": "quote@1", "timeout_s": 90, "retry": {"attempts": 4}},
        {"id": "ask", "kind": "approval", "title": "?", "needs": ["quote"], "when": "1 > 2 || true", "roles": ["boss"]},
        {"id": "how", "kind": "switch", "needs": ["ask"], "cases": [{"when": "true", "steps": [
            {"id": "ship", "kind": "job", "run": "send", "compensate": {"tool": "unship"}}]}]},
    ],
    "result": {"total": "${ steps.quote.output }"},
}  # fmt: skip


def workflow(**changes: Any) -> Workflow:
    """The order, changed."""
    return Workflow(msgspec.convert({**ORDER, **changes}, Document))


def infos() -> list[ComponentInfo]:
    """An app's components."""
    app = App("shop", version="1.3.0")

    @app.tool(retry=Retry(attempts=2, backoff_s=1.5, on=(OSError,)), breaker=Breaker(slow_s=2), timeout_s=4)
    async def quote(sku: str, qty: int = 1) -> float:
        """Ask for a price.

        Args:
            sku: What is sold.
            qty: How many.
        """
        return qty * len(sku)

    return [component.info() for component in app.components]


# ---- pages


def test_the_page_of_a_workflow() -> None:
    """All that its document says is there, and links lead to the pages of what it runs."""
    library = Library([workflow(), workflow(version="1.1.9"), workflow(name="send")], infos())
    page = book(library)["workflows/order.md"]
    assert page.startswith(f"{MARK}\n\n# Workflow order\n\nQuote, ask, ship.\n\nFor &lt;b>all&lt;/b>.\n\n| | |\n")
    for line in (
        "| version | `1.2.0` |",
        "| other versions | `1.1.9` |",
        "| labels | `team=sales` |",
        "| `sku` | string | yes | a\\|b |",
        "| `limit` | number | | `100` | Ask above it. |",
        "| `who` | anything | yes | | |",
        '  s_quote["quote: tool quote@1"]',
        "| `quote` | tool [`quote@1`](../components/tool-quote.md) | | | 90 s at most; 4 attempts |",
        "| `ask` | approval of `boss` | `quote` | `1 > 2 \\|\\| true` | |",
        "| `how` (`true`) / `ship` | job [`send`](../workflows/send.md) | | | undone by `unship` |",
        "result: {total: '${ steps.quote.output }'}",
    ):
        assert f"\n{line}\n" in page


def test_the_page_of_a_component() -> None:
    """What it takes and gives, its policies, and who runs it."""
    page = book(Library([workflow()], infos()))["components/tool-quote.md"]
    for line in (
        "# Tool quote", "Used by [`order`](../workflows/order.md).", "## shop.quote 1.3.0", "Ask for a price.",
        "| `sku` | string | yes | | What is sold. |", "| `qty` | integer | | `1` | How many. |", "number.",
        "| time limit | 4 s |", "| retry | 2 attempts, waits from 1.5 s, times 2, up to 60 s, on `OSError` |",
        ("| circuit breaker | opens when 50% of 20 calls or more within 30 s fail, or 100% take longer than 2 s; stays "
         "open for 5 s, up to 30 s; callers wait meanwhile |"),
    ):  # fmt: skip
        assert f"\n{line}\n" in page


def test_the_index_has_everything() -> None:
    """Each page but itself is linked from the index; a published workflow is not listed as a job once more."""
    job = msgspec.structs.replace(infos()[0], kind="job", name="order", version="1.2.0")
    pages = book(
        Library([Workflow(workflow().document, deprecated="use send"), workflow(name="send")], [*infos(), job])
    )
    assert set(re.findall(r"\]\(([^)]+)\)", pages[INDEX])) == pages.keys() - {INDEX}
    assert "| [`order`](workflows/order.md) | 1.2.0 | shop | Deprecated. Quote, ask, ship. |\n" in pages[INDEX]
    assert "| deprecated | use send |" in pages["workflows/order.md"]
    assert book(Library([], [])) == {INDEX: f"{MARK}\n\n# Workflows and components\n"}


def test_schemas_of_fields_in_fields() -> None:
    """Objects in objects and in lists have their rows; what holds itself ends; what has no fields is a sentence."""
    point = {"type": "object", "properties": {"x": {"type": "number", "minimum": 0}, "next": {"$ref": "#/$defs/P"}}}
    schema = {
        "type": "object",
        "properties": {"at": {"type": "array", "items": {"$ref": "#/$defs/P"}}},
        "$defs": {"P": point},
    }
    assert list(schema_lines(schema)) == [
        "| field | type |", "| --- | --- |", "| `at` | list of P {x, next} |", "| `at[].x` | number, ≥ `0` |",
        "| `at[].next` | P {x, next} |",
    ]  # fmt: skip
    assert list(schema_lines({})) == ["Anything."]
    assert list(schema_lines({"type": "string", "description": "A word."})) == ["string.", "", "A word."]


@settings(deadline=60_000, max_examples=25)
@given(documents())
def test_pages_are_the_same_each_time_and_have_every_step(value: dict[str, Any]) -> None:
    """Two runs write the same bytes, whatever the order in which things were found; each step has its row."""
    document = msgspec.convert(value, Document)
    there = [Workflow(document), workflow()]
    pages = book(Library(there, infos()))
    assert pages == book(Library(there[::-1], infos()[::-1]))
    rows = re.findall(r"^\| (?:.* / )?`(\w+)` \|", pages["workflows/made.md"].partition("## Steps")[2], re.MULTILINE)
    assert rows == [entry.step.id for entry in outline(document).entries]


@given(st.lists(st.lists(st.text("a`|\\ \n<b>", max_size=12), min_size=2, max_size=2), min_size=1, max_size=4))
def test_cells_stay_cells(texts: list[list[str]]) -> None:
    """Whatever texts hold, each row of a table has as many borders as its head."""
    for make in (cell, code):
        lines = list(table(["one", "two"], [[make(text) for text in row] for row in texts]))
        borders = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in lines}
        assert len(lines) == len(texts) + 2 and len(borders) == 1


# ---- on a disk


def test_a_folder_is_brought_up_to_date(tmp_path: Path) -> None:
    """New, changed and stale pages are told and seen to; files of others are left alone, or in the way."""
    pages = book(Library([workflow()], infos()))
    first = compare(tmp_path, pages)
    assert first == Differences(missing=("components/tool-quote.md", INDEX, "workflows/order.md"))
    write(tmp_path, pages, first)
    assert not compare(tmp_path, pages)
    (tmp_path / "workflows" / "mine.md").write_text("# By hand\n")
    fewer = book(Library([workflow(version="1.3.0")], []))
    second = compare(tmp_path, fewer)
    assert second == Differences(changed=(INDEX, "workflows/order.md"), stale=("components/tool-quote.md",))
    write(tmp_path, fewer, second)
    assert not compare(tmp_path, fewer) and (tmp_path / "workflows" / "mine.md").exists()
    (tmp_path / INDEX).write_text("# By hand\n")
    with pytest.raises(UsageError, match="was not written by this command"):
        compare(tmp_path, fewer)


def test_the_command(tmp_path: Path) -> None:
    """Pages of files and an app need no server; --check says what is out of date, by its exit code too."""
    shell = Shell("nats://127.0.0.1:9", tmp_path)
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "order.json").write_text(json.dumps(ORDER))
    (tmp_path / "flows" / ".hidden.json").write_text("{")
    out = tmp_path / "pages"
    command = ("workflow", "docs", str(tmp_path / "flows"), "--app", "examples.shop:app", "--out", str(out))
    code_, text, _ = shell(*command, "--check")
    assert code_ == 1 and f"{out}/workflows/order.md is missing\n" in text and not out.exists()
    assert shell.json(*command, "--json")["written"] is True
    assert shell(*command, "--check") == (0, f"5 pages in {out}, all up to date\n", "")
    assert "Used by [`order`]" in (out / "components" / "tool-quote.md").read_text()
    (tmp_path / "flows" / "order.json").write_text(json.dumps({**ORDER, "steps": []}))
    code_, text, err = shell(*command)
    assert (code_, text) == (1, "") and "order.json:1:" in err
    assert shell("workflow", "docs", "--out", str(out))[0] == 3
    assert shell("workflow", "docs", str(tmp_path / "none"), "--out", str(out))[0] == 2
