"""Which server a ref of an OpenAI-compatible model means, and where its key stands in the environment. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from actors.model.model_ref import ModelRef, checked_url, place_of
from bus.errors import UsageError

OLLAMA_PORT = 11434
VLLM_URL = "http://127.0.0.1:8000/v1"
_KEYS = {"openai": "OPENAI_API_KEY", "ollama": "OLLAMA_API_KEY", "vllm": "VLLM_API_KEY"}
# Of a server that somebody names in a ref. It is never given OPENAI_API_KEY: a ref may come with a document.
_COMPATIBLE_KEY = "OPENAI_COMPATIBLE_API_KEY"


class OpenAIServer(msgspec.Struct, frozen=True):
    """Where to ask. ``base_url`` None is OpenAI's own. ``provider`` is what limits and circuits are shared by.

    ``key_variable`` names the variable of the environment that has the key; ``needs_key`` if none is an error.
    """

    provider: str
    base_url: str | None
    key_variable: str
    needs_key: bool = False

    def key(self, environ: Mapping[str, str]) -> str:
        """The key, or some text where none is needed. Raises: UsageError with code ``no_api_key``."""
        if key := environ.get(self.key_variable, "").strip():
            return key
        if self.needs_key:
            raise UsageError(f"{self.key_variable} is not set in the environment of this process",
                             code="no_api_key", hint=f"export {self.key_variable}=...")  # fmt: skip
        return "none"


def server_of(ref: ModelRef, environ: Mapping[str, str]) -> OpenAIServer:
    """The server that ``ref`` means. Raises: UsageError for a variable that holds no address."""
    if ref.base_url:
        variable = _COMPATIBLE_KEY if ref.provider == "openai" else _KEYS[ref.provider]
        return OpenAIServer(f"{ref.provider}-{place_of(ref.base_url)}", ref.base_url, variable)
    variable = _KEYS[ref.provider]
    match ref.provider:
        case "ollama":
            return OpenAIServer("ollama", ollama_url(environ.get("OLLAMA_HOST", "")), variable)
        case "vllm":
            return OpenAIServer(
                "vllm", checked_url(environ.get("VLLM_BASE_URL") or VLLM_URL, "VLLM_BASE_URL"), variable
            )
        case _:
            own = environ.get("OPENAI_BASE_URL")
            return OpenAIServer(
                "openai", checked_url(own, "OPENAI_BASE_URL") if own else None, variable, needs_key=True
            )


def ollama_url(host: str) -> str:
    """The base URL for a value of OLLAMA_HOST, which may lack scheme, host or port. Raises: UsageError."""
    host = host.strip().rstrip("/")
    scheme, _, rest = host.rpartition("://")
    place = checked_url(
        f"{scheme or 'http'}://{rest if rest and rest[0] != ':' else f'127.0.0.1{rest}'}", "OLLAMA_HOST"
    )
    parts = urlsplit(place)
    # A server that is told to listen everywhere is asked here.
    name = "127.0.0.1" if parts.hostname in ("0.0.0.0", "::") else str(parts.hostname)  # noqa: S104
    port = parts.port or (443 if scheme == "https" else 80 if scheme else OLLAMA_PORT)
    path = parts.path.rstrip("/")
    return f"{parts.scheme}://{f'[{name}]' if ':' in name else name}:{port}{path.removesuffix('/v1')}/v1"
