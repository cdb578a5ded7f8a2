"""The session that a tool's process keeps with its MCP server: opened by the first call, and anew when it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol

from actors.toolbox.mcp.connection import ServerAway, connected
from actors.toolbox.mcp.content import text_of
from actors.toolbox.mcp.target import McpTarget
from bus.errors import CallboardError
from bus.failure import RetryableError, TerminalError

if TYPE_CHECKING:
    from mcp import Client

log = logging.getLogger("callboard.mcp")


class OnProgress(Protocol):
    """Hears how far a call is; the names are the SDK's."""

    async def __call__(self, progress: float, total: float | None, message: str | None) -> None: ...


# What the SDK says of a session that the server does not know any more, after a restart.
_FORGOTTEN = "Session terminated"
_AWAY_S = 1.0


class McpServerError(CallboardError):
    """The server answered with an error of the protocol that says neither that it lasts nor that it passes."""


class McpSession:
    """Calls of many tasks share one session. It belongs to the event loop of the first call."""

    def __init__(self, target: McpTarget, *, start_timeout_s: float) -> None:
        self._target = target
        self._start_timeout_s = start_timeout_s
        self._link: _Link | None = None

    async def call(self, tool: str, arguments: dict[str, Any], on_progress: OnProgress) -> Any:
        """The tool's answer, an SDK ``CallToolResult``. Cancelled, it tells the server.

        Raises: RetryableError (the server is away, or went away), TerminalError (the tool failed, or cannot be called
        so), McpServerError, UsageError (the server cannot be started as it is said).
        """
        from mcp import MCPError

        link = self._current()
        try:
            client = await asyncio.shield(link.client)
            answer = await client.call_tool(tool, arguments, progress_callback=on_progress)
        except ServerAway as error:
            self._drop(link)
            raise RetryableError(str(error), code="mcp_away", retry_after_s=_AWAY_S) from error
        except MCPError as error:
            raise self._failure(link, tool, error) from error
        except RuntimeError as error:  # the SDK's word for an answer that does not fit the tool's own schema
            raise McpServerError(f"{self._target.label}, tool {tool}: {error}") from error
        if answer.is_error:
            details = answer.structured_content
            said = text_of(answer.content) or f"tool {tool} failed and did not say why"
            raise TerminalError(said, code="mcp_tool_error", details=details if isinstance(details, dict) else None)
        return answer

    async def close(self) -> None:
        """End the session, and the server if it is a process of ours."""
        if self._link is not None:
            await self._link.close()

    def _current(self) -> _Link:
        loop = asyncio.get_running_loop()
        if self._link is None or self._link.is_over or self._link.loop is not loop:
            self._link = _Link(self._target, self._start_timeout_s)
        return self._link

    def _drop(self, link: _Link) -> None:
        link.over.set()

    def _failure(self, link: _Link, tool: str, error: Any) -> CallboardError:
        from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, METHOD_NOT_FOUND

        label = self._target.label
        if error.code == CONNECTION_CLOSED or error.message == _FORGOTTEN:
            self._drop(link)
            message = f"the MCP server {label} went away during the call of {tool}"
            return RetryableError(message, code="mcp_away", retry_after_s=_AWAY_S)
        if error.code in (INVALID_PARAMS, METHOD_NOT_FOUND):
            return TerminalError(f"the MCP server refuses the call of {tool}: {error.message}", code="mcp_refused")
        return McpServerError(f"{label}, tool {tool}: {error.message} (error {error.code})")


class _Link:
    """One session from its beginning to its end, in a task of its own, which opens and closes it."""

    def __init__(self, target: McpTarget, start_timeout_s: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.client: asyncio.Future[Client] = self.loop.create_future()
        self.over = asyncio.Event()
        self._task = self.loop.create_task(self._live(target, start_timeout_s), name=f"mcp {target.label}")

    @property
    def is_over(self) -> bool:
        return self.over.is_set() or self._task.done()

    async def close(self) -> None:
        self.over.set()
        await asyncio.wait({self._task})

    async def _live(self, target: McpTarget, start_timeout_s: float) -> None:
        try:
            async with connected(target, start_timeout_s=start_timeout_s, gone=self.over) as client:
                self.client.set_result(client)
                await self.over.wait()
                log.info("the session with the MCP server %s is over; the next call opens another", target.label)
        except Exception as error:  # noqa: BLE001 - who waits for the session is told, or it is over anyway
            if self.client.done():
                log.warning("the MCP server %s: %s", target.label, error)
            else:
                self.client.set_exception(error)
                with contextlib.suppress(BaseException):  # it may be that nobody waits any more
                    self.client.exception()
        finally:
            self.over.set()
            if not self.client.done():
                self.client.cancel()
