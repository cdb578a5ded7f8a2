"""The door that tools go out by: each connection is made to an address that the guard has seen, and to no other.

A name is resolved once for a connection, here, and the socket is opened to one of the addresses that were checked.
Asking the resolver again after the check, as an ordinary client does, is what DNS rebinding lives on. TLS and the Host
header keep the name, since only the socket is told another address. Proxies of the environment are not used: they would
resolve the name themselves.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import httpcore2
import httpx2

from actors.toolbox.web.address_guard import (
    Address,
    AddressGuard,
    AddressRefused,
    Target,
    literal_address,
    read_address,
)
from bus.failure import RetryableError, TerminalError

Resolve = Callable[[str, int], Awaitable[list[str]]]

# A name may stand for dozens of addresses; some tries are enough to get around one that is down.
TRIES = 3
_NOBODY = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


async def resolve(host: str, port: int) -> list[str]:
    """The addresses that the system's resolver has for a name. Raises: TerminalError, RetryableError."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno in _NOBODY:
            raise TerminalError(f"there is no host {host}", code="no_such_host") from None
        raise RetryableError(f"{host} cannot be resolved: {error.strerror}", code="unreachable") from None
    except UnicodeError:
        raise TerminalError(f"there is no host {host}", code="no_such_host") from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))


class _CheckedSockets(httpcore2.AsyncNetworkBackend):
    """Opens sockets to addresses that were checked."""

    def __init__(self, guard: AddressGuard, resolve: Resolve) -> None:
        self._guard = guard
        self._resolve = resolve
        self._sockets = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:  # fmt: skip
        """Connect to the first of the host's addresses that is allowed and answers."""
        error: Exception | None = None
        for address in (await self._checked(host, port))[:TRIES]:
            try:
                return await self._sockets.connect_tcp(
                    str(address), port, timeout=timeout, local_address=local_address, socket_options=socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as failed:
                error = failed
        assert error is not None
        raise error

    async def _checked(self, host: str, port: int) -> list[Address]:
        if (literal := literal_address(host)) is not None:
            found = [literal]
        else:
            found = [read_address(text) for text in await self._resolve(host, port)]
        allowed = [address for address in found if not self._guard.refusal(address, port)]
        if allowed:
            return allowed
        reasons = "; ".join(self._guard.refusal(address, port) for address in found[:TRIES]) or "it has no address"
        raise AddressRefused(f"{host} is refused: {reasons}")

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore2.AsyncNetworkStream:
        """Never: a path is no address."""
        raise AddressRefused("sockets of this machine are refused")

    async def sleep(self, seconds: float) -> None:
        """As the pool asks for it."""
        await asyncio.sleep(seconds)


class _Body(httpx2.AsyncByteStream):
    def __init__(self, stream: AsyncIterable[bytes]) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            yield part

    async def aclose(self) -> None:
        if hasattr(self._stream, "aclose"):
            await self._stream.aclose()


class GuardedTransport(httpx2.AsyncBaseTransport):
    """A transport for ``httpx2.AsyncClient`` that speaks to allowed addresses only, whatever URL it is given.

    What it raises beside AddressRefused are the errors of httpcore2.
    """

    def __init__(
        self, guard: AddressGuard, resolve: Resolve = resolve, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        self._guard = guard
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context or _ssl_context(), network_backend=_CheckedSockets(guard, resolve)
        )

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request. Raises: AddressRefused before anything is sent."""
        target = target_of(self._guard, request.url)
        sent = httpcore2.Request(
            request.method,
            httpcore2.URL(scheme=target.scheme, host=target.host, port=target.port, target=request.url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        answer = await self._pool.handle_async_request(sent)
        assert isinstance(answer.stream, AsyncIterable)
        return httpx2.Response(
            answer.status, headers=answer.headers, stream=_Body(answer.stream), extensions=answer.extensions
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._pool.aclose()


def target_of(guard: AddressGuard, url: httpx2.URL) -> Target:
    """Where a URL leads, if it is allowed. Raises: AddressRefused."""
    return guard.target(url.scheme, url.raw_host.decode("ascii"), url.port, has_user=bool(url.userinfo))


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    """Made once: reading the machine's certificates takes some 20 ms."""
    return httpx2.create_ssl_context()
