"""Headers of a request: which of them a model may set, and how secrets get into the others. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from bus.errors import UsageError
from bus.failure import TerminalError

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
# Visible characters, spaces and tabs: a line break in a value would begin a header, or a request, of the model's own.
_VALUE = re.compile(r"[\x20-\x7e\t]{0,4000}")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_COUNT_LIMIT = 30
# They say where a message ends or goes, or who sends it.
_OURS = frozenset({
    "host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "expect",
    "authorization", "cookie", "forwarded", "via", "accept-encoding", "x-http-method-override", "x-http-method",
    "x-method-override", "x-original-url", "x-rewrite-url",
})  # fmt: skip
_OUR_PREFIXES = ("proxy-", "x-forwarded-", "sec-")
_HIDDEN = "***"
# A shorter value is found by chance in anything.
_SECRET_LEAST_CHARS = 6


@dataclass(frozen=True, slots=True)
class SecretHeaders:
    """Headers whose values are in the environment: a variable's name, or a text with ``${NAME}`` in it."""

    templates: Mapping[str, str]

    @classmethod
    def of(cls, headers_from_env: Mapping[str, str]) -> SecretHeaders:
        """Raises: UsageError for a header or variable that cannot be."""
        for name, template in headers_from_env.items():
            if not _NAME.fullmatch(name) or not _variables(template):
                raise UsageError(
                    f"headers_from_env: {name!r} cannot be {template!r}", path="headers_from_env",
                    hint='the name of a variable, or a text with it: {"Authorization": "Bearer ${EXAMPLE_TOKEN}"}',
                )  # fmt: skip
        return cls(dict(headers_from_env))

    def values(self, environ: Mapping[str, str], tool: str) -> dict[str, str]:
        """The headers with their secrets. Raises: TerminalError that names the variable that is missing."""
        found: dict[str, str] = {}
        for name, template in self.templates.items():
            for variable in _variables(template):
                if not environ.get(variable, "").strip():
                    raise TerminalError(
                        f"{tool} needs {variable} in the environment of the process that serves it",
                        code="no_credentials",
                    )
            found[name] = _filled(template, environ)
            if not _VALUE.fullmatch(found[name]):
                raise TerminalError(
                    f"the value for header {name} in the environment is no header", code="no_credentials"
                )
        return found

    def secrets(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """What must not be seen, longest first."""
        names = {variable for template in self.templates.values() for variable in _variables(template)}
        found = {environ.get(name, "").strip() for name in names}
        return tuple(sorted((each for each in found if len(each) >= _SECRET_LEAST_CHARS), key=len, reverse=True))


def hide(text: str, secrets: tuple[str, ...]) -> str:
    """``text`` without the secrets: some servers send back what they were sent."""
    for secret in secrets:
        text = text.replace(secret, _HIDDEN)
    return text


def checked_headers(given: Mapping[str, str], taken: frozenset[str]) -> dict[str, str]:
    """What a model asks for. ``taken`` are headers that are set for it, in lower case. Raises: TerminalError."""
    if len(given) > _COUNT_LIMIT:
        raise TerminalError(f"{len(given)} headers are too many, {_COUNT_LIMIT} are allowed", code="bad_header")
    for name, value in given.items():
        low = name.lower()
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise TerminalError(
                f"{name[:60]!r} is no header that can be sent: plain text on one line", code="bad_header"
            )
        if low in _OURS or low in taken or low.startswith(_OUR_PREFIXES):
            raise TerminalError(f"header {name} is set for you: leave it out", code="bad_header")
    return dict(given)


def _variables(template: str) -> list[str]:
    return _VARIABLE.findall(template) or ([template] if _VARIABLE.fullmatch(f"${{{template}}}") else [])


def _filled(template: str, environ: Mapping[str, str]) -> str:
    if _VARIABLE.search(template):
        return _VARIABLE.sub(lambda found: environ[found[1]].strip(), template)
    return environ[template].strip()
