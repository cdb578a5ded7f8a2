"""One exchange with a model as a cassette keeps it: a line of JSON that people can read and mend. Pure.

A request is found again by what it asks, not by how: its time limit and whether it streams do not count. The digest is
worked out anew from the request when a line is read, so a line that somebody has mended is found by its new text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from actors.model.model import ModelReply, ModelRequest
from bus.errors import UsageError

_HOW = ("timeout_s", "stream")


class Exchange(msgspec.Struct, frozen=True):
    """What was asked, and what came. ``provider`` and ``model`` are those that were asked."""

    digest: str
    provider: str
    model: str
    request: dict[str, Any]
    reply: ModelReply


class KeptExchange(NamedTuple):
    """An exchange and the line, from 1, on which it stands."""

    line: int
    exchange: Exchange


def asked(request: ModelRequest) -> dict[str, Any]:
    """The part of a request that counts, as plain values."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(request))
    return {name: value for name, value in plain.items() if name not in _HOW}


def digest_of(plain: dict[str, Any]) -> str:
    """A name for what :func:`asked` gives: the same for the same values, in whatever order."""
    return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()[:24]


def exchange_of(provider: str, model: str, request: ModelRequest, reply: ModelReply) -> Exchange:
    """The exchange to keep."""
    plain = asked(request)
    return Exchange(digest_of(plain), provider, model, plain, reply)


def line_of(exchange: Exchange) -> bytes:
    """An exchange as a line, with its end."""
    return msgspec.json.encode(exchange) + b"\n"


def read_lines(body: bytes, path: str) -> Iterator[KeptExchange]:
    """The exchanges of a cassette. A last line that was cut off while it was written is left out.

    Raises: UsageError with code ``bad_cassette`` that names the line, for any other line that is no exchange.
    """
    for number, (line, is_whole) in enumerate(_lines(body), 1):
        if not line.strip():
            continue
        try:
            exchange = msgspec.json.decode(line, type=Exchange)
        except (msgspec.DecodeError, ValueError) as error:
            if not is_whole:
                return
            raise UsageError(f"{path}, line {number}: {error}", code="bad_cassette", path=path,
                             hint="mend the line, or delete it and record it anew") from error  # fmt: skip
        yield KeptExchange(number, msgspec.structs.replace(exchange, digest=digest_of(exchange.request)))


def whole_bytes(body: bytes) -> int:
    """How many bytes of a cassette a new line may be put behind: all but a last line that was cut off."""
    end = body.rfind(b"\n") + 1
    try:
        msgspec.json.decode(body[end:], type=Exchange)
    except (msgspec.DecodeError, ValueError):
        return end
    return len(body)


def _lines(body: bytes) -> Iterator[tuple[bytes, bool]]:
    """Each line, and whether its end is there."""
    *whole, rest = body.split(b"\n")
    yield from ((line, True) for line in whole)
    yield rest, False
