"""Figures that the program made and did not save: each becomes a file in the working directory."""

from __future__ import annotations

import os
import sys
from typing import Any


def save_figures(value: object, names: dict[str, Any]) -> str:
    """Save open figures of matplotlib as PNG, and those of plotly that have a name or are the value, as HTML.

    Returns what could not be saved, in words.
    """
    problems: list[str] = []
    for number, (kind, save) in enumerate([*_matplotlib(), *_plotly([*names.values(), value])], start=1):
        try:
            save(_free_name(f"figure-{number}", kind))
        except Exception as error:  # noqa: BLE001 - the program did its work; a figure less is said, not fatal
            problems.append(f"figure {number}: {type(error).__name__}: {error}")
    return "; ".join(problems)[:1000]


def _free_name(stem: str, kind: str) -> str:
    name = f"{stem}.{kind}"
    while os.path.lexists(name):
        stem += "x"
        name = f"{stem}.{kind}"
    return name


def _matplotlib() -> list[tuple[str, Any]]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None:
        return []
    return [("png", pyplot.figure(number).savefig) for number in pyplot.get_fignums()]


def _plotly(values: list[object]) -> list[tuple[str, Any]]:
    if "plotly" not in sys.modules:
        return []
    distinct = {id(one): one for one in values if type(one).__module__.startswith("plotly.graph_objs")}
    return [("html", lambda name, one=one: one.write_html(name, include_plotlyjs="cdn")) for one in distinct.values()]
