"""Patterns of URLs that a tool may ask: ``https://api.example.com/v1/*``. Pure.

A pattern is matched part by part, and not as one text: as a text ``https://api.example.com*`` would match
``https://api.example.com.evil.example``, and ``/v1/*`` would match ``/v1/../admin``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

from actors.toolbox.web.address_guard import Target
from bus.errors import UsageError

_PATTERN = re.compile(
    r"(?P<scheme>https?)://(?P<host>(?:\*\.)?[a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::(?P<port>\d{1,5}))?(?P<path>/[^?#]*)"
)
_PORTS = {"http": 80, "https": 443}
_SEPARATORS = re.compile(r"[/\\]")
# Servers decode a path once, proxies in front of them may do it again.
_DECODINGS = 4


@dataclass(frozen=True, slots=True)
class UrlPattern:
    """``*`` in a path is one part of it, at its end any rest; ``*.`` before a host is any name below it."""

    text: str
    scheme: str
    host: str
    port: int
    path: re.Pattern[str]

    @classmethod
    def of(cls, text: str) -> UrlPattern:
        """Raises: UsageError for what is no pattern."""
        found = _PATTERN.fullmatch(text)
        if not found or found["host"].endswith(".") or _leaves(found["path"]):
            raise UsageError(
                f"{text!r} is no pattern of URLs", path="allow",
                hint="scheme, host and path, in small letters, such as https://api.example.com/v1/*",
            )  # fmt: skip
        port = int(found["port"] or _PORTS[found["scheme"]])
        return cls(text, found["scheme"], found["host"].strip("[]"), port, _path_pattern(found["path"]))

    def matches(self, target: Target, path: str) -> bool:
        """Whether a URL with this target and path (still encoded) is meant. One that climbs with ``..`` never is."""
        if (self.scheme, self.port) != (target.scheme, target.port) or _leaves(path):
            return False
        is_host = target.host.endswith(self.host[1:]) if self.host.startswith("*.") else target.host == self.host
        return is_host and self.path.fullmatch(unquote(path)) is not None


def _path_pattern(path: str) -> re.Pattern[str]:
    rest = path.endswith("*")
    parts = [re.escape(part) for part in (path[:-1] if rest else path).split("*")]
    return re.compile("[^/\\\\]+".join(parts) + (".*" if rest else ""), re.DOTALL)


def _leaves(path: str) -> bool:
    """Whether a path has a part that leads up, in any encoding; servers of Java ignore what follows a ``;`` in it."""
    for _ in range(_DECODINGS):
        if any(part.partition(";")[0] in ("..", ".") for part in _SEPARATORS.split(path)):
            return True
        decoded = unquote(path)
        if decoded == path:
            return "\0" in path
        path = decoded
    # Encoded so often, it means to hide something.
    return True
