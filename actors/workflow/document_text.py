"""A document as text that reads back as the same document: YAML 1.2 as ``yaml_reading`` reads it, or JSON.

PyYAML writes YAML 1.1, which leaves texts bare that 1.2 reads as numbers (``1e3``). So a text is bare only if it is
plainly a word.
"""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec
import yaml

from actors.workflow.document import Document

TextFormat = Literal["yaml", "json"]

_BARE = re.compile(r"[A-Za-z_$][A-Za-z0-9_./@-]*(?: [A-Za-z0-9_./@>=<+*!(),'-]+)*")
_WORDS = frozenset(("null", "true", "false", "yes", "no", "on", "off", "y", "n"))
_WIDTH_CHARS = 120


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - its caller gives it
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        """Entries of a list stand deeper than its key."""
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    is_bare = _BARE.fullmatch(value) and value.casefold() not in _WORDS
    style = "|" if "\n" in value else None if is_bare else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def document_text(document: Document, format_: TextFormat) -> str:
    """The document, with what is left at its default left out."""
    values = msgspec.to_builtins(document)
    steps_last = {key: values[key] for key in values if key not in ("steps", "result")}
    values = {**steps_last, **{key: values[key] for key in ("steps", "result") if key in values}}
    if format_ == "json":
        return msgspec.json.format(msgspec.json.encode(values), indent=2).decode() + "\n"
    return str(yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH_CHARS))
