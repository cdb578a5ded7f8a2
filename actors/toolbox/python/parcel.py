"""What is sent to a machine that is rented for one program, and what comes back: read with care.

The program runs there under the same launcher and warden as at home, so that time, memory, files, figures and errors
come back alike.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from actors.toolbox.output import Output
from actors.toolbox.python import jail
from actors.toolbox.python.jail.guest import INPUT, ORDER
from actors.toolbox.python.jail.order import Ceilings, pack_input
from actors.toolbox.python.result import Answer
from actors.toolbox.python.sandbox import BOOT, HEAD_LIMIT_BYTES, Run, plain_environment

_HEAD_BYTES = 8
# As BOOT does for the launcher: packages of ours are named, and of them only the folder `jail` is there.
_START = """
import zipfile
zipfile.ZipFile({folder!r} + "/parcel.zip").extractall({folder!r})
import sys, types
for name, path in (("actors", []), ("actors.toolbox", []), ("actors.toolbox.python", []),
                   ("actors.toolbox.python.jail", [{folder!r} + "/jail"])):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = path
from actors.toolbox.python.jail.guest import main
main({folder!r})
"""


class Garbled(Exception):
    """What came back is not what the guest writes: the program has meddled with it, or it was cut."""


_Size = Annotated[int, msgspec.Meta(ge=0)]


class _Outcome(msgspec.Struct, frozen=True):
    code: str
    files: list[tuple[str, _Size]]


class _Head(msgspec.Struct, frozen=True):
    stdout: _Size
    stderr: _Size
    duration_s: Annotated[float, msgspec.Meta(ge=0)]


@dataclass(frozen=True)
class Limits:
    """What may come back at most, in bytes: of all files, and of each stream."""

    files_bytes: int
    output_bytes: int

    @property
    def outcome_bytes(self) -> int:
        """Of the whole outcome."""
        return self.files_bytes + 2 * self.output_bytes + 2 * HEAD_LIMIT_BYTES


def parcel(ceilings: Ceilings, code: str, files: list[tuple[str, bytes]], limits: Limits) -> bytes:
    """All that the machine needs, as a zip archive."""
    order = {"ceilings": asdict(ceilings), "output_limit_bytes": limits.output_bytes, "boot": BOOT,
             "environment": plain_environment()}  # fmt: skip
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for source in sorted(Path(jail.__file__).parent.glob("*.py")):
            archive.writestr(f"jail/{source.name}", source.read_bytes())
        archive.writestr(ORDER, json.dumps(order))
        archive.writestr(INPUT, pack_input(code, files))
    return packed.getvalue()


def start_code(folder: str) -> str:
    """The code that unpacks the parcel in ``folder`` and runs it."""
    return _START.format(folder=folder)


def read_outcome(data: bytes, limits: Limits) -> Run:
    """The run that the guest tells of. Raises: Garbled."""
    try:
        outcome, parts = _unpacked(data)
        head = msgspec.json.decode(outcome, type=_Head)
        answer, files = _answer(parts["answer"], limits.files_bytes)
        stdout, stderr = (_output(parts[name], size, limits.output_bytes)
                          for name, size in (("stdout", head.stdout), ("stderr", head.stderr)))  # fmt: skip
    except (msgspec.DecodeError, KeyError, ValueError) as error:
        raise Garbled(str(error)) from error
    return Run(answer, files, stdout, stderr, head.duration_s)


def _unpacked(data: bytes) -> tuple[str, dict[str, bytes]]:
    head, rest = _headed(data)
    outcome = msgspec.json.decode(head, type=_Outcome)
    return outcome.code, dict(_split(rest, outcome.files))


def _answer(data: bytes, limit_bytes: int) -> tuple[Answer | None, list[tuple[str, bytes]]]:
    """The warden's; None if it was killed before it could say anything."""
    if not data:
        return None, []
    head, rest = _headed(data)
    answer = msgspec.json.decode(head, type=Answer)
    if sum(size for _, size in answer.files) > limit_bytes:
        raise ValueError("more files than were asked for")
    return answer, _split(rest, answer.files)


def _headed(data: bytes) -> tuple[bytes, bytes]:
    end = _HEAD_BYTES + int.from_bytes(data[:_HEAD_BYTES], "big")
    if len(data) < end or end > HEAD_LIMIT_BYTES:
        raise ValueError("it has no head")
    return data[_HEAD_BYTES:end], data[end:]


def _split(data: bytes, sizes: list[tuple[str, int]]) -> list[tuple[str, bytes]]:
    parts, start = [], 0
    for name, size in sizes:
        if size < 0 or start + size > len(data):
            raise ValueError(f"{name} is not whole")
        parts.append((name, data[start : start + size]))
        start += size
    return parts


def _output(kept: bytes, size_bytes: int, limit_bytes: int) -> Output:
    return Output(limit_bytes, bytearray(kept[:limit_bytes]), max(size_bytes, len(kept)))
