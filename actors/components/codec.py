"""JSON in and out of a component, checked against its types; every refusal says what is wrong and at which path.

Built once per component: the happy path is one C call to decode and three to encode. All explaining happens after a
failure, where it may cost what it likes.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

from actors.components.schema import fields_at
from bus.errors import UsageError
from store.json_place import field_hint, field_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ENCODER = msgspec.json.Encoder()
_AT = re.compile(r"(?P<message>.*?)(?: - at (?P<key>`key` in )?`(?P<path>\$[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_BYTE = re.compile(r"(?:JSON is malformed: )?(?P<reason>.*) \(byte (?P<at>\d+)\)")
# A path longer than this helps nobody, and a value that holds itself has no end.
_PATH_LIMIT_STEPS = 100
# A field name or an enum value of the sender's may have any size, and goes into a message that is logged.
_TEXT_LIMIT_CHARS = 300


class InvalidInput(UsageError):
    """A component cannot take this input; ``path`` is the place in it, such as ``$.items[2].qty``."""

    def __init__(self, message: str, *, code: str = "invalid_input", path: str = "", hint: str = "") -> None:
        super().__init__(message, code=code, path=path, hint=hint)


class InvalidOutput(UsageError):
    """A component returned what its annotation does not allow, or what is no JSON; ``path`` is the place in it."""

    def __init__(self, message: str, *, code: str = "invalid_output", path: str = "", hint: str = "") -> None:
        super().__init__(message, code=code, path=path, hint=hint)


class Codec:
    """Writes and reads one type; ``what`` names it in errors ("input of tool quote")."""

    __slots__ = ("_decoder", "_invalid", "_schema", "_type", "_what")

    def __init__(
        self, type_: Any, schema: dict[str, Any], *, what: str, invalid: type[InvalidInput | InvalidOutput]
    ) -> None:
        self._type = type_
        self._schema = schema
        self._what = what
        self._invalid = invalid
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(type_)

    def decode(self, raw: bytes) -> Any:
        """Read and check. Raises: InvalidInput or InvalidOutput, code ``invalid_json`` if it is no JSON at all."""
        try:
            return self._decoder.decode(raw)
        except Exception as error:  # a __post_init__ of the user's may raise anything
            raise self._unreadable(raw, error) from error

    def encode(self, value: Any) -> bytes:
        """Check and write. Raises: InvalidInput or InvalidOutput."""
        try:
            raw = _ENCODER.encode(value)
            # msgspec writes NaN and Infinity as null; only where a null came out can one have gone in.
            lossy = b"null" in raw and _holds_no_number(value)
        except Exception as error:  # circular, or a property of the user's raised
            raise self._unwritable(value, error) from error
        if lossy:
            raise self._not_finite(value)
        self._check(value)
        self.decode(raw)
        return raw

    def _check(self, value: Any) -> None:
        """Refuse what JSON would make right, such as a UUID for a str; reading back looks inside of Structs."""
        if self._type is Any:
            return
        try:
            msgspec.convert(value, self._type)
        except Exception as error:
            # Objects are compared by their fields, not by their class: a subclass or a dict of the right shape will do.
            if "Expected `object`" not in str(error):
                raise self._refusal(error) from error

    # ---- explaining

    def _unreadable(self, raw: bytes, error: Exception) -> UsageError:
        if (problem := _syntax_problem(raw)) is None:
            return self._refusal(error)
        reason, at = problem
        before = raw[:at]
        line, column = before.count(b"\n") + 1, at - (before.rfind(b"\n") + 1) + 1
        return self._invalid(
            f"{self._what} is not JSON: {reason} at byte {at} (line {line}, column {column})",
            code="invalid_json",
            path="$",
            hint=_json_hint(raw, at),
        )

    def _refusal(self, error: Exception) -> UsageError:
        """What msgspec, or a ``__post_init__``, has against the value."""
        if isinstance(error, RecursionError):
            return self._error("nested too deeply", "$")
        if not isinstance(error, msgspec.ValidationError):
            return self._error(f"{type(error).__name__}: {error}", "$")
        found = _AT.fullmatch(str(error))
        assert found is not None  # every text matches
        message, path = found["message"], found["path"] or "$"
        if missing := _MISSING.fullmatch(message):
            return self._error(f"missing required field `{missing[1]}`", field_of(path, missing[1]))
        if unknown := _UNKNOWN.fullmatch(message):
            hint = field_hint(unknown[1], fields_at(self._schema, path))
            return self._error(f"unknown field `{unknown[1]}`", field_of(path, unknown[1]), hint)
        if path == "$" and message.startswith("Expected `object`, got"):
            return self._error(message, path, _object_hint(fields_at(self._schema, path)))
        return self._error(f"a key of the object: {message}" if found["key"] else message, path)

    def _unwritable(self, value: Any, error: Exception) -> UsageError:
        if isinstance(error, RecursionError):
            return self._error("holds itself, or is nested too deeply for JSON", "$")
        path, culprit = _deepest(value, _is_unwritable)
        name = type(culprit).__name__
        if isinstance(culprit, dict):
            return self._error("an object's keys must be strings or numbers", path)
        if isinstance(error, UnicodeEncodeError):
            return self._error("text with a lone surrogate is no UTF-8", path)
        return self._error(f"a `{name}` cannot be written as JSON", path, _write_hint(culprit))

    def _not_finite(self, value: Any) -> UsageError:
        path, culprit = _deepest(value, _holds_no_number)
        return self._error(f"{culprit!r} cannot be written as JSON", path, "use None where there is no number")

    def _error(self, message: str, path: str, hint: str = "") -> UsageError:
        return self._invalid(f"{self._what}, {_clip(path)}: {_clip(message)}", path=_clip(path), hint=hint)


# ---- syntax


def _syntax_problem(raw: bytes) -> tuple[str, int] | None:
    """What makes this no JSON, and at which byte; None if it is JSON."""
    try:
        raw.decode()
        msgspec.json.decode(raw)
    except UnicodeDecodeError as error:
        return f"0x{raw[error.start]:02x} is not UTF-8", error.start
    except (msgspec.ValidationError, RecursionError):
        return None
    except msgspec.DecodeError as error:
        found = _BYTE.fullmatch(str(error))
        return (found["reason"], int(found["at"])) if found else ("it ends too early", len(raw))
    return None


def _json_hint(raw: bytes, at: int) -> str:
    if raw.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        return "send UTF-8 without a byte order mark"
    if raw[at:].lstrip(b"-").startswith((b"NaN", b"Inf")):
        return "NaN and Infinity are no JSON; use null"
    if raw[at:].startswith((b"'", b"True", b"False", b"None")):
        return "this looks like Python; JSON has double quotes, true, false and null"
    return ""


# ---- paths


def _clip(text: str) -> str:
    return text if len(text) <= _TEXT_LIMIT_CHARS else f"{text[:_TEXT_LIMIT_CHARS]}…"


def _deepest(value: Any, bad: Callable[[Any], bool]) -> tuple[str, Any]:
    """Follow the bad part down to the value that is to blame."""
    path = "$"
    for _ in range(_PATH_LIMIT_STEPS):
        for step, child in _children(path, value):
            if bad(child):
                path, value = step, child
                break
        else:
            break
    return path, value


def _children(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    match value:
        case dict():
            yield from ((field_of(path, str(key)), child) for key, child in value.items())
        case list() | tuple() | set() | frozenset():
            yield from ((f"{path}[{i}]", child) for i, child in enumerate(value))
        case msgspec.Struct():
            names = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
            yield from ((field_of(path, wire), getattr(value, name)) for wire, name in names)
        case _ if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = (f.name for f in dataclasses.fields(value) if hasattr(value, f.name))
            yield from ((field_of(path, name), getattr(value, name)) for name in fields)


def _is_unwritable(value: Any) -> bool:
    try:
        _ENCODER.encode(value)
    except Exception:  # noqa: BLE001 - any failure at all is the answer
        return True
    return False


def _holds_no_number(value: Any) -> bool:
    """Whether a NaN or an Infinity is somewhere inside; the standard library's encoder is the fast way to ask."""
    try:
        # The hook is asked for what the encoder wrote and to_builtins does not know: msgspec.Raw.
        plain = msgspec.to_builtins(value, str_keys=True, enc_hook=lambda _: None)
        json.dumps(plain, allow_nan=False, check_circular=False)
    except ValueError:
        return True
    return False


# ---- hints


def _object_hint(known: list[str]) -> str:
    fields = ", ".join(f'"{name}": ...' for name in known[:3])
    return f"it must be an object: {{{fields}}}"


def _write_hint(culprit: Any) -> str:
    if inspect.isawaitable(culprit):
        return "an await is missing"
    if inspect.isgenerator(culprit) or inspect.isasyncgen(culprit):
        return "collect it into a list first"
    return "use a Struct, a dataclass, a dict, a list or a plain value"
