"""One connection to an MCP server, opened and closed within one task, as the SDK wants it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TYPE_CHECKING, Any

from actors.toolbox.mcp.last_words import LastWords
from actors.toolbox.mcp.target import McpTarget
from bus.errors import UsageError

if TYPE_CHECKING:
    from mcp import Client

_END_OF_WORDS_S = 0.5
# A server may hold the stream of an answer open without a word; the call's own time limit ends it sooner.
_HTTP_TIMEOUT_S = 30.0
_HTTP_READ_TIMEOUT_S = 3600.0


class ServerAway(ConnectionError):
    """The MCP server cannot be started or reached, or it has ended; another try may find it."""


@contextlib.asynccontextmanager
async def connected(
    target: McpTarget, *, start_timeout_s: float, gone: asyncio.Event | None = None, is_quiet: bool = False
) -> AsyncIterator[Client]:
    """A session with the server; ``gone`` is set when a server that is a process ends.

    Raises: UsageError (no such command, a variable that is not set, the SDK is missing), ServerAway.
    """
    sdk_client, tried = _sdk(), False
    gone = gone or asyncio.Event()
    with LastWords(target.secrets(os.environ), is_quiet=is_quiet) as words:
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with asyncio.timeout(start_timeout_s):
                    transport = _transport(target, words, gone)
                    client = await stack.enter_async_context(sdk_client(transport))
                tried = True
                yield client
        except UsageError:
            raise
        except Exception as error:
            if tried:  # it is the caller's, or the end of a session that was good
                raise
            said = await asyncio.to_thread(words.text, _END_OF_WORDS_S) if target.command else ""
            raise _not_started(target, said, error, start_timeout_s) from error


def _sdk() -> Any:
    try:
        from mcp import Client
    except ImportError as error:
        raise UsageError("the MCP SDK is not installed", code="missing_extra",
                         hint="pip install 'callboard[mcp]'") from error  # fmt: skip
    return Client


def _not_started(target: McpTarget, said: str, error: Exception, limit_s: float) -> ServerAway:
    verb = "reached" if target.url else "started"
    reason = f"it did not answer within {limit_s:g} s" if isinstance(error, TimeoutError) else _reason(error)
    tail = f"; its last words: {said}" if said else ""
    return ServerAway(f"the MCP server {target.label} cannot be {verb}: {reason}{tail}")


def _reason(error: BaseException) -> str:
    """The SDK's task groups wrap what went wrong."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) or type(error).__name__


def _transport(target: McpTarget, words: LastWords, gone: asyncio.Event) -> Any:
    if target.url:
        return _http(target)
    if shutil.which(target.command[0], path=os.environ.get("PATH")) is None:
        raise UsageError(f"there is no command {target.command[0]!r}, which Mcp is to start", code="bad_setting",
                         path="command", hint="install it, or give its whole path")  # fmt: skip
    return _stdio(target, words, gone)


@contextlib.asynccontextmanager
async def _http(target: McpTarget) -> AsyncGenerator[Any]:
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    timeout = httpx2.Timeout(_HTTP_TIMEOUT_S, read=_HTTP_READ_TIMEOUT_S)
    async with (
        httpx2.AsyncClient(headers=target.header_values(os.environ), timeout=timeout) as http,
        streamable_http_client(target.url, http_client=http) as streams,
    ):
        yield streams


@contextlib.asynccontextmanager
async def _stdio(target: McpTarget, words: LastWords, gone: asyncio.Event) -> AsyncGenerator[Any]:
    """The SDK's transport, with an ear on its end: a session whose server has died must not be used again."""
    import anyio
    from mcp.client.stdio import StdioServerParameters, stdio_client

    program, *arguments = target.command
    parameters = StdioServerParameters(
        command=program, args=arguments, env=target.child_env(os.environ), cwd=target.cwd or None
    )
    async with stdio_client(parameters, errlog=words.file) as (read, write):
        passing, passed = anyio.create_memory_object_stream[Any](0)

        async def pass_on() -> None:
            with contextlib.suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                async with passing:
                    async for message in read:
                        await passing.send(message)
            gone.set()

        async with anyio.create_task_group() as group:
            group.start_soon(pass_on)
            try:
                yield passed, write
            finally:
                group.cancel_scope.cancel()
                passed.close()
