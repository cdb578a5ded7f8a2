"""Components: ``callboard components``, as a table, or one by one with their schemas (``--schema``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from actors.components.agent_card import AgentCard
from actors.components.component import ComponentInfo
from actors.components.version import parse_version
from actors.console.amount import duration, plural
from actors.console.page import Block, Column, Gap, Page, SheetBuilder, Span, clean, facts, line, one_line

_DEPTH_LIMIT = 8


@dataclass(frozen=True)
class ComponentRow:
    """A component and how many of its replicas run on which node."""

    info: ComponentInfo
    replicas: Mapping[str, int] = field(default_factory=dict)


def component_page(rows: Sequence[ComponentRow]) -> Page:
    """A table by kind and name, the newest version first."""
    if not rows:
        return [
            line(Span("no component is registered", "warn")),
            line(Span("next: ", "dim"), "callboard up APP", Span("   start a node with an app", "dim")),
        ]
    builder = SheetBuilder(
        [
            Column("kind"),
            Column("name"),
            Column("version"),
            Column("app"),
            Column("replicas", "right"),
            Column("runs on", shrink=True),
            Column("description", shrink=True),
        ]
    )
    for row in _sorted(rows):
        info, running = row.info, sum(row.replicas.values())
        builder.add(
            Span(info.kind, "kind"),
            Span(one_line(info.name), "name"),
            one_line(info.version),
            one_line(info.app),
            Span(str(running), "" if running else "warn"),
            _places(row) if running else Span("not running", "dim"),
            Span(one_line(info.description.partition("\n")[0]), "dim"),
        )
    return [builder.sheet(plural(len(rows), "component"))]


def _sorted(rows: Sequence[ComponentRow]) -> list[ComponentRow]:
    newest_first = sorted(rows, key=lambda row: parse_version(row.info.version, "version"), reverse=True)
    return sorted(newest_first, key=lambda row: (row.info.kind, row.info.name))


def _places(row: ComponentRow) -> Span:
    places = [f"{one_line(node)}{f' x{n}' if n > 1 else ''}" for node, n in sorted(row.replicas.items()) if n]
    return Span(", ".join(places))


def _for_each(key: str) -> str:
    return f" for each {one_line(key)}" if key else ""


# ---- one component in full


def schema_page(rows: Sequence[ComponentRow]) -> Page:
    """Each component with what it takes, what it gives, and its policies."""
    pages = [_detail(row) for row in _sorted(rows)]
    return [block for page in pages for block in (*page, Gap())][:-1] or component_page(rows)


def _detail(row: ComponentRow) -> Page:
    info = row.info
    title = line(Span(info.kind, "kind"), " ", Span(one_line(info.name), "strong"), " ", one_line(info.version))
    described = [line(Span(text, "dim"), indent=2) for text in clean(info.description).strip().split("\n") if text]
    blocks: list[Block] = [title, *described]
    blocks.append(
        facts(
            [
                ("app", one_line(info.app)),
                ("runs on", _places(row) if any(row.replicas.values()) else Span("not running", "dim")),
                ("time limit", duration(info.timeout_s)),
                ("attempts", str(info.retry.attempts) if info.kind == "tool" else ""),
                ("concurrency", str(info.concurrency) if info.kind == "tool" else ""),
                ("at once", f"{info.at_once.limit}{_for_each(info.at_once.key)}" if info.at_once else ""),
                ("cache", duration(info.cache_ttl_s) if info.cache_ttl_s else ""),
                ("assets", ", ".join(f"{one_line(name)} {one_line(v)}" for name, v in info.assets.items())),
                ("rate", f"{info.rate.limit} in {info.rate.per_s:g} s{_for_each(info.rate.key)}" if info.rate else ""),
                ("read only", "it changes nothing" if info.read_only else ""),
                *_agent_facts(info.agent),
            ]
        )
    )
    return [*blocks, *_fields("takes", info.input_schema), *_fields("gives", info.output_schema)]


def _agent_facts(agent: AgentCard | None) -> list[tuple[str, str]]:
    if agent is None:
        return []
    limited = "it is offered only tools that change nothing" if agent.read_only else ""
    tools = ", ".join(one_line(ref) for ref in agent.tools)
    return [("model", one_line(agent.model)), ("tools", tools), ("read only", limited)]


def _fields(title: str, schema: Mapping[str, Any]) -> list[Block]:
    root = resolved(schema, schema)
    properties = root.get("properties")
    if not properties:
        return [line(Span(f"{title}: ", "dim"), type_text(schema, schema))]
    required = set(root.get("required", ()))
    builder = SheetBuilder([Column(title), Column("type", shrink=True), Column("default"), Column("", shrink=True)])
    for name, field_schema in properties.items():
        default = _json(field_schema["default"]) if "default" in field_schema else ""
        builder.add(
            Span(one_line(name), "name"),
            type_text(field_schema, schema),
            default or (Span("required", "dim") if name in required else Span("optional", "dim")),
            Span(one_line(resolved(field_schema, schema).get("description", "")), "dim"),
        )
    return [builder.sheet()]


def type_text(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> str:
    """A JSON Schema in a few words: ``string``, ``list of integer``, ``Address {street, city}``, ``"a" or "b"``."""
    if depth > _DEPTH_LIMIT:
        return "..."
    name = _ref_name(schema)
    schema = resolved(schema, root)
    if "enum" in schema:
        return " or ".join(_json(value) for value in schema["enum"])
    if "const" in schema:
        return _json(schema["const"])
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(type_text(part, root, depth + 1) for part in schema[union]))
    return _plain_type(schema, root, name, depth)


def _plain_type(schema: Mapping[str, Any], root: Mapping[str, Any], name: str, depth: int) -> str:
    kind = schema.get("type")
    match kind:
        case "array":
            items = schema.get("items")
            return f"list of {type_text(items, root, depth + 1)}" if isinstance(items, dict) else "list"
        case "object" if "properties" in schema:
            return f"{name or schema.get('title', 'object')} {{{', '.join(schema['properties'])}}}"
        case "object":
            values = schema.get("additionalProperties")
            return f"object of {type_text(values, root, depth + 1)}" if isinstance(values, dict) else "object"
        case list():
            return " or ".join(kind)
        case str():
            form = schema.get("format") or schema.get("contentEncoding")
            return f"{kind} ({form})" if form else kind
        case _:
            return "anything"


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that a local ``$ref`` names; a description beside the reference is kept."""
    target: Any = schema
    for _ in range(_DEPTH_LIMIT):
        if not isinstance(target, Mapping) or "$ref" not in target:
            break
        found: Any = root
        for part in str(target["$ref"]).removeprefix("#/").split("/"):
            found = found.get(part, {}) if isinstance(found, Mapping) else {}
        target = {**found, **{key: value for key, value in target.items() if key != "$ref"}}
    return target if isinstance(target, Mapping) else {}


def _ref_name(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2] if "$ref" in schema else ""


def _json(value: Any) -> str:
    return one_line(msgspec.json.encode(value).decode(), 60)
