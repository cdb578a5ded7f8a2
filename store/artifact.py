"""A file that a tool or a job made: its bytes lie in the object store by their sha256, and the log holds its name."""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Iterator
from typing import Any

import msgspec

from bus.errors import UsageError
from bus.objects import Blobs

NAME_LIMIT_CHARS = 200
ARTIFACT_LIMIT_BYTES = 256 * 1024 * 1024


class Artifact(msgspec.Struct, frozen=True, kw_only=True, tag_field="artifact", tag="file"):
    """A reference that outputs may hold anywhere. ``size_bytes`` and ``sha256`` are those of its content."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str


def describe(name: str, data: bytes, media_type: str = "") -> Artifact:
    """Pure: the reference to ``data``; the media type is guessed from the name if it is not given.

    Raises: UsageError for a name with a path in it, or content beyond ``ARTIFACT_LIMIT_BYTES``.
    """
    if not name or len(name) > NAME_LIMIT_CHARS or set(name) & set("/\\\0\n") or name in (".", ".."):
        raise UsageError(f"an artifact cannot be named {name!r}", code="bad_artifact", path="name",
                         hint="the name of a file, without its folder")  # fmt: skip
    if len(data) > ARTIFACT_LIMIT_BYTES:
        raise UsageError(f"artifact {name} has {len(data):,} bytes", code="bad_artifact", path="data",
                         hint=f"{ARTIFACT_LIMIT_BYTES:,} bytes at most")  # fmt: skip
    media_type = media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Artifact(name=name, media_type=media_type, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


async def keep(blobs: Blobs, name: str, data: bytes, media_type: str = "") -> Artifact:
    """Store ``data`` and return the reference; the same content is stored once. Raises: UsageError, BusError."""
    artifact = describe(name, data, media_type)
    await blobs.put(data)
    return artifact


def artifacts_in(value: Any) -> Iterator[Artifact]:
    """The references in plain JSON values, in their order."""
    match value:
        case {
            "artifact": "file",
            "name": str(name),
            "media_type": str(kind),
            "size_bytes": int(size),
            "sha256": str(sum_),
        }:
            yield Artifact(name=name, media_type=kind, size_bytes=size, sha256=sum_)
        case dict():
            for each in value.values():
                yield from artifacts_in(each)
        case list():
            for each in value:
                yield from artifacts_in(each)
        case _:
            return
