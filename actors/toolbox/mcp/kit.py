"""The kit ``Mcp``: the tools of an MCP server as tools of an app.

app.use(Mcp(["npx", "-y", "@modelcontextprotocol/server-filesystem", "/data"], name="files"))
app.use(Mcp(url="https://mcp.example.com/mcp", name="crm", headers_from_env={"Authorization": "Bearer $CRM_TOKEN"}))
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from actors.components.component import DEFAULT_CONCURRENCY, DEFAULT_TOOL_TIMEOUT_S, Options
from actors.toolbox.kit import Kit
from actors.toolbox.mcp.connection import ServerAway
from actors.toolbox.mcp.listing import ListedTool, listing_of
from actors.toolbox.mcp.mcp_tool import mcp_tool
from actors.toolbox.mcp.session import McpSession
from actors.toolbox.mcp.target import McpTarget
from bus.errors import UsageError
from bus.subjects import NAME_LIMIT_CHARS
from supervisor.breaker import Breaker
from supervisor.retry import Retry

if TYPE_CHECKING:
    from actors.components.app import App
    from actors.components.component import Component

START_TIMEOUT_S = 30.0
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]+")


class Mcp(Kit):
    """The tools of one MCP server, each a tool actor ``<name>_<tool>`` with the server's schema.

    ``command`` is started for each of the tools' processes, or ``url`` speaks streamable HTTP. ``only`` these of its
    tools. ``env`` names the variables that the command gets (a mapping: its name for each of ours); beside them it gets
    PATH, HOME and the like, and nothing else. ``headers_from_env`` maps headers to a variable, or to a text with
    ``$VARIABLE`` in it. ``read_only``: which of its tools change nothing (True: none of them does); what the server
    says of that is not believed. ``start_timeout_s`` is how long the server may take until it answers. The others are
    as for ``app.tool``. Raises: UsageError for settings that cannot be.
    """

    def __init__(
        self,
        command: Sequence[str] = (),
        *,
        url: str = "",
        name: str = "",
        only: Iterable[str] = (),
        env: Iterable[str] | Mapping[str, str] = (),
        headers_from_env: Mapping[str, str] | None = None,
        read_only: Iterable[str] | bool = False,
        cwd: str = "",
        start_timeout_s: float = START_TIMEOUT_S,
        timeout_s: float = DEFAULT_TOOL_TIMEOUT_S,
        concurrency: int = DEFAULT_CONCURRENCY,
        retry: Retry | None = None,
        breaker: Breaker | None = Breaker(),  # noqa: B008 - immutable, as in App.tool
    ) -> None:
        super().__init__()
        if any(isinstance(each, str) for each in (command, only, env, read_only)):
            raise UsageError("Mcp takes lists of texts, not one text", code="bad_setting", path="command",
                             hint='Mcp(["npx", "server"], only=["read"], env=["TOKEN"])')  # fmt: skip
        variables = dict(env) if isinstance(env, Mapping) else {each: each for each in env}
        self.target = McpTarget(command=tuple(command), url=url, cwd=cwd, env=variables,
                                headers=dict(headers_from_env or {}))  # fmt: skip
        self.target.check()
        self.name = name
        self.only = tuple(only)
        self.read_only = read_only if isinstance(read_only, bool) else tuple(read_only)
        self.start_timeout_s = start_timeout_s
        self._options: dict[str, Any] = {
            "timeout_s": timeout_s, "concurrency": concurrency, "retry": retry or Retry(), "breaker": breaker,
        }  # fmt: skip

    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """Ask the server for its tools (or take what it said before) and declare them.

        Raises: UsageError for settings that cannot be, ServerAway if the server does not start.
        """
        try:
            listing = listing_of(self.target, start_timeout_s=self.start_timeout_s)
        except (ServerAway, UsageError) as error:
            raise error.with_traceback(None) from None  # its place is where the app says Mcp
        session = McpSession(self.target, start_timeout_s=self.start_timeout_s)
        return tuple(app.add(self._tool(app, listed, session)) for listed in self._chosen(listing.tools))

    def _tool(self, app: App, listed: ListedTool, session: McpSession) -> Component[..., Any]:
        reads = self.read_only if isinstance(self.read_only, bool) else listed.name in self.read_only
        options = Options(
            name=self._name_of(listed.name), description=listed.description, read_only=reads, **self._options
        )
        return mcp_tool(listed, session, app=app.name, app_version=app.version, options=options)

    def _name_of(self, tool: str) -> str:
        """The prefix and the tool's own name, with ``_`` where that has what no name of ours may have."""
        own = _NOT_IN_NAMES.sub("_", tool)
        return (f"{self.name}_{own}" if self.name else own)[:NAME_LIMIT_CHARS]

    def _chosen(self, tools: Sequence[ListedTool]) -> list[ListedTool]:
        known = [tool.name for tool in tools]
        vouched = () if isinstance(self.read_only, bool) else self.read_only
        for path, name in [*(("only", each) for each in self.only), *(("read_only", each) for each in vouched)]:
            if name not in known:
                near = get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known) or 'none'}"
                raise UsageError(f"the MCP server {self.target.label} has no tool {name!r}", code="unknown_tool",
                                 path=path, hint=hint)  # fmt: skip
        return [tool for tool in tools if not self.only or tool.name in self.only]
