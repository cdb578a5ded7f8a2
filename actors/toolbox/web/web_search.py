"""WebSearch: pages by a question, from whichever provider there is."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Literal, get_args

import msgspec

from actors.toolbox.kit import Kit
from actors.toolbox.web.json_api import checked_base_url
from actors.toolbox.web.search_provider import COUNT_LIMIT, QUERY_LIMIT_CHARS, SearchProvider, SearchResult
from bus.errors import UsageError
from bus.failure import TerminalError
from bus.subjects import check_name

if TYPE_CHECKING:
    from actors.components.app import App
    from actors.components.component import Component

Provider = Literal["auto", "tavily", "wikipedia"]

_MARGIN_S = 5.0
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[a-z]{2,8})?")


class Found(msgspec.Struct, frozen=True):
    """What was found, best first, and by whom."""

    provider: str
    query: str
    results: tuple[SearchResult, ...] = ()


class WebSearch(Kit):
    """A tool that searches: ``web_search(query, count)``.

    ``provider`` "auto" is Tavily if TAVILY_API_KEY is set where the tool runs, else Wikipedia. ``results`` is how many
    there are if nobody says a count. ``language`` is that of Wikipedia. ``base_url`` is another address of the
    provider, such as a proxy of yours; it is not checked.
    """

    def __init__(
        self, *, provider: Provider = "auto", results: int = 5, name: str = "web_search", language: str = "en",
        base_url: str = "", timeout_s: float = 20.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.name = check_name(name, "name of the tool")
        if provider not in get_args(Provider):
            raise UsageError(f"there is no search provider {provider!r}", path="provider",
                             hint=", ".join(get_args(Provider)))  # fmt: skip
        if not 1 <= results <= COUNT_LIMIT:
            raise UsageError(f"{results!r} results cannot be", path="results", hint=f"from 1 to {COUNT_LIMIT}")
        if not _LANGUAGE.fullmatch(language):
            raise UsageError(
                f"{language!r} is no language", path="language", hint="as Wikipedia has it: en, de, zh-yue"
            )
        if base_url and provider == "auto":
            raise UsageError("a base_url is one provider's", path="provider", hint="say which one it is")
        if timeout_s <= 0:
            raise UsageError("WebSearch needs a time above 0", path="timeout_s")
        self.provider = provider
        self.results = results
        self.language = language
        self.base_url = checked_base_url(base_url, "base_url") if base_url else ""
        self.timeout_s = timeout_s

    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """Declare the tool."""

        @app.tool(name=self.name, timeout_s=self.timeout_s + _MARGIN_S, read_only=True)
        async def web_search(query: str, count: int = self.results) -> Found:
            """Search the web and return the best pages with their titles, URLs and a snippet of each.

            Args:
                query: What is looked for, in a few words.
                count: How many results are wanted at most, from 1 to 20.
            """
            return await self._search(query, count)

        return (web_search,)

    async def _search(self, query: str, count: int) -> Found:
        query = " ".join(query.split())
        if not 0 < len(query) <= QUERY_LIMIT_CHARS:
            raise TerminalError(f"a query has 1 to {QUERY_LIMIT_CHARS} characters, not {len(query)}", code="bad_input")
        if not 1 <= count <= COUNT_LIMIT:
            raise TerminalError(f"count has to be from 1 to {COUNT_LIMIT}, not {count}", code="bad_input")
        provider = self.chosen()
        found = await provider.search(query, count)
        pages = [each for each in found if each.url.startswith(("http://", "https://"))]
        return Found(provider.name, query, tuple(pages[:count]))

    def chosen(self) -> SearchProvider:
        """The provider, as the environment is now."""
        from actors.toolbox.web.tavily import KEY_VARIABLE, Tavily
        from actors.toolbox.web.wikipedia import Wikipedia

        if self.provider == "tavily" or (self.provider == "auto" and os.environ.get(KEY_VARIABLE, "").strip()):
            return Tavily(self.base_url, timeout_s=self.timeout_s)
        return Wikipedia(self.base_url, language=self.language, timeout_s=self.timeout_s)
