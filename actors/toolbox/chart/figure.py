"""Series as a figure of plotly, and the figure as HTML that stands alone, as JSON and as PNG."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from actors.toolbox.chart.series import Kind, Series
from bus.errors import UsageError

log = logging.getLogger("callboard.chart")

PNG_S = 45.0
_NEEDS_BROWSER = (
    "no PNG: it needs Chrome or Chromium on the machine that serves the tool (or BROWSER_PATH); the HTML shows the same"
)
_NEEDS_EXTRA = "no PNG: it needs pip install 'callboard[chart]', and Chrome or Chromium on the machine"


class NoPicture(Exception):
    """There is nothing here that makes a PNG; the message says what it takes."""


def figure_of(
    series: Sequence[Series], kind: Kind, *, x: str, y: str, color: str, title: str, width_px: int, height_px: int
) -> Any:
    """The figure. Raises: UsageError if plotly is not installed."""
    try:
        from plotly import graph_objects as go
    except ImportError as error:
        raise UsageError("Chart needs the package plotly", code="missing_extra",
                         hint="pip install 'callboard[chart]'") from error  # fmt: skip
    figure = go.Figure(data=[_trace(go, one, kind) for one in series])
    figure.update_layout(
        title={"text": title}, width=width_px, height=height_px, template="plotly_white",
        xaxis={"title": {"text": x}}, yaxis={"title": {"text": y or "count"}}, legend={"title": {"text": color}},
        showlegend=bool(color), barmode="stack" if kind == "histogram" else "group",
    )  # fmt: skip
    return figure


def _trace(go: Any, series: Series, kind: Kind) -> Any:
    match kind:
        case "histogram":
            return go.Histogram(x=series.x, name=series.name)
        case "bar":
            return go.Bar(x=series.x, y=series.y, name=series.name)
        case "line":
            return go.Scatter(x=series.x, y=series.y, name=series.name, mode="lines+markers")
        case "scatter":
            return go.Scatter(x=series.x, y=series.y, name=series.name, mode="markers")


def html_of(figure: Any, title: str) -> bytes:
    """A page with plotly.js in it, so that it opens without a network."""
    # The div has a fixed id: the same rows give the same bytes, which are stored once.
    page: str = figure.to_html(include_plotlyjs=True, full_html=True, div_id="chart", include_mathjax=False)
    return page.replace("<head>", f"<head><title>{_escaped(title or 'Chart')}</title>", 1).encode()


def _escaped(text: str) -> str:
    from html import escape

    return escape(text)


def json_of(figure: Any) -> bytes:
    """The figure as plotly writes it: ``data`` and ``layout``."""
    text: str = figure.to_json()
    return text.encode()


async def png_of(figure: Any, width_px: int, height_px: int) -> bytes:
    """The picture, drawn by a browser that reads nothing from the network. Raises: NoPicture."""
    try:
        import kaleido
        from choreographer.errors import ChromeNotFoundError
    except ImportError:
        raise NoPicture(_NEEDS_EXTRA) from None
    options = {"format": "png", "width": width_px, "height": height_px, "scale": 1}
    try:
        async with asyncio.timeout(PNG_S), kaleido.Kaleido(n=1, mathjax=False, timeout=PNG_S) as browser:
            picture: bytes = await browser.calc_fig(figure.to_dict(), opts=options)
            return picture
    except ChromeNotFoundError:
        raise NoPicture(_NEEDS_BROWSER) from None
    except Exception as error:
        log.warning("no PNG: %s: %s", type(error).__name__, error)
        raise NoPicture(f"no PNG: the browser failed ({type(error).__name__}); the HTML shows the same") from error
