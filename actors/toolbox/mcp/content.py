"""What an MCP tool answers, as an output of ours: texts together, everything else as artifacts."""

from __future__ import annotations

import base64
import binascii
import mimetypes
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from store.artifact import NAME_LIMIT_CHARS, Artifact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class McpResult(msgspec.Struct, frozen=True, kw_only=True):
    """The output of every MCP tool. ``data`` is the structured content, if the tool gives any."""

    text: str = ""
    files: list[Artifact] = []
    data: Any = None


class Piece(NamedTuple):
    """A file in an answer."""

    name: str
    media_type: str
    data: bytes


def text_of(content: Sequence[Any]) -> str:
    """All that can be read, a part below the other."""
    return "\n".join(part for block in content if (part := _text(block)))


def _text(block: Any) -> str:
    match block.type:
        case "text":
            return str(block.text)
        case "resource" if hasattr(block.resource, "text"):
            return str(block.resource.text)
        case "resource_link":
            return f"{block.name}: {block.uri}"
        case _:
            return ""


def pieces_of(content: Sequence[Any]) -> list[Piece]:
    """The files, each under a name that no other of them has."""
    found: list[Piece] = []
    for piece in _pieces(content):
        name, number = piece.name, 1
        while any(name == other.name for other in found):
            number += 1
            name = f"{PurePosixPath(piece.name).stem}-{number}{PurePosixPath(piece.name).suffix}"
        found.append(piece._replace(name=name))
    return found


def _pieces(content: Sequence[Any]) -> Iterator[Piece]:
    for block in content:
        match block.type:
            case "image" | "audio":
                yield Piece(f"{block.type}{_suffix(block.mime_type)}", block.mime_type, _bytes(block.data))
            case "resource" if hasattr(block.resource, "blob"):
                resource = block.resource
                yield Piece(_name(resource.uri), resource.mime_type or "", _bytes(resource.blob))


def _suffix(media_type: str) -> str:
    return mimetypes.guess_extension(media_type) or ""


def _name(uri: str) -> str:
    """The last part of the address, without anything that is no name of a file."""
    last = PurePosixPath(unquote(urlsplit(uri).path)).name
    safe = "".join(char for char in last if char.isprintable() and char not in "/\\")[-NAME_LIMIT_CHARS // 2 :]
    return safe if safe.strip(".") else "resource"


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # a server that does not heed the protocol; what it sent is kept
        return text.encode(errors="replace")
