"""Inputs on a command line: ``sku=A1`` is text, ``qty:=2`` is JSON, ``--input`` is a whole object."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from bus.errors import UsageError

_WHOLE = "--input"
_WHOLE_HINT = 'an object in quotes, as in --input \'{"sku": "A1"}\', or @file, or - for standard input'
_HINT = "name=text or name:=JSON, for example sku=A1 qty:=2"


def parse_inputs(pairs: Iterable[str], whole: str | None = None) -> dict[str, Any]:
    """The input that the arguments add up to; pairs override what ``whole`` (JSON, @file or - for stdin) holds.

    Raises: UsageError that names the argument that cannot be read.
    """
    values = _whole(whole) if whole is not None else {}
    for pair in pairs:
        name, value = parse_pair(pair)
        values[name] = value
    return values


def parse_pair(pair: str) -> tuple[str, Any]:
    """One ``name=text`` or ``name:=JSON``. Raises: UsageError."""
    name, equals, text = pair.partition("=")
    is_json = name.endswith(":")
    name = name.removesuffix(":")
    if not equals or not name:
        raise UsageError(f"cannot read the input {pair!r}", code="bad_argument", hint=_HINT)
    return name, parse_json(text, name) if is_json else text


def json_hint(pairs: Iterable[str], path: str) -> str:
    """What to write if the text that was given at ``path`` of the input was meant as JSON; nothing if it was not."""
    for pair in pairs:
        name, _, text = pair.partition("=")
        if path == f"$.{name}" and not name.endswith(":"):
            try:
                msgspec.json.decode(text)
            except msgspec.DecodeError:
                return ""
            return f"{name}={text} is text; write {name}:={text} for JSON"
    return ""


def parse_json(text: str, what: str) -> Any:
    """JSON from the command line. Raises: UsageError."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        hint = _WHOLE_HINT if what == _WHOLE else f"quote it for the shell, or use {what}=text for plain text"
        raise UsageError(f"{what} is not JSON: {error}", code="bad_argument", path=what, hint=hint) from error


def _whole(source: str) -> dict[str, Any]:
    value = parse_json(_text_of(source), _WHOLE)
    if not isinstance(value, dict):
        raise UsageError("--input is no JSON object", code="bad_argument", path=_WHOLE, hint=_WHOLE_HINT)
    return value


def _text_of(source: str) -> str:
    if source == "-":
        return sys.stdin.read()
    if not source.startswith("@"):
        return source
    try:
        return Path(source[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {source[1:]}: {error}", code="no_file", path=_WHOLE) from error


def parse_counts(pairs: Iterable[str]) -> dict[str, int]:
    """``quote=4`` as counts. Raises: UsageError."""
    counts: dict[str, int] = {}
    for pair in pairs:
        name, _, text = pair.partition("=")
        if not name or not text.isdecimal() or int(text) < 1:
            raise UsageError(f"cannot read --replicas {pair!r}", code="bad_argument", hint="--replicas quote=4")
        counts[name] = int(text)
    return counts


def default_node_name() -> str:
    """The host's name as far as it can be a token of a subject."""
    host = socket.gethostname().partition(".")[0]
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in host)[:40] or "node"
