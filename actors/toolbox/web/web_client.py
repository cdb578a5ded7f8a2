"""One request and what comes of it: guarded, within its time and size, over redirects that are checked anew.

Whoever asks is consulted before each hop (``Hop``): it refuses the URL, or gives the headers that go there and nowhere
else. So a credential cannot travel over a redirect to where it was not meant to go: no header is carried along.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpcore2
import httpx2

from actors.toolbox.web.address_guard import AddressGuard, Target
from actors.toolbox.web.bounded_body import ACCEPTED, BoundedBody
from actors.toolbox.web.guarded_transport import GuardedTransport, Resolve, resolve, target_of
from actors.toolbox.web.http_status import status_error
from bus.failure import RetryableError, TerminalError

# It writes each URL with its query into the log, and a query may hold what is not for a log.
logging.getLogger("httpx2").setLevel(logging.WARNING)

REDIRECT_LIMIT = 5
USER_AGENT = "callboard/0.1"
URL_LIMIT_CHARS = 8_000
_REDIRECTS = {301, 302, 303, 307, 308}


@dataclass(frozen=True, slots=True)
class Place:
    """A URL that is about to be asked, where it leads, and its path as it will be sent."""

    url: str
    target: Target
    path: str


Hop = Callable[[Place], Awaitable[Mapping[str, str]]]


@dataclass(frozen=True, slots=True)
class Head:
    """An answer before its body is read. Names of headers are in lower case."""

    url: str
    status: int
    headers: Mapping[str, str]

    @property
    def content_type(self) -> str:
        """``text/html``: without parameters, in lower case; empty if nothing is said."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Answer(Head):
    """An answer with its body, unpacked; ``truncated`` if there was more than the limit."""

    body: bytes = b""
    truncated: bool = False

    def error(self, where: str = "", *, said: str = "") -> RetryableError | TerminalError | None:
        """The error that its status is, if it is one."""
        retry_after = self.headers.get("retry-after", "")
        return status_error(self.status, where or self.url, retry_after=retry_after, now=datetime.now(UTC), said=said)


async def _no_headers(_: Place) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, kw_only=True)
class WebClient:
    """How requests are made: by which rules, how long, how much. Holds no connection between them."""

    guard: AddressGuard
    timeout_s: float = 20.0
    size_limit_bytes: int = 5 * 1024 * 1024
    user_agent: str = USER_AGENT
    resolve: Resolve = field(default=resolve, repr=False)

    async def ask(
        self, method: str, url: str, *, hop: Hop = _no_headers, params: Mapping[str, str] | None = None,
        json: Any = None, content: bytes | None = None, accept: Callable[[Head], None] | None = None,
    ) -> Answer:  # fmt: skip
        """Send a request and read the answer, whatever its status. Redirects are followed for GET and HEAD.

        ``accept`` may refuse an answer before its body is read. ``timeout_s`` bounds all of it.
        Raises: TerminalError (AddressRefused, a bad URL, too many redirects), RetryableError (codes ``timeout`` and
        ``unreachable``), and what ``hop`` and ``accept`` raise.
        """
        request = _Request(method, json, content, hop, accept)
        try:
            async with asyncio.timeout(self.timeout_s), self._client() as client:
                return await self._follow(client, request, _parsed(url, params))
        except (TimeoutError, httpx2.TimeoutException, httpcore2.TimeoutException):
            raise RetryableError(f"{_shown(url)}: no answer within {self.timeout_s:g} s", code="timeout") from None
        except (httpx2.HTTPError, httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            reason = str(error) or type(error).__name__
            raise RetryableError(f"{_shown(url)} cannot be reached: {reason}", code="unreachable") from None

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=GuardedTransport(self.guard, self.resolve), timeout=self.timeout_s, trust_env=False,
            follow_redirects=False, headers={"user-agent": self.user_agent, "accept-encoding": ACCEPTED},
        )  # fmt: skip

    async def _follow(self, client: httpx2.AsyncClient, request: _Request, url: httpx2.URL) -> Answer:
        for _ in range(REDIRECT_LIMIT + 1):
            path = url.raw_path.decode("ascii").partition("?")[0]
            place = Place(str(url), target_of(self.guard, url), path)
            headers = await request.hop(place)
            answer = await self._once(client, request, url, headers)
            where = answer.headers.get("location", "")
            if answer.status not in _REDIRECTS or not where or request.method not in ("GET", "HEAD"):
                return answer
            url = _redirected(url, where)
        raise TerminalError(f"{_shown(str(url))}: more than {REDIRECT_LIMIT} redirects", code="too_many_redirects")

    async def _once(
        self, client: httpx2.AsyncClient, request: _Request, url: httpx2.URL, headers: Mapping[str, str]
    ) -> Answer:
        async with client.stream(
            request.method, url, headers=dict(headers), json=request.json, content=request.content
        ) as response:
            head = Head(str(url), response.status_code, dict(response.headers))
            if response.status_code in _REDIRECTS:
                return Answer(head.url, head.status, head.headers)
            if request.accept is not None:
                request.accept(head)
            body = BoundedBody(self.size_limit_bytes, response.headers.get("content-encoding", ""))
            async for part in response.aiter_raw():
                if not body.feed(part):
                    break
            return Answer(head.url, head.status, head.headers, body.content, body.truncated)


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    json: Any
    content: bytes | None
    hop: Hop
    accept: Callable[[Head], None] | None


def _parsed(url: str, params: Mapping[str, str] | None) -> httpx2.URL:
    if len(url) > URL_LIMIT_CHARS:
        raise TerminalError(f"the URL has {len(url):,} characters, the limit is {URL_LIMIT_CHARS:,}", code="bad_url")
    try:
        found = httpx2.URL(url.strip())
        found = found.copy_merge_params(dict(params)) if params else found
    except (httpx2.InvalidURL, ValueError) as error:
        raise TerminalError(f"{_shown(url)} is no URL: {error}", code="bad_url") from None
    # Servers never see what stands behind a #, and a page has one URL without it.
    return found.copy_with(fragment=None)


def _redirected(url: httpx2.URL, where: str) -> httpx2.URL:
    """Where a redirect leads. Raises: TerminalError if it gives up TLS, since then anybody may answer."""
    try:
        found = url.join(where).copy_with(fragment=None)
    except (httpx2.InvalidURL, ValueError):
        raise TerminalError(f"{_shown(str(url))} redirects to what is no URL", code="bad_redirect") from None
    if url.scheme == "https" and found.scheme == "http":
        raise TerminalError(f"{_shown(str(url))} redirects from https to http: refused", code="bad_redirect")
    return found


def _shown(url: str) -> str:
    """A URL for people: without what may be secret in it, and what no log can hold."""
    shown = url.partition("?")[0].partition("#")[0][:200]
    return "".join(char if char.isprintable() else "?" for char in shown)
