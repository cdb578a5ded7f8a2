"""Tavily: search of the whole web by its HTTP API, with a key."""

from __future__ import annotations

import os

import msgspec

from actors.toolbox.web.json_api import JsonApi
from actors.toolbox.web.search_provider import SearchResult
from bus.failure import TerminalError

BASE_URL = "https://api.tavily.com"
KEY_VARIABLE = "TAVILY_API_KEY"
# The key's plan, or what may be paid beyond it, is used up.
_USED_UP = {432, 433}


class _Result(msgspec.Struct, frozen=True):
    url: str
    title: str | None = ""
    content: str | None = ""
    score: float | None = None
    published_date: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    results: list[_Result]


class Tavily:
    """Reads its key from TAVILY_API_KEY when it is asked; the key goes out in a header and nowhere else."""

    name = "tavily"

    def __init__(self, base_url: str = "", *, timeout_s: float = 20.0) -> None:
        self._base_url = base_url
        self._timeout_s = timeout_s

    async def search(self, query: str, count: int) -> tuple[SearchResult, ...]:
        """As SearchProvider has it."""
        api = self._api()
        asked = {"query": query, "max_results": count, "search_depth": "basic"}
        answer = await api.ask("POST", "/search", json=asked)
        if answer.status in _USED_UP:
            raise TerminalError(f"{api.label}: the limit of the key is reached: {api.said(answer)}", code="quota")
        found = api.read(answer, _Answer).results
        return tuple(
            SearchResult(each.title or each.url, each.url, each.content or "", each.score, each.published_date or "")
            for each in found
        )

    def _api(self) -> JsonApi:
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not key.isascii() or not key.isprintable() or not key:
            raise TerminalError(
                f"Tavily needs {KEY_VARIABLE} in the environment of the process that searches", code="no_credentials"
            )
        return JsonApi(
            label="Tavily", base_url=self._base_url or BASE_URL, is_trusted=bool(self._base_url),
            timeout_s=self._timeout_s, headers={"authorization": f"Bearer {key}"}, secrets=(key,),
        )  # fmt: skip
