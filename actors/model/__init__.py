"""Language models: what an agent says to one and hears from it, and the providers behind that.

``from actors.model import ...`` is the front door; names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.model.message import Message as Message
    from actors.model.message import RedactedThinking as RedactedThinking
    from actors.model.message import Text as Text
    from actors.model.message import Thinking as Thinking
    from actors.model.message import ToolResult as ToolResult
    from actors.model.message import ToolUse as ToolUse
    from actors.model.model import Model as Model
    from actors.model.model import ModelReply as ModelReply
    from actors.model.model import ModelRequest as ModelRequest
    from actors.model.model import ToolSpec as ToolSpec
    from actors.model.model import Usage as Usage

_HOMES = {
    "Message": "actors.model.message",
    "Model": "actors.model.model",
    "ModelReply": "actors.model.model",
    "ModelRequest": "actors.model.model",
    "RedactedThinking": "actors.model.message",
    "Text": "actors.model.message",
    "Thinking": "actors.model.message",
    "ToolResult": "actors.model.message",
    "ToolSpec": "actors.model.model",
    "ToolUse": "actors.model.message",
    "Usage": "actors.model.model",
}
__all__ = sorted(_HOMES)  # noqa: PLE0605 - a list of literals, kept in one place


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'actors.model' has no attribute {name!r}")
