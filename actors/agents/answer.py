"""What a run has to give in the end: the model's words, or JSON of a type, read and checked. Pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from actors.components.codec import Codec, InvalidOutput
from actors.components.schema import output_schema

_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?```\s*", re.DOTALL)
_WRAPPER = "result"


class Answer:
    """Reads the answer of one run. ``schema`` is what a model is told, None for plain words.

    Providers want an object at the top, so anything else travels as ``{"result": ...}``.
    """

    def __init__(self, type_: Any, what: str) -> None:
        self.is_text = type_ is str
        self.schema: dict[str, Any] | None = None
        if self.is_text:
            return
        schema = output_schema(type_)
        self._wrapped = not _is_object(schema)
        self.schema = _wrap(schema) if self._wrapped else schema
        self._codec = Codec(type_, schema, what=what, invalid=InvalidOutput)

    def read(self, text: str) -> Any:
        """The value. Raises: InvalidOutput that says what does not fit, for the model to mend."""
        if self.is_text:
            return text
        fenced = _FENCED.fullmatch(text)
        raw = (fenced[1] if fenced else text).strip().encode()
        return self._codec.decode(self._unwrapped(raw) if self._wrapped else raw)

    def _unwrapped(self, raw: bytes) -> bytes:
        try:
            return bytes(msgspec.json.decode(raw, type=dict[str, msgspec.Raw])[_WRAPPER])
        except (msgspec.MsgspecError, KeyError):
            return raw  # the codec says what is wrong


def _is_object(schema: dict[str, Any]) -> bool:
    return schema.get("type") == "object"


def _wrap(schema: dict[str, Any]) -> dict[str, Any]:
    inner = {name: value for name, value in schema.items() if name != "$defs"}
    defs = {"$defs": schema["$defs"]} if "$defs" in schema else {}
    return {"type": "object", "properties": {_WRAPPER: inner}, "required": [_WRAPPER], **defs}
