"""Settings of kits as text: on a command line (``url=sqlite:///x.db``) and in the environment (``CALLBOARD_SQL_URL``).

What may be set is what the kit's class takes. A list is separated by commas, or JSON as any other value. Pure.
"""

from __future__ import annotations

import contextlib
import inspect
import re
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from actors.toolbox.kit import Kit
from bus.errors import UsageError

_PREFIX = "CALLBOARD_"
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Names that read as one word where they are written in small letters.
_WORDS = {"GitHub": "github"}


@dataclass(frozen=True, slots=True)
class Setting:
    """One parameter of a kit's class."""

    name: str
    type: Any
    is_required: bool


def kit_word(kit: type[Kit]) -> str:
    """``WebSearch`` as ``web_search``."""
    return _WORDS.get(kit.__name__) or _WORD.sub("_", kit.__name__).lower()


def variable_of(kit: type[Kit], setting: str) -> str:
    """The environment variable of a setting: ``CALLBOARD_SQL_URL``."""
    return f"{_PREFIX}{kit_word(kit)}_{setting}".upper()


def settings_of(kit: type[Kit]) -> dict[str, Setting]:
    """What the kit's class takes, by name."""
    hints = typing.get_type_hints(kit.__init__)
    empty = inspect.Parameter.empty
    parameters = inspect.signature(kit).parameters.values()
    return {
        each.name: Setting(each.name, hints.get(each.name, Any), each.default is empty)
        for each in parameters
        if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    }


def from_environment(kit: type[Kit], environ: Mapping[str, str]) -> dict[str, str]:
    """The settings of the kit that the environment has, as text; an empty variable says nothing."""
    found = {name: environ.get(variable_of(kit, name), "") for name in settings_of(kit)}
    return {name: text for name, text in found.items() if text}


def build(kit: type[Kit], given: Mapping[str, Any]) -> Kit:
    """The kit with these settings. Raises: UsageError for one that is missing, unknown or of another type."""
    known = settings_of(kit)
    for name in given:
        if name not in known:
            raise UsageError(f"{kit.__name__} has no setting {name!r}", code="bad_setting", path=name,
                             hint=f"it has {', '.join(known)}")  # fmt: skip
    for name, setting in known.items():
        if setting.is_required and name not in given:
            raise UsageError(f"{kit.__name__} needs the setting {name}", code="no_setting", path=name,
                             hint=f"{name}=..., or {variable_of(kit, name)} in the environment")  # fmt: skip
    return kit(**{name: _value(kit, known[name], value) for name, value in given.items()})


def _value(kit: type[Kit], setting: Setting, value: Any) -> Any:
    if isinstance(value, str) and (as_text := _as_text(setting.type, value)) is not None:
        return as_text
    forms = [value, *_forms(value)] if isinstance(value, str) else [value]
    for form in forms:
        with contextlib.suppress(msgspec.ValidationError, TypeError):
            return msgspec.convert(form, setting.type, strict=not isinstance(value, str))
    raise UsageError(
        f"{kit.__name__}: {setting.name} cannot be {value!r}", code="bad_setting", path=setting.name,
        hint=f"it is {_type_text(setting.type)}; a list is separated by commas, and {setting.name}:= takes JSON",
    )  # fmt: skip


def _as_text(hint: Any, value: str) -> Any:
    """Where a text will do it is taken as it stands, also for a path."""
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    kinds = set(typing.get_args(hint)) if is_union else {hint}
    if str in kinds or hint is Any:
        return value
    return Path(value) if Path in kinds else None


def _forms(text: str) -> Iterator[Any]:
    """What a text may stand for where a text itself will not do."""
    if text[:1] in ("{", "["):
        with contextlib.suppress(msgspec.DecodeError):
            yield msgspec.json.decode(text)
    yield _parts(text)


def _parts(text: str) -> list[str]:
    return [part for each in text.split(",") if (part := each.strip())]


def _type_text(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
