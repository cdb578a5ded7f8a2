"""Where two requests differ: what a person is told whose request is not the one that was recorded. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from actors.model.exchange import KeptExchange

_PLAIN = re.compile(r"[\w-]+")
SHOWN_CHARS = 60
SHOWN_FIELDS = 3
# Stands for a field that one side does not have; no value of JSON is it.
NOTHING = object()


class FieldDifference(NamedTuple):
    """A field, such as ``messages[2].parts[0].text``, with what it was and what it is; NOTHING where it is not."""

    field: str
    recorded: Any
    asked: Any

    def __str__(self) -> str:
        at = _first_difference(self.recorded, self.asked)
        return f"{self.field or 'request'}: recorded {_shown(self.recorded, at)}, asked {_shown(self.asked, at)}"


def request_differences(recorded: Any, asked: Any, field: str = "") -> Iterator[FieldDifference]:
    """Each innermost place at which two plain values differ."""
    if isinstance(recorded, dict) and isinstance(asked, dict):
        for name in [*recorded, *(name for name in asked if name not in recorded)]:
            yield from request_differences(recorded.get(name, NOTHING), asked.get(name, NOTHING), _inner(field, name))
    elif isinstance(recorded, list) and isinstance(asked, list):
        for place in range(max(len(recorded), len(asked))):
            yield from request_differences(_at(recorded, place), _at(asked, place), f"{field}[{place}]")
    elif recorded is not asked and (type(recorded) is not type(asked) or recorded != asked):
        yield FieldDifference(field, recorded, asked)


def nearest(kept: Iterable[KeptExchange], request: dict[str, Any]) -> tuple[int, Sequence[FieldDifference]] | None:
    """The line whose request differs least, with the differences. None if nothing is kept."""
    differing = [(each.line, list(request_differences(each.exchange.request, request))) for each in kept]
    return min(differing, key=lambda each: len(each[1]), default=None)


def told(differences: Sequence[FieldDifference]) -> str:
    """The first differences, and how many more there are."""
    more = len(differences) - SHOWN_FIELDS
    return "; ".join(str(each) for each in differences[:SHOWN_FIELDS]) + (f"; and {more} more" if more > 0 else "")


def _inner(field: str, name: str) -> str:
    """The field of a name; one that a path would not show as it is stands in brackets, so no two look alike."""
    if not _PLAIN.fullmatch(name):
        return f"{field}[{msgspec.json.encode(name).decode()}]"
    return f"{field}.{name}" if field else name


def _at(values: list[Any], place: int) -> Any:
    return values[place] if place < len(values) else NOTHING


def _first_difference(recorded: Any, asked: Any) -> int:
    if not (isinstance(recorded, str) and isinstance(asked, str)):
        return 0
    pairs = enumerate(zip(recorded, asked, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(recorded), len(asked)))


def _shown(value: Any, at: int) -> str:
    """A value, or of a long text the part around the place that matters."""
    if value is NOTHING:
        return "nothing"
    if not isinstance(value, str):
        text = msgspec.json.encode(value).decode()
        return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."
    if len(value) <= SHOWN_CHARS:
        return repr(value)
    start = max(0, at - SHOWN_CHARS // 3)
    end = start + SHOWN_CHARS
    return f"{'...' if start else ''}{value[start:end]!r}{'...' if end < len(value) else ''}"
