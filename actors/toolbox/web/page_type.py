"""Media types by what can be done with them. Pure."""

from __future__ import annotations

from typing import Literal

PageType = Literal["html", "text", "json", "xml", "markdown"]

PAGE_TYPES: tuple[PageType, ...] = ("html", "text", "json", "xml", "markdown")


def page_type(content_type: str) -> PageType | Literal[""]:
    """Which kind of page a media type is; empty if it cannot be read. What says nothing is taken for text."""
    match content_type:
        case "text/html" | "application/xhtml+xml":
            return "html"
        case "text/markdown" | "text/x-markdown":
            return "markdown"
        case "text/xml" | "application/xml":
            return "xml"
        case "application/json" | "text/json" | "application/x-ndjson":
            return "json"
        case "" | "application/yaml" | "application/x-yaml" | "application/toml" | "application/javascript":
            return "text"
    if content_type.endswith("+json"):
        return "json"
    if content_type.endswith("+xml") and not content_type.startswith("image/"):
        return "xml"
    return "text" if content_type.startswith("text/") else ""
