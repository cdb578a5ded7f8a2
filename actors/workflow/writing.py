"""Documents as text: YAML and JSON that are read back as the same values."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import yaml

from actors.workflow.document import Document
from actors.workflow.yaml_reading import read_scalar

_WIDTH = 110
# PyYAML would fold a text at those, and only double quotes escape them.
_BREAKS = frozenset("\x85\u2028\u2029")
_FIRST = ("id", "kind")


def plain(document: Document) -> dict[str, Any]:
    """The document as plain values, without what is so by itself; steps begin with their id."""
    return dict(_in_order(msgspec.to_builtins(document)))


def _in_order(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_in_order(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    first = [name for name in _FIRST if name in value and "kind" in value]
    return {name: _in_order(value[name]) for name in dict.fromkeys((*first, *value))}


def by_rank(value: dict[str, Any]) -> dict[str, Any]:
    """The same with the fields of the top in the order of a document's."""
    rank = {name: number for number, name in enumerate(("extends", *Document.__struct_encode_fields__))}
    return dict(sorted(value.items(), key=lambda item: rank.get(item[0], len(rank))))


def to_yaml(value: dict[str, Any]) -> str:
    """YAML as this project reads it (1.2), in the order of the mappings."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH,
                          default_flow_style=None)  # fmt: skip
    return text


def to_json(value: dict[str, Any]) -> str:
    """JSON with two blanks for each level."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - PyYAML's name for what it asks
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)


def _text(dumper: _Dumper, value: str) -> yaml.ScalarNode:
    # PyYAML quotes what YAML 1.1 would take for something else; ours is 1.2, where other texts are numbers.
    style = None if read_scalar(value) is value else "'"
    if not _BREAKS.isdisjoint(value):
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
