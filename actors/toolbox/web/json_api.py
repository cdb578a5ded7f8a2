"""A provider's JSON API at a base URL: asked, its errors told apart, its answers checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from actors.toolbox.web.address_guard import AddressGuard
from actors.toolbox.web.header_rules import hide
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError

if TYPE_CHECKING:
    from actors.toolbox.web.web_client import Answer, Place, WebClient

T = TypeVar("T")

_PORTS = {"http": 80, "https": 443}
_SAID_CHARS = 300
# Where APIs put what went wrong.
_WORDS = ("message", "error", "detail", "httpReason", "error_description")


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonApi:
    """``label`` names it in errors. Requests stay at the origin of ``base_url``, whatever it answers."""

    label: str
    base_url: str
    is_trusted: bool
    timeout_s: float = 20.0
    size_limit_bytes: int = 5 * 1024 * 1024
    user_agent: str = "callboard/0.1"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    async def ask(
        self, method: str, path: str, *, params: Mapping[str, str] | None = None, json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:  # fmt: skip
        """The answer, whatever its status. ``path`` begins with a slash and is encoded. Raises: as WebClient.ask."""
        sent = {**self.headers, **(headers or {})}
        content = None
        if json is not None:
            content = msgspec.json.encode(json)
            sent["content-type"] = "application/json"
        origin = self._origin()

        async def hop(place: Place) -> Mapping[str, str]:
            if place.target.origin != origin:
                raise TerminalError(f"{self.label} leads to {place.target.origin}: refused", code="bad_redirect")
            return sent

        url = self.base_url.rstrip("/") + path
        return await self._client().ask(method, url, hop=hop, params=params, content=content)

    def read(self, answer: Answer, type_: type[T]) -> T:
        """The body of an answer that worked. Raises: TerminalError, RetryableError for its status or its content."""
        if error := answer.error(self.label, said=self.said(answer)):
            raise error
        if answer.status >= 300:
            raise TerminalError(f"{self.label} has moved what was asked for: {self.said(answer)}", code="redirect")
        if answer.truncated:
            raise TerminalError(f"{self.label}: the answer is too big: ask for less", code="too_large")
        try:
            return msgspec.json.decode(answer.body, type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RetryableError(
                f"{self.label} gave an answer that cannot be read: {error}", code="bad_answer"
            ) from None

    def said(self, answer: Answer) -> str:
        """What the API says of an error, without secrets; empty if it says nothing that can be read."""
        try:
            found = msgspec.json.decode(answer.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""
        return hide(_words(found), self.secrets)[:_SAID_CHARS]

    def _client(self) -> WebClient:
        from actors.toolbox.web.web_client import WebClient

        parts = urlsplit(self.base_url)
        port = parts.port or _PORTS[parts.scheme]
        guard = AddressGuard.trusting(port) if self.is_trusted else AddressGuard.of((port,))
        return WebClient(guard=guard, timeout_s=self.timeout_s, size_limit_bytes=self.size_limit_bytes,
                         user_agent=self.user_agent)  # fmt: skip

    def _origin(self) -> str:
        parts = urlsplit(self.base_url)
        port = parts.port or _PORTS[parts.scheme]
        guard = AddressGuard.trusting(port)
        return guard.target(parts.scheme, parts.hostname or "", port).origin


def checked_base_url(url: str, path: str) -> str:
    """A base URL that an operator has set. Raises: UsageError if it is none."""
    if not _is_base_url(url):
        raise UsageError(f"{url!r} is no base URL", path=path, hint="such as https://api.example.com/v1")
    return url


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        has_host = parts.scheme in _PORTS and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False
    return has_host and not parts.query and not parts.fragment and parts.username is None


def _words(value: Any) -> str:
    """The words in an error of some API: a text, or the text at a usual place in an object."""
    for _ in range(4):
        if isinstance(value, dict):
            value = next((value[name] for name in _WORDS if value.get(name)), "")
        elif isinstance(value, list):
            value = value[0] if value else ""
        else:
            break
    return " ".join(value.split()) if isinstance(value, str) else ""
