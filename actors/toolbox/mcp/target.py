"""Which MCP server a kit speaks to. Pure: the values of variables are looked up by whoever connects."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from bus.errors import UsageError

# ``$NAME`` or ``${NAME}``.
_REFERENCE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})")
_ENCODER = msgspec.json.Encoder(order="deterministic")


class McpTarget(msgspec.Struct, frozen=True, kw_only=True):
    """A command or an address; ``env`` and ``headers`` name variables of ours and never hold their values."""

    command: tuple[str, ...] = ()
    url: str = ""
    cwd: str = ""
    env: dict[str, str] = {}
    headers: dict[str, str] = {}

    def check(self) -> None:
        """Raises: UsageError for what names no server."""
        if bool(self.command) == bool(self.url):
            raise UsageError("Mcp needs a command or a url", code="bad_setting", path="command",
                             hint='Mcp(["npx", "-y", "some-server"]) or Mcp(url="https://host/mcp")')  # fmt: skip
        if self.url and urlsplit(self.url).scheme not in ("http", "https"):
            raise UsageError(f"{self.label} is no address of an MCP server", code="bad_setting", path="url",
                             hint="https://host/mcp; the older SSE transport is not spoken")  # fmt: skip
        if (self.headers and not self.url) or (self.env and not self.command):
            raise UsageError("env is for a command and headers_from_env for a url", code="bad_setting", path="env")

    @property
    def label(self) -> str:
        """How people know it. An address comes without what may be a credential."""
        if self.command:
            return shlex.join(self.command)
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"

    @property
    def digest(self) -> str:
        """One name for the same server with the same variables."""
        return hashlib.sha256(_ENCODER.encode(self)).hexdigest()

    def child_env(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What the command gets beside the harmless variables. Raises: UsageError for one that is not set."""
        return {theirs: _variable(environ, ours, self.label) for theirs, ours in self.env.items()}

    def header_values(self, environ: Mapping[str, str]) -> dict[str, str]:
        """The headers of each request. Raises: UsageError for a variable that is not set."""
        return {name: self._header(environ, text) for name, text in self.headers.items()}

    def _header(self, environ: Mapping[str, str], text: str) -> str:
        """A header is a variable's name, or a text with ``$NAME`` in it."""
        if "$" not in text:
            return _variable(environ, text, self.label)
        return _REFERENCE.sub(lambda found: _variable(environ, found[1] or found[2], self.label), text)

    def secrets(self, environ: Mapping[str, str]) -> list[str]:
        """Values that must not be told, the longest first."""
        names = [*self.env.values(), *(name for text in self.headers.values() for name in _names(text))]
        return sorted({value for name in names if len(value := environ.get(name, "")) > 3}, key=len, reverse=True)


def _names(text: str) -> list[str]:
    return [found[1] or found[2] for found in _REFERENCE.finditer(text)] if "$" in text else [text]


def _variable(environ: Mapping[str, str], name: str, label: str) -> str:
    if name not in environ:
        raise UsageError(f"{name} is not set, which the MCP server {label} needs", code="no_variable", path=name,
                         hint="set it in the environment of the node")  # fmt: skip
    return environ[name]
