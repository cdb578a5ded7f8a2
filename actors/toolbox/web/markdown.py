"""HTML as Markdown or plain text, for reading: one pass over the page, without building a tree. Pure.

A tree of a hostile page is as deep as it likes, and whoever walks it by recursion falls over. Here depth costs
nothing. What is not for reading (scripts, styles, forms' choices) is left out; what pages use tables for besides tables
is taken for text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import msgspec

from actors.toolbox.web.reading_blocks import ReadingBlocks

_SKIPPED = frozenset({
    "script", "style", "noscript", "template", "svg", "math", "iframe", "object", "textarea", "select",
    "canvas", "audio", "video",
})  # fmt: skip
_BLOCKS = frozenset({
    "address", "article", "aside", "blockquote", "body", "dd", "details", "dialog", "div", "dl", "dt",
    "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6", "header", "hr",
    "html", "li", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody", "td", "tfoot", "th",
    "thead", "tr", "ul",
})  # fmt: skip
_MARKS = {"a": "", "b": "**", "strong": "**", "em": "*", "i": "*", "code": "`", "kbd": "`", "samp": "`"}
_SPACE = re.compile(r"\s+")
_PART_CHARS = 65_536
# An element that is never closed is looked at again in each block.
_MARKS_LIMIT = 40
LINKS_LIMIT = 200


class Link(msgspec.Struct, frozen=True):
    """A link of a page: what it says, and the whole URL that it leads to."""

    text: str
    url: str


class Reading(msgspec.Struct, frozen=True):
    """A page as it is read."""

    title: str
    text: str
    links: tuple[Link, ...] = ()


def read_html(html: str, base_url: str, *, plain: bool = False, go_on: Callable[[], bool] = lambda: True) -> Reading:
    """``html`` as Markdown, or as plain text. Links are made whole by ``base_url``. ``go_on`` is asked now and then."""
    reader = _Reader(base_url, plain=plain)
    for start in range(0, len(html), _PART_CHARS):
        if not go_on():
            break
        reader.feed(html[start : start + _PART_CHARS])
    # What is left is markup that never ends; the parser takes quadratic time to make text of it.
    if len(reader.rawdata) < _PART_CHARS:
        reader.close()
    return reader.reading()


@dataclass
class _Mark:
    """An inline element that is open: where its text begins among the pieces of the block."""

    tag: str
    start: int
    url: str = ""


@dataclass
class _Table:
    """A table that is open. ``layout``: there is a table in it, so it only places things on the page."""

    rows: list[list[list[str]]] = field(default_factory=list)
    layout: bool = False


class _Reader(HTMLParser):
    """Hears tags and text, gathers the pieces of a block, and hands blocks on."""

    def __init__(self, base_url: str, *, plain: bool) -> None:
        super().__init__(convert_charrefs=True)
        self._base_url = base_url
        self._plain = plain
        self._blocks = ReadingBlocks(plain=plain)
        self._pieces: list[str] = []
        self._marks: list[_Mark] = []
        self._tables: list[_Table] = []
        self._skipped: tuple[str, int] = ("", 0)
        self._title: list[str] = []
        self._in_title = False
        self._pre = 0
        self._links: dict[str, str] = {}

    def reading(self) -> Reading:
        """What has been heard."""
        self._flush()
        while self._tables:
            self._end_table()
        links = tuple(Link(text, url) for url, text in self._links.items())
        return Reading(_SPACE.sub(" ", "".join(self._title)).strip(), self._blocks.text(), links)

    # ---- what the parser calls

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        skipped, depth = self._skipped
        if depth or tag in _SKIPPED:
            if tag == (skipped or tag):
                self._skipped = (tag, depth + 1)
            return
        if tag == "title":
            self._in_title = not self._title
        elif tag in _BLOCKS:
            self._in_title = False
            self._flush()
            self._begin_block(tag, dict(attrs))
        elif tag == "br":
            self._pieces.append("\n")
        elif tag in _MARKS and not self._pre and len(self._marks) < _MARKS_LIMIT:
            self._begin_mark(tag, dict(attrs))
        elif tag == "img":
            self._image(dict(attrs))

    def handle_endtag(self, tag: str) -> None:
        """An element ends, or so the page says."""
        skipped, depth = self._skipped
        if depth:
            if tag == skipped:
                self._skipped = (skipped, depth - 1) if depth > 1 else ("", 0)
        elif tag == "title":
            self._in_title = False
        elif tag in _BLOCKS:
            self._end_block(tag)
        elif tag in _MARKS:
            self._end_mark(tag)

    def handle_data(self, data: str) -> None:
        """Text, its entities resolved."""
        if self._skipped[1]:
            return
        if self._in_title:
            self._title.append(data)
        else:
            self._pieces.append(data if self._pre else _SPACE.sub(" ", data))

    def unknown_decl(self, data: str) -> None:
        """``<![CDATA[...]]>`` and the like: nothing to read."""

    # ---- blocks

    def _begin_block(self, tag: str, attributes: dict[str, str | None]) -> None:
        if tag in ("ul", "ol"):
            self._blocks.begin_list(_number(attributes.get("start")) if tag == "ol" else None)
        elif tag == "li":
            self._blocks.begin_item()
        elif tag == "blockquote":
            self._blocks.quoted += 1
        elif tag == "pre":
            self._pre += 1
        elif tag == "hr":
            self._blocks.rule()
        elif tag == "table":
            self._begin_table()
        elif tag == "tr" and self._table:
            self._table.rows.append([])
        elif tag in ("td", "th") and self._table and self._table.rows:
            self._table.rows[-1].append([])

    def _end_block(self, tag: str) -> None:
        if tag == "pre" and self._pre:
            self._pre -= 1
            self._blocks.verbatim("".join(self._pieces))
            self._pieces.clear()
            return
        self._flush(heading=int(tag[1]) if tag in ("h1", "h2", "h3", "h4", "h5", "h6") else 0)
        if tag in ("ul", "ol"):
            self._blocks.end_list()
        elif tag == "blockquote":
            self._blocks.quoted = max(0, self._blocks.quoted - 1)
        elif tag == "table" and self._tables:
            self._end_table()

    def _flush(self, *, heading: int = 0) -> None:
        """The block so far is whole. Elements that are still open go on in the next one."""
        for mark in reversed(self._marks):
            self._wrap(mark)
        text = "".join(self._pieces)
        self._pieces.clear()
        for mark in self._marks:
            mark.start = 0
        table = self._table
        if table and table.rows and table.rows[-1]:
            table.rows[-1][-1].append(text)
        else:
            self._blocks.paragraph(text, heading=heading)

    # ---- inline

    def _begin_mark(self, tag: str, attributes: dict[str, str | None]) -> None:
        url = self._whole(attributes.get("href") or "") if tag == "a" else ""
        self._marks.append(_Mark(tag, len(self._pieces), url))

    def _end_mark(self, tag: str) -> None:
        for place in range(len(self._marks) - 1, -1, -1):
            if self._marks[place].tag == tag:
                # One that was left open inside of it ends with it, as browsers mostly see it.
                for mark in reversed(self._marks[place:]):
                    self._wrap(mark)
                del self._marks[place:]
                return

    def _wrap(self, mark: _Mark) -> None:
        text = "".join(self._pieces[mark.start :])
        bare = text.strip()
        if not bare:
            return
        if mark.url and mark.url not in self._links and len(self._links) < LINKS_LIMIT:
            self._links[mark.url] = _SPACE.sub(" ", bare)
        if self._plain or (mark.tag == "a" and not mark.url):
            return
        marked = f"[{bare}]({mark.url})" if mark.tag == "a" else f"{_MARKS[mark.tag]}{bare}{_MARKS[mark.tag]}"
        before, after = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
        self._pieces[mark.start :] = [before, marked, after]

    def _image(self, attributes: dict[str, str | None]) -> None:
        alt = _SPACE.sub(" ", attributes.get("alt") or "").strip()
        url = self._whole(attributes.get("src") or "")
        if alt:
            self._pieces.append(f"![{alt}]({url})" if url and not self._plain else alt)

    def _whole(self, url: str) -> str:
        """The whole URL; empty for one that leads to no page."""
        try:
            whole = urljoin(self._base_url, url.strip())
        except ValueError:
            return ""
        is_page = whole.startswith(("http://", "https://")) and not url.lstrip().startswith("#")
        return whole.replace(" ", "%20").replace(")", "%29") if is_page else ""

    # ---- tables

    @property
    def _table(self) -> _Table | None:
        """The table whose cells take the text."""
        return self._tables[-1] if self._tables and not self._tables[-1].layout else None

    def _begin_table(self) -> None:
        if outer := self._table:
            self._blocks.table(outer.rows, as_text=True)
            outer.rows, outer.layout = [], True
        self._tables.append(_Table())

    def _end_table(self) -> None:
        table = self._tables.pop()
        if not table.layout:
            self._blocks.table(table.rows)


def _number(text: str | None) -> int:
    """The first number of a list. A page may say anything here."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,6}", text) else 1
