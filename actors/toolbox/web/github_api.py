"""GitHub's REST API: pages of lists, rate limits, and which repositories may be spoken of."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from actors.toolbox.web.json_api import JsonApi
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError

if TYPE_CHECKING:
    from actors.toolbox.web.web_client import Answer

BASE_URL = "https://api.github.com"
TOKEN_VARIABLE = "GITHUB_TOKEN"  # noqa: S105 - the variable's name
PAGE_ITEMS = 100
PAGES_LIMIT = 10
COUNT_LIMIT = 300
# GitHub's own wish where it names no time: a minute, then more.
_SECONDARY_WAIT_S = 60.0

_REPO = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/[A-Za-z0-9._-]{1,100}")
_ALLOWED = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})/(?:[A-Za-z0-9._-]{1,100}|\*)")


@dataclass(frozen=True, slots=True)
class RepoList:
    """Repositories that may be spoken of: ``owner/name`` or ``owner/*``; None for all that the token may see."""

    allowed: tuple[str, ...] | None

    @classmethod
    def of(cls, repos: tuple[str, ...] | None) -> RepoList:
        """Raises: UsageError for what is no repository."""
        if wrong := [repo for repo in repos or () if not _ALLOWED.fullmatch(repo) or repo.endswith(("/.", "/.."))]:
            raise UsageError(f"{wrong[0]!r} is no repository", path="repos", hint="owner/name, or owner/*")
        return cls(None if repos is None else tuple(repo.lower() for repo in repos))

    def has(self, repo: str) -> bool:
        """Whether a repository is one of them. GitHub's names are the same in any case."""
        repo = repo.lower()
        return self.allowed is None or repo in self.allowed or f"{repo.partition('/')[0]}/*" in self.allowed

    def check(self, repo: str) -> str:
        """``repo``, if it may be spoken of. Raises: TerminalError."""
        if not _REPO.fullmatch(repo) or repo.endswith(("/.", "/..")):
            raise TerminalError(f"{repo[:150]!r} is no repository: owner/name", code="bad_input")
        if not self.has(repo):
            raise TerminalError(f"repository {repo} is not allowed: {self.words()}", code="repo_refused")
        return repo

    def words(self) -> str:
        """For people and models."""
        return "any" if self.allowed is None else ", ".join(self.allowed) or "none"

    def qualifiers(self) -> str:
        """What narrows a search to them. It may be talked around in the query, so what comes is checked again."""
        if self.allowed is None:
            return ""
        return " ".join(f"user:{repo[:-2]}" if repo.endswith("/*") else f"repo:{repo}" for repo in self.allowed)


class GitHubApi:
    """Asks GitHub. The token is read when it is made; without one there are 60 requests an hour, and no code search."""

    def __init__(self, base_url: str = "", *, timeout_s: float = 20.0) -> None:
        token = os.environ.get(TOKEN_VARIABLE, "").strip()
        if not (token.isascii() and (token.isprintable() or not token)):
            raise TerminalError(f"{TOKEN_VARIABLE} in the environment holds no token", code="no_credentials")
        self.has_token = bool(token)
        headers = {"accept": "application/vnd.github+json", "x-github-api-version": "2022-11-28"}
        self._api = JsonApi(
            label="GitHub", base_url=base_url or BASE_URL, is_trusted=bool(base_url), timeout_s=timeout_s,
            headers={**headers, **({"authorization": f"Bearer {token}"} if token else {})},
            secrets=(token,) if token else (),
        )  # fmt: skip

    async def ask(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, json: Any = None, accept: str = ""
    ) -> Answer:
        """An answer that worked. Raises: TerminalError, RetryableError (``rate_limited`` with the wait)."""
        headers = {"accept": accept} if accept else None
        answer = await self._api.ask(method, path, params=params, json=json, headers=headers)
        if limited := rate_limit_error(answer, self._api.said(answer) if answer.status in (403, 429) else ""):
            raise limited
        if error := answer.error("GitHub", said=self._api.said(answer)):
            raise error
        return answer

    async def get(self, path: str, *, params: Mapping[str, str] | None = None, accept: str = "") -> dict[str, Any]:
        """One record."""
        return self._api.read(await self.ask("GET", path, params=params, accept=accept), dict[str, Any])

    async def any(self, path: str, *, params: Mapping[str, str] | None = None) -> dict[str, Any] | list[Any]:
        """A record, or several, as it comes."""
        return self._api.read(await self.ask("GET", path, params=params), dict[str, Any] | list[Any])  # type: ignore[arg-type]

    async def post(self, path: str, json: Any) -> dict[str, Any]:
        """Make something."""
        return self._api.read(await self.ask("POST", path, json=json), dict[str, Any])

    async def listed(
        self, path: str, count: int, params: Mapping[str, str], *, key: str = "", accept: str = "",
        skips: bool = False,
    ) -> list[dict[str, Any]]:  # fmt: skip
        """Records of as many pages as hold ``count`` of them; ``key`` is where a search has its list.

        ``skips``: not all of them will be wanted, so whole pages are asked for, and ``count`` is a guess.
        """
        found: list[dict[str, Any]] = []
        size = PAGE_ITEMS if skips else min(PAGE_ITEMS, count)
        for page in range(1, PAGES_LIMIT + 1):
            asked = {**params, "per_page": str(size), "page": str(page)}
            answer = await self.ask("GET", path, params=asked, accept=accept)
            items = self._api.read(answer, dict[str, Any]).get(key, []) if key else self._api.read(answer, list[Any])
            found += [item for item in items if isinstance(item, dict)]
            if len(found) >= count or len(items) < size:
                break
        return found if skips else found[:count]


def rate_limit_error(answer: Answer, said: str) -> RetryableError | None:
    """The error of an answer that says "later": by its headers, or by its words. GitHub says 403 for that, too."""
    if answer.status not in (403, 429):
        return None
    waits = answer.headers.get("retry-after", "")
    reset = answer.headers.get("x-ratelimit-reset", "")
    if waits.isdigit():
        wait_s = float(waits)
    elif answer.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
        wait_s = max(0.0, float(reset[:12]) - datetime.now(UTC).timestamp())
    elif answer.status == 429 or "rate limit" in said.lower():
        wait_s = _SECONDARY_WAIT_S
    else:
        return None
    return RetryableError(f"GitHub's rate limit is reached: {said}", retry_after_s=wait_s, code="rate_limited")


def file_path(path: str) -> str:
    """The path of a file as part of a URL. Raises: TerminalError for one that leads out of the repository."""
    parts = [part for part in path.split("/") if part]
    if any(part in (".", "..") for part in parts) or "\0" in path:
        raise TerminalError(f"{path[:150]!r} is no path in a repository", code="bad_input")
    return "/".join(quote(part, safe="") for part in parts)
