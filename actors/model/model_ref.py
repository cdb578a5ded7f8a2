"""A model as a text names it: ``provider:name``, with a base URL after ``@`` if it is not at the provider's own. Pure.

``anthropic:claude-sonnet-5``, ``openai:gpt-4.1``, ``openai:NAME@http://host:8000/v1``, ``ollama:llama3.2``,
``vllm:NAME``, ``scripted:module:attribute``, ``cassette:PATH`` and ``cassette:PATH+REF``.
"""

from __future__ import annotations

import re
from typing import Literal, get_args
from urllib.parse import urlsplit

import msgspec

from bus.errors import UsageError

Provider = Literal["anthropic", "openai", "ollama", "vllm", "scripted", "cassette"]
PROVIDERS: tuple[Provider, ...] = get_args(Provider)
EXAMPLES = {
    "anthropic": "anthropic:claude-sonnet-5",
    "openai": "openai:gpt-4.1",
    "ollama": "ollama:llama3.2",
    "vllm": "vllm:Qwen/Qwen3-8B@http://127.0.0.1:8000/v1",
    "scripted": "scripted:shop.script:model",
    "cassette": "cassette:tests/answers.jsonl",
}
# How the names of models begin that people write without their provider.
_FAMILIES: tuple[tuple[str, Provider], ...] = (
    ("claude", "anthropic"), ("gpt", "openai"), ("o1", "openai"), ("o3", "openai"), ("o4", "openai"),
    ("llama", "ollama"),
)  # fmt: skip
_URL = re.compile(r"@(?=https?://)")
_THROUGH = re.compile(r"\+(?=[A-Za-z][\w-]*:)")


class ModelRef(msgspec.Struct, frozen=True):
    """Which model, where. ``name`` is a cassette's path, or a script's ``module:attribute``.

    ``base_url`` is empty for the provider's own address. ``through`` is the model whose answers a cassette keeps.
    """

    provider: Provider
    name: str
    base_url: str = ""
    through: ModelRef | None = None

    def __str__(self) -> str:
        at = f"@{self.base_url}" if self.base_url else ""
        return f"{self.provider}:{self.name}{at}" + (f"+{self.through}" if self.through else "")


def parse_model_ref(text: str) -> ModelRef:
    """Read a ref. Raises: UsageError with code ``bad_model_ref`` or ``unknown_provider``, and what is near."""
    provider, colon, rest = text.strip().partition(":")
    if provider not in PROVIDERS or not colon:
        raise _unknown(text, provider, colon)
    if not rest:
        raise _bad(text, f"{provider}: has no name of a model", provider)
    match provider:
        case "cassette":
            return _cassette(text, rest)
        case "scripted":
            return _script(text, rest)
        case _:
            return _served(text, provider, rest)


def _served(text: str, provider: Provider, rest: str) -> ModelRef:
    name, *more = _URL.split(rest, maxsplit=1)
    if not name or name != name.strip() or any(each.isspace() for each in rest):
        raise _bad(text, f"{name!r} is no name of a model", provider)
    return ModelRef(provider, name, checked_url(more[0], text) if more else "")


def checked_url(url: str, where: str) -> str:
    """A base URL that is one, without the slash at its end. ``where`` it stands, for the error.

    Raises: UsageError with code ``bad_model_ref``.
    """
    if "@" in url.partition("://")[2].partition("/")[0]:
        # The text stays out of the message: what stands before the @ is a password.
        raise UsageError("a model's base URL holds credentials", code="bad_model_ref",
                         hint="put the key into the provider's environment variable")  # fmt: skip
    if not _is_base_url(url):
        raise UsageError(f"{where}: {url!r} is no base URL", code="bad_model_ref", path=where,
                         hint="such as http://127.0.0.1:8000/v1")  # fmt: skip
    return url.rstrip("/")


def place_of(url: str) -> str:
    """Host and port of a base URL as one word that may stand in a subject."""
    return re.sub(r"[^A-Za-z0-9]+", "-", urlsplit(url).netloc).strip("-").lower()


def _is_base_url(url: str) -> bool:
    if any(each.isspace() for each in url):
        return False
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        return is_whole and not parts.query + parts.fragment
    except ValueError:  # a port that is no number, an address in half a bracket
        return False


def _script(text: str, rest: str) -> ModelRef:
    module, _, attribute = rest.rpartition(":")
    if not module or not attribute:
        raise _bad(text, f"{rest!r} is no module:attribute", "scripted")
    return ModelRef("scripted", rest)


def _cassette(text: str, rest: str) -> ModelRef:
    path, *through = _THROUGH.split(rest, maxsplit=1)
    if not path:
        raise _bad(text, "a cassette has a path", "cassette")
    inner = parse_model_ref(through[0]) if through else None
    if inner is not None and inner.provider == "cassette":
        raise _bad(text, "a cassette keeps the answers of a model, not those of another cassette", "cassette")
    return ModelRef("cassette", path, "", inner)


def _bad(text: str, reason: str, provider: str) -> UsageError:
    return UsageError(f"{text}: {reason}", code="bad_model_ref", path=text, hint=f"such as {EXAMPLES[provider]}")


def _unknown(text: str, provider: str, colon: str) -> UsageError:
    if not colon:
        family = next((whose for start, whose in _FAMILIES if provider.lower().startswith(start)), None)
        hint = (
            f"did you mean {family}:{provider}?" if family else f"write provider:name, such as {EXAMPLES['anthropic']}"
        )
        return UsageError(f"{text!r} names no provider", code="bad_model_ref", path=text, hint=hint)
    import difflib

    near = difflib.get_close_matches(provider.lower(), PROVIDERS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(PROVIDERS)}"
    return UsageError(f"{text}: there is no provider {provider!r}", code="unknown_provider", path=text, hint=hint)
