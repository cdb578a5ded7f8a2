"""Wikipedia: search without a key, by the documented REST API of MediaWiki. It finds articles, and nothing else."""

from __future__ import annotations

import html
import re
from urllib.parse import quote

import msgspec

from actors.toolbox.web.json_api import JsonApi
from actors.toolbox.web.search_provider import SearchResult

# The Wikimedia foundation asks for a name by which the program can be told from others.
USER_AGENT = "callboard/0.1 (web_search tool)"
_TAG = re.compile(r"<[^>]*>")


class _Page(msgspec.Struct, frozen=True):
    key: str
    title: str
    excerpt: str | None = ""
    description: str | None = ""


class _Answer(msgspec.Struct, frozen=True):
    pages: list[_Page]


class Wikipedia:
    """One language's articles. There is no score: the order is all that it says."""

    name = "wikipedia"

    def __init__(self, base_url: str = "", *, language: str = "en", timeout_s: float = 20.0) -> None:
        self._base_url = base_url or f"https://{language}.wikipedia.org"
        self._is_trusted = bool(base_url)
        self._timeout_s = timeout_s

    async def search(self, query: str, count: int) -> tuple[SearchResult, ...]:
        """As SearchProvider has it."""
        api = JsonApi(label="Wikipedia", base_url=self._base_url, is_trusted=self._is_trusted,
                      timeout_s=self._timeout_s, user_agent=USER_AGENT)  # fmt: skip
        answer = await api.ask("GET", "/w/rest.php/v1/search/page", params={"q": query, "limit": str(count)})
        return tuple(
            SearchResult(page.title, f"{self._base_url}/wiki/{quote(page.key, safe='/:()')}", _snippet(page))
            for page in api.read(answer, _Answer).pages
        )


def _snippet(page: _Page) -> str:
    excerpt = " ".join(html.unescape(_TAG.sub("", page.excerpt or "")).split())
    return ": ".join(part for part in (page.description or "", excerpt) if part)
