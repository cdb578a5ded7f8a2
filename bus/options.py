"""How to reach NATS: from arguments, the environment and the contexts of the ``nats`` CLI (ADR-21), in this order.

- Address: argument ``url``, else the context given as an argument, else ``CALLBOARD_NATS_URL``, else ``NATS_URL``, else
  the context of ``NATS_CONTEXT`` or the one selected with ``nats context select``.
- Each layer is complete in how it authenticates: a user name of one is never sent with the creds file of another. (Only
  a user and a password may come from two layers, so that a context need not hold the password.)
- The selected context and ``NATS_CONTEXT`` are not read when an address is given as an argument, and the selected one
  not when the environment gives an address: its secrets are for its own servers. The ``nats`` CLI does mix them.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from bus.contexts import load_context, selected_context
from bus.errors import UsageError

DEFAULT_URL = "nats://127.0.0.1:4222"
URL_VARIABLE = "CALLBOARD_NATS_URL"
SCHEMES = ("nats", "tls")  # nats-py wants aiohttp for websockets

# What the `nats` CLI reads from the environment, and the field of a context that it overrides.
_VARIABLES = {
    "NATS_USER": "user",
    "NATS_PASSWORD": "password",
    "NATS_TOKEN": "token",
    "NATS_CREDS": "creds",
    "NATS_NKEY": "nkey",
    "NATS_CERT": "cert",
    "NATS_KEY": "key",
    "NATS_CA": "ca",
}
_LOGIN = frozenset({"user", "password"})
_AUTH = _LOGIN | {"token", "creds", "nkey"}
_SHOWN = frozenset(
    {
        "servers",
        "user",
        "creds",
        "nkey",
        "cert",
        "key",
        "ca",
        "tls_first",
        "inbox_prefix",
        "jetstream_domain",
        "context",
    }
)


class ConnectOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a connection needs to know; ``servers`` hold no user or password, and neither does the repr.

    ``creds`` and ``nkey`` are paths; ``creds_text`` and ``nkey_seed`` are their content where the environment gave it.
    """

    servers: list[str] = msgspec.field(default_factory=lambda: [DEFAULT_URL])
    user: str = ""
    password: str = ""
    token: str = ""
    creds: str = ""
    creds_text: str = ""
    nkey: str = ""
    nkey_seed: str = ""
    cert: str = ""
    key: str = ""
    ca: str = ""
    tls_first: bool = False
    inbox_prefix: str = ""
    jetstream_domain: str = ""
    context: str = ""

    @property
    def uses_tls(self) -> bool:
        """The user asked for TLS: nats-py itself would go on without it if the server does not insist."""
        schemes = {urlsplit(server).scheme for server in self.servers}
        return bool(self.ca or self.cert or self.tls_first or "tls" in schemes)

    def to_nats_kwargs(self) -> dict[str, Any]:
        """Arguments for ``nats.connect`` that say where and as whom; how (time limits, reconnects) is the caller's.

        Raises: UsageError if a file cannot be read or holds no certificate.
        """
        kwargs: dict[str, Any] = {"servers": list(self.servers)} | self._auth_kwargs()
        if self.inbox_prefix:
            kwargs["inbox_prefix"] = self.inbox_prefix
        if self.uses_tls:
            kwargs["tls"] = self._ssl_context()
        if self.tls_first:
            kwargs["tls_handshake_first"] = True
        return kwargs

    def _auth_kwargs(self) -> dict[str, Any]:
        # A token may go along with any of the others: an auth callout can ask for both.
        return self._identity_kwargs() | ({"token": self.token} if self.token else {})

    def _identity_kwargs(self) -> dict[str, Any]:
        """The first that is set, in the order of the ``nats`` CLI: login, creds, nkey."""
        if self.user:
            return {"user": self.user, "password": self.password}
        if self.creds_text:
            from nats.aio.client import RawCredentials

            return {"user_credentials": RawCredentials(self.creds_text)}
        if self.creds:
            return {"user_credentials": _readable(self.creds, "creds")}
        if self.nkey_seed:
            return {"nkeys_seed_str": self.nkey_seed}
        return {"nkeys_seed": _readable(self.nkey, "nkey")} if self.nkey else {}

    def _ssl_context(self) -> ssl.SSLContext:
        for field, path in (("ca", self.ca), ("cert", self.cert), ("key", self.key)):
            if path:
                _readable(path, field)
        try:
            context = ssl.create_default_context(cafile=self.ca or None)
            if self.cert:
                context.load_cert_chain(self.cert, self.key or None)
        except (ssl.SSLError, OSError) as error:
            files = ", ".join(path for path in (self.ca, self.cert, self.key) if path)
            raise UsageError(
                f"cannot use {files} for TLS: {error}", code="bad_tls", path="tls", hint=_PEM_HINT
            ) from error
        return context

    def __repr__(self) -> str:
        return f"ConnectOptions({', '.join(f'{field}={value!r}' for field, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """What is set, with secrets as stars; both reprs of msgspec would show them."""
        fields = [(field, getattr(self, field)) for field in self.__struct_fields__]
        return [(field, value if field in _SHOWN else "***") for field, value in fields if value]


_PEM_HINT = "PEM files are expected: ca, cert, and key (unless it is in the cert file)"


def resolve_options(
    url: str | None = None,
    context: str | None = None,
    env: Mapping[str, str] | None = None,
    default_url: str = DEFAULT_URL,
) -> ConnectOptions:
    """The options that arguments, environment (``env`` None: this process's own) and ``nats`` contexts add up to.

    ``url`` may be a list separated by commas; a user or token in it is taken out of the address.
    Raises: UsageError (unknown context, missing file, a kind of secret that we cannot read, contradictions).
    """
    env = os.environ if env is None else env
    fields = _with_login_of_url({"url": default_url})
    for layer in _layers(url, context, env):
        fields = _over(layer, fields)
    servers = [_parse_server(server).geturl() for server in _split(fields.pop("url"))]
    options = ConnectOptions(servers=servers, **_read_references(fields, env))
    _check(options)
    return options


# ---- layers, the weakest first


def _layers(url: str | None, context: str | None, env: Mapping[str, str]) -> list[dict[str, Any]]:
    from_env = _with_login_of_url(_environment(env))
    from_url = _with_login_of_url({"url": url} if url else {})
    if context:
        return [from_env, _context(context, env), from_url]
    if url:
        return [from_env, from_url]
    name = env.get("NATS_CONTEXT") or ("" if "url" in from_env else selected_context(env))
    return [_context(name, env), from_env] if name else [from_env]


def _context(name: str, env: Mapping[str, str]) -> dict[str, Any]:
    return _with_login_of_url(load_context(name, env))


def _environment(env: Mapping[str, str]) -> dict[str, Any]:
    layer: dict[str, Any] = {field: env[variable] for variable, field in _VARIABLES.items() if env.get(variable)}
    if address := env.get(URL_VARIABLE) or env.get("NATS_URL"):
        layer["url"] = address
    if "user" in layer and "password" not in layer:
        layer["token"] = layer.pop("user")  # as the `nats` CLI takes it: "username or token"
    return layer


def _over(upper: dict[str, Any], lower: dict[str, Any]) -> dict[str, Any]:
    """``upper`` over ``lower``, where authentication counts as one setting."""
    auth, old_auth = upper.keys() & _AUTH, lower.keys() & _AUTH
    is_one_login = auth | old_auth <= _LOGIN
    kept = {field: value for field, value in lower.items() if is_one_login or not auth or field not in _AUTH}
    if {"cert", "key"} & upper.keys():  # a pair as well
        kept = {field: value for field, value in kept.items() if field not in ("cert", "key")}
    return kept | upper


def _with_login_of_url(layer: dict[str, Any]) -> dict[str, Any]:
    """Move ``user:password@`` or ``token@`` from the addresses of a layer into its fields: addresses get printed."""
    if not layer.get("url"):
        return layer
    servers = [_parse_server(server) for server in _split(layer["url"])]
    logins = {server.netloc.rpartition("@")[0] for server in servers} - {""}
    if len(logins) > 1:
        raise UsageError("the addresses name different users", code="bad_url", path="url", hint="one user for all")
    bare = [server._replace(netloc=server.netloc.rpartition("@")[2]).geturl() for server in servers]
    without = {field: value for field, value in layer.items() if not logins or field not in _AUTH}
    return without | {"url": ",".join(bare)} | (_login(logins.pop()) if logins else {})


def _login(userinfo: str) -> dict[str, str]:
    user, colon, password = userinfo.partition(":")
    return {"user": unquote(user), "password": unquote(password)} if colon else {"token": unquote(user)}


# ---- addresses


def _split(url: str) -> list[str]:
    servers = [part.strip() for part in url.split(",") if part.strip()]
    if not servers:
        raise UsageError("the NATS address is empty", code="bad_url", path="url", hint=_URL_HINT)
    return servers


_URL_HINT = f"an address looks like {DEFAULT_URL}; several are separated by commas"


def _parse_server(server: str) -> SplitResult:
    # Messages quote no more than the scheme and the host: what stands before or after may be part of a password.
    try:
        parts = urlsplit(server if "://" in server else f"nats://{server}")
        port = parts.port
    except ValueError:
        host = server.rpartition("://")[2].rpartition("@")[2].partition(":")[0]
        raise _bad_url(f"the NATS address at {host!r} has a port or host that cannot be read") from None
    if parts.scheme not in SCHEMES:
        raise _bad_url(f"the NATS address has the scheme {parts.scheme!r}")
    if not parts.hostname:
        raise _bad_url("the NATS address names no host")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise _bad_url("the NATS address goes on after host and port", hint="in a password, quote / ? # as %2F %3F %23")
    return parts._replace(netloc=parts.netloc if port else f"{parts.netloc.rstrip(':')}:4222", path="")


def _bad_url(message: str, *, hint: str = _URL_HINT) -> UsageError:
    return UsageError(message, code="bad_url", path="url", hint=hint)


# ---- secrets and files


_SEED = re.compile(r"S[A-Z][A-Z2-7]{40,}\s*$")
_REFERENCE_HINT = "name a file as /path or file:///path, or a variable as env://NAME"


def _read_references(fields: dict[str, Any], env: Mapping[str, str]) -> dict[str, Any]:
    """Resolve ``~``, ``file://`` and ``env://`` in the fields that name files or hold secrets."""
    done = dict(fields)
    for field, text_field in (("creds", "creds_text"), ("nkey", "nkey_seed")):
        path, text = _reference(fields.get(field, ""), field, env)
        done[field], done[text_field] = path, text
    for field in ("cert", "key", "ca"):
        done[field] = _path(fields.get(field, ""))
    return done


def _reference(value: str, field: str, env: Mapping[str, str]) -> tuple[str, str]:
    """(path, content) of what a context names as creds or nkey; at most one of them is set."""
    if _SEED.match(value) or value.startswith("-----BEGIN"):
        raise UsageError(f"{field} holds the secret itself", code="bad_secret", path=field, hint=_REFERENCE_HINT)
    scheme, mark, rest = value.partition("://")
    match scheme if mark else "file":
        case "file":
            return _path(rest if mark else value), ""
        case "env":
            if content := env.get(rest):
                return "", content
            raise UsageError(f"{field} is {value}, but ${rest} is not set", code="no_secret", path=field)
        case other:
            raise UsageError(
                f"{field} is a {other}:// reference, which callboard does not read",
                code="unsupported_secret",
                path=field,
                hint=_REFERENCE_HINT,
            )


def _path(value: str) -> str:
    return str(Path(value).expanduser()) if value else ""


def _check(options: ConnectOptions) -> None:
    """Raises: UsageError for a missing file (early, with the name of the setting) or half a setting."""
    for field in ("creds", "nkey", "cert", "key", "ca"):
        if path := getattr(options, field):
            _readable(path, field)
    if options.key and not options.cert:
        raise UsageError("a TLS key without a certificate", code="bad_tls", path="key", hint="set cert (NATS_CERT) too")
    if options.password and not options.user:
        raise UsageError("a password without a user", code="bad_login", path="user", hint="set user (NATS_USER) too")


def _readable(path: str, field: str) -> str:
    try:
        with Path(path).open("rb"):
            return path
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", code="no_file", path=field,
                         hint=f"it is named as {field} for the NATS connection") from error  # fmt: skip
