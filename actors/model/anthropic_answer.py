"""Structured output: how an answer that has to fit a schema is asked of Claude, and how it is told then. Pure.

The API makes a model's text fit a schema (``output_config``), if the model is new enough and the schema says each
field: no open maps, no values of any kind, no recursion. For all else the model is made to use one tool, whose
arguments are the answer. Either way the reply's text is the JSON, so nobody else needs to know.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from actors.model.message import Part, RedactedThinking, Text, Thinking, ToolUse
from actors.model.model import StopReason

TOOL = "give_answer"
_DESCRIPTION = "Give the final answer. Use this tool once, when you know the answer, and say nothing else."
_OLD = re.compile(r"claude-(3|instant|2)|claude-(opus|sonnet)-4(-[01])?(-\d{8}|-latest)?$")
# Under this name stands an answer that is no object, since arguments of a tool are one.
_VALUE = "value"

Schema = dict[str, Any]
Kind = Literal["native", "tool"]


class AnswerForm(msgspec.Struct, frozen=True):
    """How the answer is asked for: by the API's own way or by a tool, of that name, and with which schema."""

    kind: Kind
    schema: Schema
    tool: str = TOOL
    is_wrapped: bool = False


def answer_form(schema: Schema, model: str, tools: Sequence[str] = (), kind: Kind | None = None) -> AnswerForm:
    """The form for this schema and model; ``kind`` if it was said. ``tools`` are names that are taken."""
    root = resolved(schema)
    is_object = root.get("type") == "object"
    native = is_object and model.startswith("claude") and not _OLD.match(model) and says_all(schema)
    if (kind or ("native" if native else "tool")) == "native":
        return AnswerForm("native", root)
    name = TOOL
    while name in tools:
        name += "_"
    return AnswerForm("tool", object_schema(schema) if is_object else _wrapped(schema), name, not is_object)


def form_params(form: AnswerForm, body: dict[str, Any]) -> dict[str, Any]:
    """What is added to ``body``, so that the answer comes in this form. With other tools the model may use those."""
    if form.kind == "native":
        format_ = {"type": "json_schema", "schema": form.schema}
        return {"output_config": {**body.get("output_config", {}), "format": format_}}
    usable = body.get("tools", []) if body.get("tool_choice", {}).get("type") != "none" else []
    tool = {"name": form.tool, "description": _DESCRIPTION, "input_schema": form.schema}
    chosen = body["tool_choice"] if usable else {"type": "tool", "name": form.tool}
    choice = {"type": "any"} if chosen["type"] in ("auto", "any") else chosen
    return {"tools": [*body.get("tools", []), tool], "tool_choice": choice}


def told_answer(parts: Sequence[Part], stop: StopReason, form: AnswerForm) -> tuple[tuple[Part, ...], StopReason]:
    """The reply's parts and its stop reason, with an answer that was given by a tool as text.

    If the model asked for other tools at once, it has answered too early: it is asked again after their results.
    """
    answers = [part for part in parts if isinstance(part, ToolUse) and part.name == form.tool]
    if form.kind == "native" or not answers:
        return tuple(parts), stop
    rest = tuple(part for part in parts if not (isinstance(part, ToolUse) and part.name == form.tool))
    if any(isinstance(part, ToolUse) for part in rest):
        return rest, stop
    # What is said beside the answer is no JSON, and the text of the reply has to be.
    thoughts = tuple(part for part in rest if isinstance(part, Thinking | RedactedThinking))
    return (*thoughts, Text(_json_of(answers[0], form))), ("end_turn" if stop == "tool_use" else stop)


def _json_of(use: ToolUse, form: AnswerForm) -> str:
    if use.malformed:
        return use.malformed
    return msgspec.json.encode(use.input.get(_VALUE, use.input) if form.is_wrapped else use.input).decode()


# ---- schemas


def resolved(schema: Schema) -> Schema:
    """The schema with what its root refers to in the root's place."""
    defs = schema.get("$defs", {})
    seen: list[str] = []
    while (ref := schema.get("$ref")) and ref not in seen:
        seen.append(ref)
        schema = {
            **defs.get(_name(ref), {}),
            **{key: value for key, value in schema.items() if key not in ("$ref", "$defs")},
        }
    return {**schema, "$defs": defs} if defs else schema


def object_schema(schema: Schema) -> Schema:
    """The schema as the API takes that of a tool's arguments: of an object, and that said in its root."""
    return {"type": "object", **resolved(schema)}


def _wrapped(schema: Schema) -> Schema:
    defs = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    value = {key: value for key, value in schema.items() if key != "$defs"}
    return {"type": "object", "properties": {_VALUE: value}, "required": [_VALUE], **defs}


def says_all(schema: Any, defs: dict[str, Any] | None = None, above: tuple[str, ...] = ()) -> bool:
    """Whether every value that fits is described: what the API asks of a schema to hold a model to it."""
    if not isinstance(schema, dict):
        return False
    defs = schema.get("$defs", {}) if defs is None else defs
    if "$ref" in schema:
        name = _name(schema["$ref"])
        return name in defs and name not in above and says_all(defs[name], defs, (*above, name))
    several = next((schema[key] for key in ("anyOf", "oneOf", "allOf") if key in schema), None)
    if several is not None:
        return all(says_all(one, defs, above) for one in several)
    if "enum" in schema or "const" in schema:
        return True
    match schema.get("type"):
        case "object":
            fields = schema.get("properties", {})
            is_closed = "properties" in schema and not schema.get("additionalProperties")
            return is_closed and all(says_all(field, defs, above) for field in fields.values())
        case "array":
            return "prefixItems" not in schema and says_all(schema.get("items"), defs, above)
        case kind:
            return isinstance(kind, str)


def _name(ref: str) -> str:
    return ref.rpartition("/")[2]
