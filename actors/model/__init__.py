"""Language models: what an agent says to one and hears from it, and the providers behind that.

``from actors.model import ...`` is the front door; names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not loaded late like the rest: its file has its name, and would stand in its place from the first import on.
from actors.model.open_model import open_model as open_model

if TYPE_CHECKING:
    from actors.metering.costs import Prices as Prices
    from actors.metering.costs import cost_of as cost_of
    from actors.metering.costs import estimate as estimate
    from actors.metering.guarded import GuardedModel as GuardedModel
    from actors.metering.limits import ModelLimits as ModelLimits
    from actors.metering.pace import ModelRate as ModelRate
    from actors.metering.price import Price as Price
    from actors.model.anthropic_model import AnthropicModel as AnthropicModel
    from actors.model.cassette import Cassette as Cassette
    from actors.model.message import Message as Message
    from actors.model.message import RedactedThinking as RedactedThinking
    from actors.model.message import Text as Text
    from actors.model.message import Thinking as Thinking
    from actors.model.message import ToolResult as ToolResult
    from actors.model.message import ToolUse as ToolUse
    from actors.model.model import Delta as Delta
    from actors.model.model import Model as Model
    from actors.model.model import ModelReply as ModelReply
    from actors.model.model import ModelRequest as ModelRequest
    from actors.model.model import ToolSpec as ToolSpec
    from actors.model.model import Usage as Usage
    from actors.model.model_ref import ModelRef as ModelRef
    from actors.model.model_ref import parse_model_ref as parse_model_ref
    from actors.model.openai_model import OpenAIModel as OpenAIModel
    from actors.model.openai_server import OpenAIServer as OpenAIServer
    from actors.model.scripted import ScriptedModel as ScriptedModel
    from actors.model.scripted import fail as fail
    from actors.model.scripted import say as say
    from actors.model.scripted import use as use

_HOMES = {
    "AnthropicModel": "actors.model.anthropic_model",
    "Cassette": "actors.model.cassette",
    "Delta": "actors.model.model",
    "GuardedModel": "actors.metering.guarded",
    "Message": "actors.model.message",
    "Model": "actors.model.model",
    "ModelLimits": "actors.metering.limits",
    "ModelRate": "actors.metering.pace",
    "ModelRef": "actors.model.model_ref",
    "ModelReply": "actors.model.model",
    "ModelRequest": "actors.model.model",
    "OpenAIModel": "actors.model.openai_model",
    "OpenAIServer": "actors.model.openai_server",
    "Price": "actors.metering.price",
    "Prices": "actors.metering.costs",
    "RedactedThinking": "actors.model.message",
    "ScriptedModel": "actors.model.scripted",
    "Text": "actors.model.message",
    "Thinking": "actors.model.message",
    "ToolResult": "actors.model.message",
    "ToolSpec": "actors.model.model",
    "ToolUse": "actors.model.message",
    "Usage": "actors.model.model",
    "cost_of": "actors.metering.costs",
    "estimate": "actors.metering.costs",
    "fail": "actors.model.scripted",
    "parse_model_ref": "actors.model.model_ref",
    "say": "actors.model.scripted",
    "use": "actors.model.scripted",
}
__all__ = sorted([*_HOMES, "open_model"])  # noqa: PLE0605 - a list of literals, kept in one place


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'actors.model' has no attribute {name!r}")
