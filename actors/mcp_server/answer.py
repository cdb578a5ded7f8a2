"""An output of ours, or a failure, as the result of an MCP tool call."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from bus.errors import CallboardError, PeerError, UsageError
from store.artifact import Artifact

if TYPE_CHECKING:
    from mcp_types import CallToolResult

IMAGE_LIMIT_BYTES = 1024 * 1024
JOB_META = "callboard/job"


def is_shown(artifact: Artifact) -> bool:
    """Whether a client is sent its content: pictures that a model can look at."""
    return artifact.media_type.startswith("image/") and artifact.size_bytes <= IMAGE_LIMIT_BYTES


def answer(raw: bytes, images: Sequence[tuple[Artifact, bytes]] = (), *, job: str = "") -> CallToolResult:
    """The output: a ``text`` or the JSON as text, an object as structured content too, and pictures."""
    from mcp_types import CallToolResult, ImageContent, TextContent

    value = msgspec.json.decode(raw)
    content: list[Any] = [TextContent(type="text", text=_text(value, raw))]
    for artifact, data in images:
        encoded = base64.b64encode(data).decode()
        content.append(ImageContent(type="image", data=encoded, mime_type=artifact.media_type))
    structured = value if isinstance(value, dict) else None
    return CallToolResult(content=content, structured_content=structured, **_meta(job))


def refusal(error: CallboardError, *, job: str = "") -> CallToolResult:
    """A failure as a model can read it: what was wrong, where, and what would be right."""
    from mcp_types import CallToolResult, TextContent

    return CallToolResult(content=[TextContent(type="text", text=_words(error))], is_error=True, **_meta(job))


def _meta(job: str) -> dict[str, Any]:
    return {"_meta": {JOB_META: job}} if job else {}


def _text(value: Any, raw: bytes) -> str:
    """The text of an output that is one, else the JSON."""
    match value:
        case str():
            return value
        case {"text": str(text), **rest} if not any(rest.values()):
            return text
        case _:
            return raw.decode()


def _words(error: CallboardError) -> str:
    match error:
        case UsageError():
            where = f" (at {error.path})" if error.path and error.path not in str(error.args[0]) else ""
            return _with_hint(f"{error.code}: {error.args[0]}{where}", error.hint)
        case PeerError():
            return _with_hint(f"{error.failure.code}: {error.failure.message}", error.failure.hint)
        case _:
            return str(error)


def _with_hint(text: str, hint: str) -> str:
    return f"{text}\nhint: {hint}" if hint else text
