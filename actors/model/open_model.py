"""From a ref to a model that can be asked. What it needs is looked for here: a key, a package, a file, a module.

A provider's package is imported by who uses it and by nobody else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, assert_never, cast

from actors.model.model_ref import ModelRef, parse_model_ref
from bus.errors import UsageError

if TYPE_CHECKING:
    from actors.model.model import Model


def open_model(ref: str | Model) -> Model:
    """The model that ``ref`` names; a model is given back as it is. It is the caller's to close.

    Raises: UsageError for a ref that names nothing (with what is near), for a key that is not in the environment
    (``no_api_key``, with the variable's name), and for a package that is not installed (``missing_extra``).
    """
    if not isinstance(ref, str):
        return _checked(ref)
    return _opened(parse_model_ref(ref))


def _opened(ref: ModelRef) -> Model:
    match ref.provider:
        case "scripted":
            return _script(ref)
        case "anthropic":
            from actors.model.anthropic_model import anthropic_at

            return anthropic_at(ref, os.environ)
        case "cassette":
            from actors.model.cassette import Cassette

            return Cassette(ref.name, None if ref.through is None else str(ref.through))
        case "openai" | "ollama" | "vllm":
            from actors.model.openai_model import OpenAIModel
            from actors.model.openai_server import server_of

            return OpenAIModel(ref.name, server=server_of(ref, os.environ))
        case _:
            assert_never(ref.provider)


def _checked(model: Model) -> Model:
    if all(hasattr(model, name) for name in ("provider", "name", "reply", "count_tokens", "close")):
        return model
    raise UsageError(f"a {type(model).__name__} is no model", code="bad_model_ref",
                     hint="give a ref such as anthropic:claude-sonnet-5, or a Model")  # fmt: skip


def _script(ref: ModelRef) -> Model:
    from actors.components.loading import load_object
    from actors.model.scripted import ScriptedModel

    found = load_object(ref.name, "script", "shop.script:model")
    if hasattr(found, "reply") and not isinstance(found, type):
        return _checked(cast("Model", found))
    if isinstance(found, list | tuple) or (callable(found) and not isinstance(found, type)):
        return ScriptedModel(found, name=ref.name.rpartition(":")[2])
    raise UsageError(f"{ref}: {ref.name} is a {type(found).__name__}", code="not_a_script", path=str(ref),
                     hint="a ScriptedModel, a list of turns, or a function of the request")  # fmt: skip
