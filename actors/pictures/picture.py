"""The formats that a drawing can be written in."""

from __future__ import annotations

from typing import Literal, assert_never

from actors.pictures.dot import dot
from actors.pictures.drawing import Drawing
from actors.pictures.mermaid import mermaid
from actors.pictures.svg import svg

PictureFormat = Literal["mermaid", "dot", "svg"]


def picture(drawing: Drawing, format_: PictureFormat) -> str:
    """The text of a picture, with a line's end at its end."""
    match format_:
        case "mermaid":
            return mermaid(drawing)
        case "dot":
            return dot(drawing)
        case "svg":
            return svg(drawing)
    assert_never(format_)
