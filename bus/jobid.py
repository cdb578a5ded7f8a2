"""Job ids: one subject token, sortable by time, the same however often a request is delivered.

A bare publish has no id of its own, so it takes one from where the server stored it: the instant (ns) and the stream
sequence. Redeliveries keep both; a stream that was deleted and made again repeats sequences but not instants.
"""

from __future__ import annotations

import hashlib
import secrets
import time

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def base36(number: int, width: int = 0) -> str:
    """``number`` in digits and lower-case letters, padded with zeros to ``width``."""
    digits = ""
    while number:
        number, rest = divmod(number, 36)
        digits = _ALPHABET[rest] + digits
    return digits.rjust(max(width, 1), "0")


def new() -> str:
    """A fresh id: 9 characters of time (ms) and 8 random ones; sorts by time."""
    return base36(time.time_ns() // 1_000_000, 9) + base36(secrets.randbits(41), 8)


def from_delivery(stored_ns: int, sequence: int) -> str:
    """The id of a request that came without one."""
    return f"{base36(stored_ns // 1_000_000, 9)}{base36(stored_ns % 1_000_000, 4)}-{base36(sequence)}"


def from_message_id(workspace: str, message_id: str) -> str:
    """The id of a request that came with ``Nats-Msg-Id`` only: the same message id is the same job, for ever."""
    return "m" + hashlib.sha256(f"{workspace}\n{message_id}".encode()).hexdigest()[:24]


def of_line(workspace: str, workflow: str, batch: str, number: int, line: bytes) -> str:
    """The id of the job that line ``number`` of a batch asks for: the same line of the same batch is the same job."""
    head = f"{workspace}\n{workflow}\n{batch}\n{number}\n".encode()
    return "b" + hashlib.sha256(head + line).hexdigest()[:24]


def child(parent: str, call: str) -> str:
    """The id of the child job that answers ``call`` of ``parent``: fixed, so that starting it twice starts it once."""
    return "c" + hashlib.sha256(f"{parent}\n{call}".encode()).hexdigest()[:24]
