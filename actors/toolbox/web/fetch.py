"""Fetch: a page of the web as a model can read it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from actors.toolbox.kit import Kit
from actors.toolbox.web.address_guard import DEFAULT_PORTS, AddressGuard
from actors.toolbox.web.markdown import Link, read_html
from actors.toolbox.web.page_type import PAGE_TYPES, PageType, page_type
from bus.errors import UsageError
from bus.failure import TerminalError
from bus.subjects import check_name

if TYPE_CHECKING:
    from actors.components.app import App
    from actors.components.component import Component
    from actors.toolbox.web.robots import Robots
    from actors.toolbox.web.web_client import Answer, Head, Place, WebClient

Format = Literal["markdown", "text", "raw"]
ROBOTS_LIMIT_BYTES = 512 * 1024
MAX_CHARS_LIMIT = 1_000_000
# The tool's own time-out has to be the later one: it says less.
_MARGIN_S = 5.0
_ACCEPT = "text/html,application/xhtml+xml,text/markdown,text/plain,application/json,application/xml;q=0.9,*/*;q=0.1"


class Page(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A page that was read. ``url`` is where it was found in the end, ``truncated`` if there is more of it."""

    url: str
    status: int
    content_type: str
    title: str = ""
    text: str = ""
    truncated: bool = False
    links: tuple[Link, ...] = ()


class Fetch(Kit):
    """A tool that reads one page of the web: ``fetch(url, format, max_chars)``.

    ``size_limit_bytes`` counts what comes out of the compression; a longer page is cut. ``timeout_s`` bounds all of it,
    redirects and robots.txt included. ``types`` are the kinds of content that it reads. ``robots``: keep to what
    robots.txt says. ``ports`` and ``allow_private`` are as AddressGuard has them.
    """

    def __init__(
        self, *, name: str = "fetch", size_limit_bytes: int = 5 * 1024 * 1024, timeout_s: float = 20.0,
        types: tuple[PageType, ...] = PAGE_TYPES, robots: bool = True, user_agent: str = "callboard/0.1",
        ports: tuple[int, ...] = DEFAULT_PORTS, allow_private: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.name = check_name(name, "name of the tool")
        self.size_limit_bytes = size_limit_bytes
        self.timeout_s = timeout_s
        self.types = types
        self.robots = robots
        self.user_agent = user_agent
        self.guard = AddressGuard.of(ports, allow_private)
        self._check()

    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """Declare the tool."""
        reader = _PageReader(self)

        # Pages fail one by one: a circuit over all of them would hold back the good ones.
        @app.tool(name=self.name, timeout_s=self.timeout_s + _MARGIN_S, breaker=None, read_only=True)
        async def fetch(url: str, format: Format = "markdown", max_chars: int = 20_000, links: bool = False) -> Page:  # noqa: A002 - the word that models know
            """Read a page of the web and return its text. Follows redirects. Reads public addresses only.

            Args:
                url: The whole URL, beginning with https:// or http://.
                format: markdown (headings, lists and links are kept), text (words only), or raw (as it was sent).
                max_chars: How much of the text is wanted at most; "truncated" says whether there is more.
                links: Whether to list the links of the page, too.
            """
            return await reader.read(url, format, max_chars, links=links)

        return (fetch,)

    def _check(self) -> None:
        if self.size_limit_bytes < 1 or self.timeout_s <= 0:
            raise UsageError("Fetch needs a size and a time above 0", path="size_limit_bytes, timeout_s")
        if unknown := [kind for kind in self.types if kind not in PAGE_TYPES]:
            raise UsageError(
                f"Fetch cannot read {unknown[0]!r}", path="types", hint=f"there are {', '.join(PAGE_TYPES)}"
            )
        if not self.user_agent.isprintable() or not self.user_agent.isascii() or not self.user_agent.strip():
            raise UsageError("a user agent is plain text of one line", path="user_agent")


class _PageReader:
    """Reads pages by the settings of a kit, and remembers what sites have said in robots.txt."""

    def __init__(self, kit: Fetch) -> None:
        self._kit = kit
        self._robots: Robots | None = None

    async def read(self, url: str, format_: Format, max_chars: int, *, links: bool) -> Page:
        """The page. Raises: TerminalError, RetryableError."""
        if not 0 < max_chars <= MAX_CHARS_LIMIT:
            raise TerminalError(f"max_chars has to be from 1 to {MAX_CHARS_LIMIT:,}", code="bad_input")
        until_s = time.monotonic() + self._kit.timeout_s
        answer = await self._client(self._kit.size_limit_bytes).ask("GET", url, hop=self._hop, accept=self._accept)
        if error := answer.error():
            raise error
        return await asyncio.to_thread(_page, answer, format_, max_chars, links=links, until_s=until_s)

    def _client(self, size_limit_bytes: int) -> WebClient:
        from actors.toolbox.web.web_client import WebClient

        return WebClient(guard=self._kit.guard, timeout_s=self._kit.timeout_s, size_limit_bytes=size_limit_bytes,
                         user_agent=self._kit.user_agent)  # fmt: skip

    async def _hop(self, place: Place) -> Mapping[str, str]:
        if self._kit.robots:
            await self._known_robots().check(place.target.origin, place.url, self._ask_robots)
        return {"accept": _ACCEPT}

    def _known_robots(self) -> Robots:
        if self._robots is None:
            from actors.toolbox.web.robots import Robots

            self._robots = Robots(self._kit.user_agent)
        return self._robots

    async def _ask_robots(self, url: str) -> Answer:
        return await self._client(ROBOTS_LIMIT_BYTES).ask("GET", url)

    def _accept(self, head: Head) -> None:
        kind = page_type(head.content_type)
        if head.status < 400 and kind not in self._kit.types:
            known = ", ".join(self._kit.types)
            raise TerminalError(f"{head.url} is {head.content_type}: only {known} can be read", code="content_type")


def _page(answer: Answer, format_: Format, max_chars: int, *, links: bool, until_s: float) -> Page:
    """The page that an answer is. Runs in a thread: a big page takes a second."""
    from actors.toolbox.web.charset import text_of

    text = text_of(answer.body, answer.headers.get("content-type", ""))
    title, found, is_late = "", tuple[Link, ...](), False

    def go_on() -> bool:
        nonlocal is_late
        is_late = time.monotonic() >= until_s
        return not is_late

    if page_type(answer.content_type) == "html" and (format_ != "raw" or links):
        reading = read_html(text, answer.url, plain=format_ == "text", go_on=go_on)
        title, found = reading.title, reading.links if links else ()
        text = text if format_ == "raw" else reading.text
    return Page(
        url=answer.url, status=answer.status, content_type=answer.content_type, title=title, text=text[:max_chars],
        truncated=answer.truncated or is_late or len(text) > max_chars, links=found,
    )  # fmt: skip
