"""A search provider: one that is asked for pages by a question."""

from __future__ import annotations

from typing import Protocol

import msgspec

QUERY_LIMIT_CHARS = 400
COUNT_LIMIT = 20


class SearchResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """A page that was found. ``score`` is the provider's, from 0 to 1; ``published`` is as the provider says it."""

    title: str
    url: str
    snippet: str = ""
    score: float | None = None
    published: str = ""


class SearchProvider(Protocol):
    """Asks once, and does not retry: the tool's own policy does."""

    @property
    def name(self) -> str:
        """What it is called in results and settings."""
        ...

    async def search(self, query: str, count: int) -> tuple[SearchResult, ...]:
        """The best ``count`` pages or fewer, best first. Raises: RetryableError, TerminalError."""
        ...
