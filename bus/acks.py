"""The server's answer to an append (PubAck, ADR-1), as a sequence or as the error that says what to do about it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from nats.aio.msg import Msg

from bus import headers as h
from bus.errors import ApiError, BusError, Contended, Fenced, NoResponder, StreamFull

# 10164 comes on replicated streams only (NATS-FACTS, finding 2): a write under the same condition is on its way through
# the cluster, and the server does not wait for it. It says nothing about who wins.
_CONFLICT, _CONTENDED = 10071, 10164
# At a limit of the account (10002), of the server's disk (10023, 10047) or memory (10028), or of the stream (10077,
# 10122), as this server answers them.
FULL_CODES = frozenset({10002, 10023, 10028, 10047, 10077, 10122})


class _AckError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = ""


class _PubAck(msgspec.Struct):
    seq: int = 0
    duplicate: bool = False
    error: _AckError | None = None


_decode_ack = msgspec.json.Decoder(_PubAck).decode


def sequence_of(subject: str, msg: Msg, headers: Mapping[str, str] | None = None) -> int:
    """The sequence in the answer to an append that was begun. Raises what ``Bus.append`` raises."""
    if msg.headers and msg.headers.get(h.STATUS) == "503":
        raise NoResponder(subject)
    ack = _decode_ack(msg.data)
    if ack.error is None:
        return ack.seq
    raise _append_error(subject, ack.error, headers or {})


def is_duplicate(msg: Msg) -> bool:
    """Whether the server dropped the append, since it holds, or lately held, one with its message id."""
    return _decode_ack(msg.data).duplicate


def _append_error(subject: str, error: _AckError, headers: Mapping[str, str]) -> BusError:
    if error.err_code in (_CONFLICT, _CONTENDED):
        kind = Fenced if error.err_code == _CONFLICT else Contended
        return kind(subject, expected=int(headers.get(h.EXPECTED_SEQUENCE, "0")))
    if error.err_code in FULL_CODES:
        return StreamFull(subject, error.description)
    return ApiError(subject, error.code, error.err_code, error.description)
