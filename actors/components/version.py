"""Semantic versions (semver.org 2.0.0): checked when a component is declared, ordered to find the newest one."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bus.errors import UsageError

_NUMBER = r"(?:0|[1-9]\d*)"
_IDENTIFIER = rf"(?:{_NUMBER}|\d*[A-Za-z-][0-9A-Za-z-]*)"
_SEMVER = re.compile(
    rf"({_NUMBER})\.({_NUMBER})\.({_NUMBER})"
    rf"(?:-({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)


@dataclass(frozen=True, order=True, slots=True)
class Version:
    """A version as semver orders it: a pre-release comes before its release, build metadata does not count."""

    major: int
    minor: int
    patch: int
    released: bool
    pre: tuple[tuple[bool, int, str], ...]


def parse_version(text: object, what: str) -> Version:
    """Read ``text`` as a semantic version; ``what`` names it in the error. Raises: UsageError."""
    found = _SEMVER.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise UsageError(
            f"{what} {text!r} is no semantic version",
            code="bad_version",
            path=what,
            hint="write it as major.minor.patch, such as 1.2.0",
        )
    major, minor, patch, pre = found.groups()
    identifiers = tuple(_rank(i) for i in pre.split(".")) if pre else ()
    return Version(int(major), int(minor), int(patch), not pre, identifiers)


def _rank(identifier: str) -> tuple[bool, int, str]:
    """Numbers order as numbers and come before words."""
    return (False, int(identifier), "") if identifier.isdigit() else (True, 0, identifier)
