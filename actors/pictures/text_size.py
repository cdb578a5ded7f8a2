"""How wide a text will be, without a font at hand: by the widths of DejaVu Sans, which is one of the wide ones.

A box that is made for it holds the text in any usual sans-serif font. Widths are in units of the font's size.
"""

from __future__ import annotations

import unicodedata

_NARROW, _PLAIN, _CAPITAL, _BROAD, _FULL = 0.4, 0.64, 0.74, 1.0, 1.15
_NARROW_LETTERS = frozenset("fijlrtI .,:;|!'()[]-/\\\"")
_BROAD_LETTERS = frozenset("mwMWO@%&QGN#<>=+~…—")
_BOLD = 1.12


def text_width(text: str, size: float, *, is_bold: bool = False) -> float:
    """The width of one line in the unit of ``size``; rather too much than too little."""
    return sum(map(_letter_width, text)) * size * (_BOLD if is_bold else 1.0)


def shortened(text: str, limit: float, size: float, *, is_bold: bool = False) -> str:
    """The text on one line, cut with an ellipsis if it is wider than ``limit``."""
    text = " ".join(text.split())
    if text_width(text, size, is_bold=is_bold) <= limit:
        return text
    room, kept = limit - text_width("…", size, is_bold=is_bold), 0
    while kept < len(text) and (room := room - text_width(text[kept], size, is_bold=is_bold)) >= 0:
        kept += 1
    return text[:kept].rstrip() + "…"


def _letter_width(letter: str) -> float:
    if letter in _NARROW_LETTERS:
        return _NARROW
    if letter in _BROAD_LETTERS:
        return _BROAD
    if letter.isascii():
        return _CAPITAL if letter.isupper() else _PLAIN
    if unicodedata.combining(letter):
        return 0.0
    return _FULL if unicodedata.east_asian_width(letter) in "WFA" or ord(letter) > 0xFFFF else 0.85
