"""Http: requests to the APIs that an operator has listed, with credentials that no model sees."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from actors.toolbox.kit import Kit
from actors.toolbox.web.address_guard import DEFAULT_PORTS, AddressGuard
from actors.toolbox.web.header_rules import SecretHeaders, checked_headers, hide
from actors.toolbox.web.page_type import page_type
from actors.toolbox.web.url_pattern import UrlPattern
from actors.tools.tool_context import ToolContext
from bus.errors import UsageError
from bus.failure import TerminalError
from bus.subjects import check_name

if TYPE_CHECKING:
    from actors.components.app import App
    from actors.components.component import Component
    from actors.toolbox.web.web_client import Answer, Place

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
BODY_LIMIT_BYTES = 1024 * 1024
IDEMPOTENCY_HEADER = "Idempotency-Key"
_READS = frozenset({"GET", "HEAD"})
_SHOWN_HEADERS = ("content-type", "location", "etag", "last-modified", "link", "retry-after", "x-request-id")
_SAID_CHARS = 500
_MARGIN_S = 5.0

Param = str | int | float | bool


class HttpAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An answer. ``json`` is its body if that is JSON, ``text`` if it is not; ``truncated`` if there was more text."""

    url: str
    status: int
    headers: dict[str, str] = {}
    json: Any = None
    text: str = ""
    truncated: bool = False


class Http(Kit):
    """A tool that asks listed APIs: ``http_request(url, method, params, headers, json)``.

    ``allow`` are patterns of URLs. ``headers_from_env`` are headers whose values are read from the environment when the
    tool runs: a variable's name, or a text such as ``Bearer ${EXAMPLE_TOKEN}``; they go to the origin that was asked
    and to no other. A request that writes carries the call's idempotency key.
    """

    def __init__(
        self, allow: tuple[str, ...], *, name: str = "http_request", methods: tuple[str, ...] = ("GET",),
        headers_from_env: Mapping[str, str] | None = None, size_limit_bytes: int = 1024 * 1024, timeout_s: float = 30.0,
        user_agent: str = "callboard/0.1", ports: tuple[int, ...] = DEFAULT_PORTS, allow_private: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        super().__init__()
        self.name = check_name(name, "name of the tool")
        if not allow:
            raise UsageError(
                "Http needs the URLs that it may ask", path="allow", hint='("https://api.example.com/v1/*",)'
            )
        if unknown := [method for method in methods if method not in METHODS]:
            raise UsageError(
                f"Http has no method {unknown[0]!r}", path="methods", hint=f"there are {', '.join(METHODS)}"
            )
        if not methods or size_limit_bytes < 1 or timeout_s <= 0:
            raise UsageError("Http needs a method, a size and a time above 0", path="methods")
        self.patterns = tuple(UrlPattern.of(text) for text in allow)
        self.methods = methods
        self.secret_headers = SecretHeaders.of(headers_from_env or {})
        self.size_limit_bytes = size_limit_bytes
        self.timeout_s = timeout_s
        self.user_agent = user_agent
        self.guard = AddressGuard.of(ports, allow_private)

    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """Declare the tool."""
        allowed = ", ".join(pattern.text for pattern in self.patterns)
        about = f"Send a request to an HTTP API. URLs: {allowed}. Methods: {', '.join(self.methods)}."

        @app.tool(name=self.name, description=about, timeout_s=self.timeout_s + _MARGIN_S, breaker=None,
                  read_only=_READS.issuperset(self.methods))  # fmt: skip
        async def http_request(
            ctx: ToolContext, url: str, method: str = "GET", params: dict[str, Param] | None = None,
            headers: dict[str, str] | None = None, json: Any = None,
        ) -> HttpAnswer:  # fmt: skip
            """Send a request to an HTTP API.

            Args:
                url: The whole URL. It has to be one of those that are allowed.
                method: The method, in capitals.
                params: What is appended to the URL as its query.
                headers: Headers beside those that are set anyway. Credentials are added without your doing.
                json: The body, for methods that write.
            """
            return await _Call(self, ctx, method).send(url, params or {}, headers or {}, json)

        return (http_request,)


class _Call:
    """One call of the tool."""

    def __init__(self, kit: Http, ctx: ToolContext, method: str) -> None:
        self._kit = kit
        self._ctx = ctx
        self._method = method
        self._origin = ""
        self._headers: dict[str, str] = {}
        self._secrets = kit.secret_headers.secrets(os.environ)

    async def send(self, url: str, params: Mapping[str, Param], headers: Mapping[str, str], json: Any) -> HttpAnswer:
        """Ask, and read what comes. Raises: TerminalError, RetryableError."""
        from actors.toolbox.web.web_client import WebClient

        content = self._body(json)
        kit = self._kit
        self._headers = checked_headers(headers, self._taken())
        if content is not None:
            self._headers["content-type"] = "application/json"
        if self._method not in _READS:
            self._headers[IDEMPOTENCY_HEADER] = self._ctx.idempotency_key
        client = WebClient(
            guard=kit.guard, timeout_s=kit.timeout_s, size_limit_bytes=kit.size_limit_bytes, user_agent=kit.user_agent
        )
        query = {name: _param(value) for name, value in params.items()}
        answer = await client.ask(self._method, url, hop=self._hop, params=query, content=content)
        return self._read(answer)

    def _body(self, json: Any) -> bytes | None:
        if self._method not in self._kit.methods:
            allowed = ", ".join(self._kit.methods)
            raise TerminalError(f"method {self._method[:20]!r} is not allowed: {allowed}", code="method_refused")
        if json is None:
            return None
        if self._method in _READS:
            raise TerminalError(f"{self._method} has no body: leave json out, or use params", code="bad_input")
        body = msgspec.json.encode(json)
        if len(body) > BODY_LIMIT_BYTES:
            raise TerminalError(f"the body has more than {BODY_LIMIT_BYTES:,} bytes", code="too_large")
        return body

    def _taken(self) -> frozenset[str]:
        names = [*self._kit.secret_headers.templates, IDEMPOTENCY_HEADER, "content-type", "user-agent"]
        return frozenset(name.lower() for name in names)

    async def _hop(self, place: Place) -> Mapping[str, str]:
        """Each URL has to be allowed, over redirects too; the credentials are for where the request began."""
        if not any(pattern.matches(place.target, place.path) for pattern in self._kit.patterns):
            allowed = ", ".join(pattern.text for pattern in self._kit.patterns)
            raise TerminalError(
                f"{place.target.origin}{place.path[:200]} is not allowed: {allowed}", code="url_refused"
            )
        self._origin = self._origin or place.target.origin
        if place.target.origin != self._origin:
            return {"accept": "application/json, text/*;q=0.5"}
        secret = self._kit.secret_headers.values(os.environ, self._kit.name)
        return {"accept": "application/json, text/*;q=0.5", **self._headers, **secret}

    def _read(self, answer: Answer) -> HttpAnswer:
        text = hide(_text(answer), self._secrets)
        if error := answer.error(said=" ".join(text.split())[:_SAID_CHARS]):
            raise error
        if 300 <= answer.status < 400 and answer.status not in (303, 304):
            where = answer.headers.get("location", "elsewhere")[:200]
            raise TerminalError(f"{answer.url} leads to {where}: a {self._method} is not sent on", code="redirect")
        shown = {name: hide(answer.headers[name], self._secrets) for name in _SHOWN_HEADERS if name in answer.headers}
        value = _json(answer, text)
        return HttpAnswer(url=hide(answer.url, self._secrets), status=answer.status, headers=shown, json=value,
                          text="" if value is not None else text, truncated=answer.truncated)  # fmt: skip


def _param(value: Param) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _text(answer: Answer) -> str:
    from actors.toolbox.web.charset import text_of

    if answer.body and not page_type(answer.content_type):
        if answer.status < 400:
            raise TerminalError(f"{answer.url} is {answer.content_type}: no JSON and no text", code="content_type")
        return ""
    return text_of(answer.body, answer.headers.get("content-type", ""))


def _json(answer: Answer, text: str) -> Any:
    if page_type(answer.content_type) != "json" or not text.strip():
        return None
    if answer.truncated:
        raise TerminalError(f"{answer.url}: the answer is too big: ask for less of it", code="too_large")
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
