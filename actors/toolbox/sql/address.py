"""Where a database is: a URL, or the environment variable that holds it. What is shown of it never has the password."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from bus.errors import UsageError
from bus.failure import TerminalError

EXAMPLES = "sqlite:///figures.db, postgresql://user@host/database, duckdb:///figures.duckdb, or env:NAME"
# A shorter password would be found in any text, and what is left of that would tell it.
SECRET_LEAST_CHARS = 4
_SCHEMES = {"sqlite": "sqlite", "postgresql": "postgres", "postgres": "postgres", "duckdb": "duckdb"}


@dataclass(frozen=True, slots=True)
class Address:
    """``engine`` is sqlite, postgres or duckdb; ``path`` the file of the first and the last."""

    engine: str
    path: str
    url: str = field(repr=False)

    def hidden(self, text: str) -> str:
        """``text`` without the URL and without its password, wherever a driver has put them."""
        text = text.replace(self.url, f"{self.engine} database")
        password = _password(self.url)
        for secret in {password, unquote(password)}:
            if len(secret) >= SECRET_LEAST_CHARS:
                text = text.replace(secret, "***")
        return text


def check_url(url: str) -> None:
    """Raises: UsageError, which does not repeat the URL, unless it is one of a database, or ``env:NAME``."""
    if not url.startswith("env:"):
        read_url(url)
    elif not re.fullmatch(r"env:[A-Za-z_]\w*", url, re.ASCII):
        raise UsageError("the url of Sql is no env:NAME", code="bad_url", path="url", hint=EXAMPLES)


def resolve(url: str, environ: Mapping[str, str] = os.environ) -> Address:
    """The address; a variable is read now. Raises: TerminalError if it is not set, UsageError."""
    if not url.startswith("env:"):
        return read_url(url)
    name = url.removeprefix("env:")
    if not environ.get(name):
        raise TerminalError(f"{name} is not set in the environment of the process that serves this tool; it is to hold "
                            f"the database's URL, such as {EXAMPLES}", code="no_database")  # fmt: skip
    return read_url(environ[name])


def read_url(url: str) -> Address:
    """Pure: what the URL says. As in SQLAlchemy three slashes begin a relative path, four an absolute one."""
    scheme, _, rest = url.partition("://")
    engine = _SCHEMES.get(scheme.lower())
    if engine is None or not rest:
        raise UsageError("this is no URL of a database that Sql knows", code="bad_url", path="url", hint=EXAMPLES)
    if engine == "postgres":
        return Address(engine, "", url)
    if not rest.startswith("/") or len(rest) == 1 or "?" in rest:
        raise UsageError(f"the url names no file of {scheme}", code="bad_url", path="url", hint=EXAMPLES)
    return Address(engine, unquote(rest[1:]), url)


def _password(url: str) -> str:
    try:
        return urlsplit(url).password or ""
    except ValueError:
        found = re.search(r"://[^:/@]*:([^@]*)@", url)
        return found[1] if found else ""
