"""Expressions in a builder's values: a text alone would be a text."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_PLAIN = re.compile(r"[A-Za-z_]\w*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Expr:
    """A CEL expression. ``e["total"]`` and ``e[0]`` are the expressions of a member and of an item."""

    text: str

    def __str__(self) -> str:
        return self.text

    def __getitem__(self, member: str | int) -> Expr:
        if isinstance(member, str) and _PLAIN.fullmatch(member):
            return Expr(f"{self.text}.{member}")
        return Expr(f"{self.text}[{json.dumps(member, ensure_ascii=False)}]")

    def __iter__(self) -> None:
        # Without this, Python would go along e[0], e[1] and so on for ever.
        raise TypeError("an expression has no items before it is evaluated")


def expr(text: str) -> Expr:
    """An expression as a value, such as ``expr("input.sku")``: what is ``${ input.sku }`` in a document."""
    return Expr(text)
