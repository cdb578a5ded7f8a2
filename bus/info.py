"""Who listens at an address: a NATS server introduces itself with one INFO line before anything is said to it."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec


class ServerInfo(msgspec.Struct, frozen=True):
    """What a server says of itself to everyone; the fields that we act on."""

    server_id: str = ""
    server_name: str = ""
    version: str = ""
    jetstream: bool = False
    auth_required: bool = False
    tls_required: bool = False
    max_payload: int = 0


_decode = msgspec.json.Decoder(ServerInfo).decode


async def read_info(host: str, port: int, *, timeout_s: float = 2.0) -> ServerInfo | None:
    """The INFO line of the server at ``host:port``; None if what listens there is no NATS server.

    A server that starts with the TLS handshake keeps silent as well, so it counts as None.
    Raises: OSError (ConnectionRefusedError, TimeoutError, ...) if nothing listens there.
    """
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port, limit=256 * 1024)
    try:
        async with asyncio.timeout(timeout_s):
            return _parse(await reader.readline())
    except (TimeoutError, OSError, ValueError):
        return None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _parse(line: bytes) -> ServerInfo | None:
    verb, _, body = line.partition(b" ")
    if verb != b"INFO":
        return None
    with contextlib.suppress(msgspec.DecodeError):
        return _decode(body)
    return None
