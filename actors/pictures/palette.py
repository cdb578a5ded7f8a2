"""The colours of states, for light and dark pages. Each text on its ground has a contrast of 4.5 to 1 or more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from actors.pictures.drawing import State

Look = State | Literal["plain"]


@dataclass(frozen=True, slots=True)
class Colours:
    """What a box is filled with, its line, and its text."""

    fill: str
    line: str
    text: str


LIGHT: dict[Look, Colours] = {
    "plain": Colours("#f6f8fa", "#8c959f", "#1f2328"),
    "waiting": Colours("#fff8e1", "#b7860b", "#5c4400"),
    "running": Colours("#e3f0ff", "#0969da", "#0a3069"),
    "completed": Colours("#e2f6e6", "#1a7f37", "#0c4a1e"),
    "skipped": Colours("#eceff2", "#9aa2ab", "#57606a"),
    "failed": Colours("#ffe7e5", "#cf222e", "#82071e"),
    "cancelled": Colours("#eeeaf3", "#77659b", "#43355f"),
    "compensated": Colours("#fdeadb", "#bc4c00", "#6b2b00"),
}
DARK: dict[Look, Colours] = {
    "plain": Colours("#21262d", "#7d8590", "#e6edf3"),
    "waiting": Colours("#3a2d08", "#d4a72c", "#f5e3a8"),
    "running": Colours("#0d2c52", "#58a6ff", "#cae3ff"),
    "completed": Colours("#10331b", "#3fb950", "#bff0c8"),
    "skipped": Colours("#1c2128", "#636c76", "#a3acb6"),
    "failed": Colours("#4a1417", "#f85149", "#ffd3cf"),
    "cancelled": Colours("#2d2540", "#a48fd0", "#ddd2f3"),
    "compensated": Colours("#43230c", "#f0883e", "#ffdcc0"),
}
GROUND = {"light": "#ffffff", "dark": "#0d1117"}
INK = {"light": "#1f2328", "dark": "#e6edf3"}
ARROW = {"light": "#57606a", "dark": "#9aa4af"}
