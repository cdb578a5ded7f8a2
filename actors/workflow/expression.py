"""Expressions: CEL (cel.dev), by the Rust implementation that Python package ``cel`` wraps.

The library says whether a text is an expression and which variables and functions it names, those included that a
macro binds (``x`` in ``list.map(x, x * 2)``). It does not say which member of a variable is meant, so members are read
from the words of a text that it has accepted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

LENGTH_LIMIT_CHARS = 4_000
_WHOLE = re.compile(r"\s*\$\{(.*)\}\s*", re.DOTALL)
_TOKEN = re.compile(
    r"""(?P<text>[rRbB]{0,2}(?:\"\"\"(?:\\.|[^\\])*?\"\"\"|'''(?:\\.|[^\\])*?'''|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'))"""
    r"|(?P<comment>//[^\n]*)|(?P<word>[A-Za-z_]\w*)|(?P<number>\d[\w.]*)|(?P<sign>[^\s\w])",
    re.DOTALL | re.ASCII,
)
# Most expressions have no texts, brackets, comments or blanks beside a dot: one search finds the members of those.
_NOT_PLAIN = re.compile(r"[\"'\[(`]|//|\s\.|\.\s")
_DOTTED = re.compile(r"(?<![\w.])([A-Za-z_]\w*)\.([A-Za-z_]\w*)(?:\.([A-Za-z_]\w*))?", re.ASCII)
_SELECTION = frozenset(("_[_]",))
_BINDERS = frozenset({"all", "exists", "exists_one", "existsOne", "map", "filter"})
MACRO = re.compile(rf"\b(?:{'|'.join(sorted(_BINDERS))})\b")
_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")
FUNCTIONS = frozenset((
    "size", "contains", "startsWith", "endsWith", "matches", "int", "uint", "double", "string", "bytes",
    "bool", "type", "dyn", "duration", "timestamp", "min", "max", "getFullYear", "getMonth", "getDayOfYear",
    "getDayOfMonth", "getDate", "getDayOfWeek", "getHours", "getMinutes", "getSeconds", "getMilliseconds",
    "has", "all", "exists", "exists_one", "existsOne", "map", "filter"
))  # fmt: skip


class Member(NamedTuple):
    """``name`` of the variable ``root``, and what of it: ``steps.quote.output`` is steps, quote, output."""

    root: str
    name: str
    attribute: str


class Expression(NamedTuple):
    """What an expression refers to. ``constant`` is its value if it refers to nothing and is true or false.

    ``may_be_route``: it does nothing but, at most, select members.
    """

    variables: frozenset[str]
    functions: frozenset[str]
    members: tuple[Member, ...]
    constant: bool | None
    may_be_route: bool = False


class BadExpression(NamedTuple):
    """Why a text is no expression."""

    message: str
    hint: str = ""


def embedded(text: str) -> str | None:
    """The expression in a text that is ``${ ... }`` as a whole; None if it is a plain text."""
    found = _WHOLE.fullmatch(text) if "${" in text else None
    return None if found is None or _closes_early(found[1]) else found[1].strip()


def _closes_early(inner: str) -> bool:
    """Whether this is two of them, as in ``${a} and ${b}``."""
    return "${" in inner and "${" in "".join(token[0] for token in tokens(inner) if not token["text"])


def without_texts(text: str) -> str:
    """The expression with empty texts in it, and without comments."""
    if not _NOT_PLAIN.search(text):
        return text
    return _TOKEN.sub(lambda found: '""' if found["text"] else "" if found["comment"] else found[0], text)


def parse(text: str) -> Expression | BadExpression:
    """Compile and look. Nothing is raised, whatever the text."""
    if len(text) > LENGTH_LIMIT_CHARS:
        return BadExpression(f"has {len(text):,} characters, the limit is {LENGTH_LIMIT_CHARS:,}", "split it up")
    return _parse(text)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Expression | BadExpression:
    import cel

    try:
        program = cel.compile(text)
        found = program.references()
    except (ValueError, RuntimeError) as error:
        return BadExpression(_reason(str(error)), _advice(text))
    variables = frozenset(found["variables"])
    bound = frozenset(_bound(text)) if variables and "(" in text else frozenset()
    members = _members(text) if variables else ()
    functions = frozenset([name for name in found["functions"] if name[0] not in "_@!-"])
    # Loops in loops may run for longer than anybody waits.
    is_plain = not found["variables"] and not MACRO.search(text)
    constant = _constant(program) if is_plain else None
    may_be_route = bool(variables) and _SELECTION.issuperset(found["functions"])
    return Expression(variables - bound, functions, members, constant, may_be_route)


def _constant(program: Any) -> bool | None:
    try:
        value = program.execute({})
    except Exception:  # noqa: BLE001 - it divides by zero, say: that is for the one who runs it
        return None
    return value if isinstance(value, bool) else None


def _reason(error: str) -> str:
    if found := _ERROR.search(error):
        line, column, what = found.groups()
        where = f"at character {column}" if line == "1" else f"at line {line}, character {column}"
        what = what.partition(" expecting ")[0]
        what = "it ends too early" if what.endswith("'<EOF>'") else what
        return f"{where}: {what}"
    return error.splitlines()[0][:200] if error else "it cannot be read"


def _advice(text: str) -> str:
    if "${" in text:
        return "leave out ${ }: this field is an expression already"
    for python, cel in ((" and ", "&&"), (" or ", "||"), ("not ", "!"), (" is ", "==")):
        if python in text:
            return f"write {cel} for {python.strip()!r}"
    return "quote texts" if not text.strip() or text.count("'") % 2 or text.count('"') % 2 else ""


def tokens(text: str) -> Iterator[re.Match[str]]:
    """The tokens of an expression, comments left out; each is a text, a word, a number or a sign."""
    return (found for found in _TOKEN.finditer(text) if not found["comment"])


def _bound(text: str) -> Iterator[str]:
    """Names that macros bind: ``.map(NAME,``."""
    words = [token[0] for token in tokens(text)]
    for number in range(len(words) - 4):
        dot, macro, bracket, name, comma = words[number : number + 5]
        if (dot, bracket, comma) == (".", "(", ",") and macro in _BINDERS:
            yield name


def _members(text: str) -> tuple[Member, ...]:
    """Each ``root.name`` and ``root["name"]``, with the member that follows."""
    if not _NOT_PLAIN.search(text):
        return tuple([Member(*found) for found in _DOTTED.findall(text)])
    return tuple(_members_in(list(tokens(text))))


def _members_in(found: list[re.Match[str]]) -> Iterator[Member]:
    for number, token in enumerate(found):
        if token["word"] and (number == 0 or found[number - 1][0] != "."):
            name, after = _member(found, number + 1)
            if name:
                yield Member(token[0], name, _member(found, after)[0])


def _member(found: list[re.Match[str]], at: int) -> tuple[str, int]:
    """The member whose selection begins at this token, or ""; and what comes after it."""
    rest = found[at : at + 3]
    if len(rest) >= 2 and rest[0][0] == "." and rest[1]["word"]:
        is_call = len(rest) == 3 and rest[2][0] == "("
        return ("", at) if is_call else (rest[1][0], at + 2)
    if len(rest) == 3 and (rest[0][0], rest[2][0]) == ("[", "]") and rest[1]["text"]:
        return rest[1][0].strip("\"'"), at + 3
    return "", at
