"""Tool chart: rows as HTML that stands alone, JSON and PNG, and what is said of rows that cannot be drawn."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import App, ToolContext
from actors.toolbox import Chart
from actors.toolbox.chart import figure
from actors.toolbox.chart.series import Kind, Wrong, records, series_of
from actors.toolbox.sql.table import Column, Table
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.objects import Blobs
from bus.options import resolve_options
from store.artifact import Artifact

NO_BROWSER = "there is no Chrome or Chromium on this machine"
ROWS: list[dict[str, Any]] = [
    {"day": "2026-01-01", "pieces": 3, "shop": "north"},
    {"day": "2026-01-02", "pieces": "4.5", "shop": "north"},
    {"day": "2026-01-02", "pieces": None, "shop": "south"},
]
TABLE = Table(columns=[Column("day", "text"), Column("pieces", "integer"), Column("shop", "text")],
              rows=[list(row.values()) for row in ROWS], row_count=3)  # fmt: skip


def _says(**asked: Any) -> str:
    with pytest.raises(Wrong) as caught:
        series_of(**{"rows": ROWS, "kind": "bar", "x": "day", "y": "pieces", "color": "", **asked})
    return str(caught.value)


@pytest.mark.parametrize("rows", [ROWS, TABLE])
def test_rows_become_series(rows: Any) -> None:
    """Objects and tables are the same; numbers may be text, a colour makes series, nothing is a gap."""
    north, south = series_of(records(rows), "line", "day", "pieces", "shop")
    assert (north.name, north.x, north.y) == ("north", ["2026-01-01", "2026-01-02"], [3, 4.5])
    assert (south.name, south.y) == ("south", [None])
    assert [one.x for one in series_of(records(rows), "histogram", "shop", "", "")] == [["north", "north", "south"]]


def test_what_cannot_be_drawn_is_told() -> None:
    """Each error names the column or the row, and what there is instead."""
    assert _says(x="dya") == "x: there is no column 'dya'; did you mean 'day'? there are day, pieces, shop"
    assert _says(y="zzz") == "y: there is no column 'zzz'; there are day, pieces, shop"
    assert "color: there is no column" in _says(color="size")
    assert "has 'north' in row 1, which is no number" in _says(y="shop")
    assert "needs y" in _says(y="")
    assert "leave y out" in _says(kind="histogram")
    assert "no rows" in _says(rows=[])
    assert "a dict in row 1" in _says(rows=[{"day": {}, "pieces": 1}])
    assert "at most 30 colours" in _says(rows=[{"day": n, "pieces": n} for n in range(31)], color="day")


_names = st.sampled_from("abc")
_values = st.none() | st.integers() | st.floats() | st.text(max_size=5) | st.booleans()


@given(st.lists(st.dictionaries(_names, _values), max_size=6), st.sampled_from(["line", "bar", "scatter", "histogram"]),
       _names, st.sampled_from(["", "a", "b"]), st.sampled_from(["", "c"]))  # fmt: skip
def test_any_rows_are_drawn_or_refused(rows: list[dict[str, Any]], kind: Kind, x: str, y: str, color: str) -> None:
    """Whatever the rows hold, each row is a point of one series, or the call is refused with a reason."""
    try:
        drawn = series_of(rows, kind, x, y, color)
    except Wrong:
        return
    assert sum(len(one.x) for one in drawn) == len(rows)
    assert all(len(one.y) == (len(one.x) if y else 0) for one in drawn)
    json.dumps([[one.x, one.y] for one in drawn], allow_nan=False)


async def test_files_of_a_chart(nats_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The HTML needs no network and runs no text of a row; without a browser the note says what a PNG takes."""
    import choreographer.errors
    import kaleido

    def absent(*_: Any, **__: Any) -> None:
        raise choreographer.errors.ChromeNotFoundError

    monkeypatch.setattr(kaleido, "Kaleido", absent)
    async with await Bus.connect(resolve_options(nats_server.url, env={}), name="test chart") as bus:
        context = ToolContext("w", "j", "c", _blobs=Blobs(bus))
        evil = [{"day": "</script><script>alert(1)</script>", "pieces": 1}]
        app = App("desk")
        chart = app.use(Chart()).tools[0]
        drawn = await chart(context, "bar", TABLE, "day", "pieces", color="shop", title="Pieces: a day/shop")
        again = await chart(context, "bar", ROWS, "day", "pieces", color="shop", title="Pieces: a day/shop")
        bad = await chart(context, "bar", evil, "day", "pieces", title=evil[0]["day"], formats=["html"])
        assert [(f.name, f.media_type) for f in drawn.files] == [
            ("pieces-a-day-shop.html", "text/html"), ("pieces-a-day-shop.json", "application/json")]  # fmt: skip
        assert drawn.files == again.files
        assert (drawn.points, drawn.series) == (3, ["north", "south"])
        assert len(drawn.notes) == 1 and "Chrome or Chromium" in drawn.notes[0]
        page, figured = [(await Blobs(bus).get(file.sha256)).decode() for file in drawn.files]
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=", page) and len(page) > 1_000_000
        assert [trace["y"] for trace in json.loads(figured)["data"]] == [[3, 4.5], [None]]
        assert "<script>alert" not in (await Blobs(bus).get(bad.files[0].sha256)).decode()


async def test_a_png_of_a_real_browser() -> None:
    """With a browser on the machine the picture is a PNG of the asked size."""
    from choreographer.browsers.chromium import Chromium

    if not Chromium.find_browser(skip_local=True):
        pytest.skip(NO_BROWSER)
    kit, kept = Chart(width_px=320, height_px=200), dict[str, bytes]()

    class Keeping(ToolContext):
        async def artifact(self, name: str, data: bytes, media_type: str = "") -> Artifact:
            kept[name] = data
            return await super().artifact(name, data, media_type)

    drawn = await kit.draw(Keeping("w", "j", "c"), "line", ROWS, "day", "pieces", title="Pieces", formats=["png"])
    assert [file.media_type for file in drawn.files] == ["image/png"] and not drawn.notes
    picture = kept["pieces.png"]
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert (int.from_bytes(picture[16:20]), int.from_bytes(picture[20:24])) == (320, 200)


async def test_limits_and_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many rows are refused, so are wrong settings; a missing package is named with its extra."""
    with pytest.raises(Wrong, match="2 at most; aggregate"):
        await Chart(row_limit=2).draw(ToolContext("w", "j", "c"), "bar", ROWS, "day", "pieces")
    with pytest.raises(UsageError, match="width_px"):
        Chart(width_px=0)
    monkeypatch.setitem(__import__("sys").modules, "kaleido", None)
    with pytest.raises(figure.NoPicture, match=r"callboard\[chart\]"):
        await figure.png_of(None, 1, 1)
    monkeypatch.setitem(__import__("sys").modules, "plotly", None)
    with pytest.raises(UsageError, match=r"callboard\[chart\]"):
        await Chart().draw(ToolContext("w", "j", "c"), "bar", ROWS, "day", "pieces")
