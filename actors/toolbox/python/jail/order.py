"""What a sandbox is asked to be: given to it in argv, and after that, on its standard input, the code and the files."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, Literal

Level = Literal["bubblewrap", "namespaces", "landlock", "rlimits"]

WORK = "/work"  # the working directory in a sandbox that has a file system of its own


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """What one run may use. ``memory_bytes`` is for each process, and for all together where they can be seen."""

    timeout_s: float = 30.0
    cpu_s: int = 30
    memory_bytes: int = 512 * 1024 * 1024
    processes: int = 32
    file_bytes: int = 64 * 1024 * 1024
    files: int = 50


@dataclass(frozen=True, kw_only=True)
class Order:
    """One sandbox. ``readable`` are paths of the machine; ``work`` is the folder to run in, there or ``WORK``.

    ``uid`` is the user to become: 0 means to stay who we are. ``parent`` is the process that asks.
    """

    level: Level
    ceilings: Ceilings
    readable: list[str]
    packages: list[str]
    work: str
    parent: int
    answer_fd: int
    uid: int = 0
    seccomp: bool = True
    tasks_before: int = 0
    bubblewrap: str = ""
    python: str = ""
    boot: list[str] = field(default_factory=list)

    def text(self) -> str:
        """As an argument of a command."""
        return json.dumps(asdict(self))


def read_order(text: str) -> Order:
    """The order in an argument."""
    raw: dict[str, Any] = json.loads(text)
    return Order(**{**raw, "ceilings": Ceilings(**raw["ceilings"])})


def pack_input(code: str, files: list[tuple[str, bytes]]) -> bytes:
    """The code and the files as one block of bytes."""
    head = json.dumps({"code": code, "files": [[name, len(data)] for name, data in files]}).encode()
    return b"".join([len(head).to_bytes(8, "big"), head, *(data for _, data in files)])


def unpack_input(stream: BinaryIO) -> tuple[str, list[tuple[str, bytes]]]:
    """What ``pack_input`` made. Raises: EOFError if the stream ends too soon."""
    head = json.loads(_exactly(stream, int.from_bytes(_exactly(stream, 8), "big")))
    return head["code"], [(name, _exactly(stream, size_bytes)) for name, size_bytes in head["files"]]


def _exactly(stream: BinaryIO, size_bytes: int) -> bytes:
    data = stream.read(size_bytes)
    if len(data) < size_bytes:
        raise EOFError("the input of the sandbox ends too soon")
    return data


def write_all(descriptor: int, data: bytes) -> None:
    """All of ``data``, however many writes it takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
