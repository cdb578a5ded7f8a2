"""Tools that are ready to use; each is a kit that an app takes in: ``sql = app.use(Sql("sqlite:///figures.db"))``.

Names are loaded when they are first used: a process pays only for the tool that it serves.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.toolbox.chart.kit import Chart as Chart
    from actors.toolbox.files.kit import Files as Files
    from actors.toolbox.kit import Kit as Kit
    from actors.toolbox.mcp.kit import Mcp as Mcp
    from actors.toolbox.python.kit import Python as Python
    from actors.toolbox.shell.kit import Shell as Shell
    from actors.toolbox.sql.kit import Sql as Sql
    from actors.toolbox.web.fetch import Fetch as Fetch
    from actors.toolbox.web.github import GitHub as GitHub
    from actors.toolbox.web.http_request import Http as Http
    from actors.toolbox.web.web_search import WebSearch as WebSearch

_HOMES = {
    "Chart": "actors.toolbox.chart.kit",
    "GitHub": "actors.toolbox.web.github",
    "WebSearch": "actors.toolbox.web.web_search",
    "Http": "actors.toolbox.web.http_request",
    "Fetch": "actors.toolbox.web.fetch",
    "Files": "actors.toolbox.files.kit",
    "Kit": "actors.toolbox.kit",
    "Mcp": "actors.toolbox.mcp.kit",
    "Python": "actors.toolbox.python.kit",
    "Shell": "actors.toolbox.shell.kit",
    "Sql": "actors.toolbox.sql.kit",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list of literals, kept in one place


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'actors.toolbox' has no attribute {name!r}")
