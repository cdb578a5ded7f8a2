"""What a run has to show for what it says: the calls of tools that gave something. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from actors.agents.tool_use import MadeCall
from actors.roles.work import Evidence, Work
from store.artifact import Artifact, artifacts_in

ASKED_CHARS = 600
EXCERPT_CHARS = 600
MOST_ORIGINS = 12
# A rough look: what is taken for a table and is none does no harm, since it only tells people where to look.
_TABLE = re.compile(r"\b(?:from|join)\s+([\w.\"`\[\]]+)", re.IGNORECASE)
_WITH = re.compile(r"(?:\bwith(?:\s+recursive)?|,)\s+([\w\"`]+)\s*(?:\([^)]*\)\s*)?as\s*\(", re.IGNORECASE)
_SELECT = re.compile(r"\s*(?:with|select|explain)\b", re.IGNORECASE)
_QUOTES = str.maketrans("", "", '"`[]')


def work_of(text: str, calls: Iterable[MadeCall]) -> Work:
    """The answer with the calls that stand behind it, in their order."""
    evidence: list[Evidence] = []
    artifacts: dict[str, Artifact] = {}
    for made in calls:
        evidence.append(_evidence(made))
        for found in artifacts_in(made.output):
            artifacts[found.name] = found  # what was made anew under the same name is what counts
    return Work(text=text, evidence=tuple(evidence), artifacts=tuple(artifacts.values()))


def _evidence(made: MadeCall) -> Evidence:
    origins = dict.fromkeys((*_origins(made.input), *_addresses(made.output)))
    return Evidence(
        call=made.call, tool=made.tool, asked=_cut(_json(made.input), ASKED_CHARS),
        origins=tuple(origins)[:MOST_ORIGINS], excerpt=_cut(_json(made.output), EXCERPT_CHARS),
    )  # fmt: skip


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _origins(asked: Any) -> Iterator[str]:
    """What the input names: tables of a query, addresses, files."""
    values = asked.values() if isinstance(asked, dict) else ()
    for value in values:
        if isinstance(value, str) and _SELECT.match(value):
            yield from (f"table {name}" for name in tables_in(value))
    yield from (f"file {found.name}" for found in artifacts_in(asked))
    yield from _addresses(asked)


def tables_in(query: str) -> list[str]:
    """The tables that a SELECT names, without its own WITH names."""
    own = {name.translate(_QUOTES).lower() for name in _WITH.findall(query)}
    names = (name.translate(_QUOTES) for name in _TABLE.findall(query))
    return list(dict.fromkeys(name for name in names if name and name.lower() not in own))


def _addresses(value: Any) -> Iterator[str]:
    """Each ``url`` in it, however deep."""
    match value:
        case dict():
            url = value.get("url")
            if isinstance(url, str) and url.startswith(("http://", "https://")):
                yield url
            for each in value.values():
                yield from _addresses(each)
        case list():
            for each in value:
                yield from _addresses(each)
        case _:
            return


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"
