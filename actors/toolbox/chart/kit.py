"""``Chart``: the kit of tool ``chart``."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from actors.toolbox.chart.figure import NoPicture, figure_of, html_of, json_of, png_of
from actors.toolbox.chart.series import Kind, Rows, Wrong, records, series_of
from actors.toolbox.kit import Kit
from actors.tools.tool_context import ToolContext
from bus.errors import UsageError
from bus.subjects import check_name
from store.artifact import Artifact

if TYPE_CHECKING:
    from actors.components.app import App
    from actors.components.component import Component

Format = Literal["html", "json", "png"]

ALL_FORMATS: tuple[Format, ...] = ("html", "json", "png")
TIMEOUT_S = 90.0
NAME_CHARS = 60


class Drawn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was drawn: ``files`` in the formats that were asked for, and ``notes`` on what is missing and why."""

    title: str
    files: list[Artifact]
    points: int
    series: list[str] = []
    notes: list[str] = []


class Chart(Kit):
    """A tool that draws rows: ``chart(kind, rows, x, y, color, title, formats)``.

    ``row_limit`` is how many points one chart may have. ``width_px`` and ``height_px`` are its size.
    Raises: UsageError for settings that cannot be.
    """

    def __init__(
        self, *, name: str = "chart", width_px: int = 900, height_px: int = 540, row_limit: int = 20_000
    ) -> None:
        super().__init__()
        self.name = check_name(name, "name of the tool")
        self.width_px = width_px
        self.height_px = height_px
        self.row_limit = row_limit
        for setting, value in (("width_px", width_px), ("height_px", height_px), ("row_limit", row_limit)):
            if not 1 <= value <= 1_000_000:
                raise UsageError(f"{setting} of Chart is {value}", code="bad_kit", path=setting, hint="1 to 1,000,000")

    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """Declare the tool."""

        # A picture takes a browser of its own for a moment: two at once are enough for one process.
        @app.tool(name=self.name, timeout_s=TIMEOUT_S, concurrency=2, read_only=True)
        async def chart(
            ctx: ToolContext, kind: Kind, rows: Rows, x: str, y: str = "", color: str = "", title: str = "",
            formats: list[Format] | None = None,
        ) -> Drawn:  # fmt: skip
            """Draw rows as a line, bar or scatter chart, or as a histogram, and keep it as files.

            Args:
                kind: line, bar, scatter or histogram.
                rows: A list of objects, one for each point, or the table that an SQL tool returned, as it is.
                x: The column along the bottom; of a histogram the column whose values are counted.
                y: The column of numbers. Leave it out for a histogram.
                color: A column whose values become series of their own.
                title: What people read above the chart.
                formats: Which files: html, json, png. All of them if left out.
            """
            return await self.draw(ctx, kind, rows, x, y, color=color, title=title, formats=formats)

        return (chart,)

    async def draw(
        self, ctx: ToolContext, kind: Kind, rows: Rows, x: str, y: str = "", *, color: str = "", title: str = "",
        formats: list[Format] | None = None,
    ) -> Drawn:  # fmt: skip
        """Draw and keep. Raises: TerminalError that says which column is missing or wrong; UsageError, BusError."""
        given = records(rows)
        if len(given) > self.row_limit:
            raise Wrong(
                f"{len(given):,} rows are too many for a chart, {self.row_limit:,} at most; aggregate them first"
            )
        series = series_of(given, kind, x, y, color)
        figure = await asyncio.to_thread(
            figure_of, series, kind, x=x, y=y, color=color, title=title, width_px=self.width_px,
            height_px=self.height_px,
        )  # fmt: skip
        made, notes = await self._files(figure, title, list(dict.fromkeys(formats or ALL_FORMATS)))
        stem = _stem(title or f"{kind} {y or x}")
        files = [await ctx.artifact(f"{stem}.{ending}", data) for ending, data in made.items()]
        names = [one.name for one in series if one.name]
        return Drawn(title=title, files=files, points=len(given), series=names, notes=notes)

    async def _files(self, figure: Any, title: str, formats: list[Format]) -> tuple[dict[str, bytes], list[str]]:
        made: dict[str, bytes] = {}
        notes: list[str] = []
        for wanted in formats:
            match wanted:
                case "html":
                    made[wanted] = await asyncio.to_thread(html_of, figure, title)
                case "json":
                    made[wanted] = await asyncio.to_thread(json_of, figure)
                case "png":
                    try:
                        made[wanted] = await png_of(figure, self.width_px, self.height_px)
                    except NoPicture as error:
                        notes.append(str(error))
        return made, notes


def _stem(title: str) -> str:
    """Pure: a title as the name of a file."""
    return re.sub(r"[^\w]+", "-", title.lower()).strip("-_")[:NAME_CHARS].strip("-_") or "chart"
