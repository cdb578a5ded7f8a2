"""Connection options: what wins over what, what is refused, and that the server accepts what comes out."""

from __future__ import annotations

import base64
import json
import os
import ssl
import time
from collections.abc import Callable
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import nats
import nkeys
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.options import ConnectOptions, resolve_options

Home = Callable[..., dict[str, str]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Make a user's configuration: contexts by name, and the selected one; gives the environment to resolve with."""

    def make(selected: str = "", /, **contexts: dict[str, Any] | str) -> dict[str, str]:
        directory = tmp_path / "config" / "nats" / "context"
        directory.mkdir(parents=True, exist_ok=True)
        for name, settings in contexts.items():
            text = settings if isinstance(settings, str) else json.dumps(settings)
            (directory / f"{name}.json").write_text(text)
        if selected:
            (directory.parent / "context.txt").write_text(selected + "\n")
        return {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HOME": str(tmp_path)}

    return make


def _file(path: Path, text: str = "x") -> str:
    path.write_text(text)
    return str(path)


# ---- what wins


def test_default(home: Home) -> None:
    """With nothing said, the address is the default one, without credentials."""
    assert resolve_options(env=home()) == ConnectOptions(servers=["nats://127.0.0.1:4222"])
    assert resolve_options(env=home(), default_url="nats://h:1").servers == ["nats://h:1"]


@pytest.mark.parametrize(
    ("url", "context", "extra_env", "server"),
    [
        (None, None, {}, "nats://selected:4222"),
        (None, None, {"NATS_CONTEXT": "named"}, "nats://named:4222"),
        (None, None, {"NATS_URL": "env"}, "nats://env:4222"),
        (None, None, {"NATS_URL": "env", "NATS_CONTEXT": "named"}, "nats://env:4222"),
        (None, None, {"NATS_URL": "env", "CALLBOARD_NATS_URL": "ours"}, "nats://ours:4222"),
        (None, "named", {"NATS_URL": "env", "CALLBOARD_NATS_URL": "ours"}, "nats://named:4222"),
        (None, "named", {"NATS_CONTEXT": "selected"}, "nats://named:4222"),
        ("arg", None, {"NATS_URL": "env", "NATS_CONTEXT": "named"}, "nats://arg:4222"),
        ("arg", "named", {"NATS_URL": "env"}, "nats://arg:4222"),
    ],
)
def test_address_by_precedence(
    home: Home, url: str | None, context: str | None, extra_env: dict[str, str], server: str
) -> None:
    """Arguments win over the environment, and the environment over contexts."""
    env = home("selected", selected={"url": "nats://selected"}, named={"url": "nats://named:4222"})
    assert resolve_options(url, context, env | extra_env).servers == [server]


def test_context_of_an_argument_keeps_its_credentials(home: Home) -> None:
    """A context named as an argument brings its credentials, also for an address given beside it."""
    env = home(prod={"url": "nats://prod", "user": "u", "password": "p"}) | {"NATS_TOKEN": "other"}
    options = resolve_options("nats://here", "prod", env)
    assert (options.servers, options.user, options.password, options.token) == (["nats://here:4222"], "u", "p", "")
    assert options.context == "prod"


@pytest.mark.parametrize(("url", "extra_env"), [("nats://local", {}), (None, {"CALLBOARD_NATS_URL": "nats://local"})])
def test_selected_context_is_not_mixed_with_another_address(
    home: Home, url: str | None, extra_env: dict[str, str]
) -> None:
    """The secrets of the selected context are not sent to an address that was named otherwise."""
    env = home("prod", prod={"url": "nats://prod", "user": "u", "password": "secret", "ca": "/no/such/file"})
    assert resolve_options(url, None, env | extra_env) == ConnectOptions(servers=["nats://local:4222"])


def test_authentication_of_layers_is_not_mixed(home: Home, tmp_path: Path) -> None:
    """Credentials in the environment replace those of the context as a whole."""
    creds = _file(tmp_path / "a.creds")
    env = home(prod={"url": "nats://prod", "user": "u", "password": "p"})
    options = resolve_options(env=env | {"NATS_CONTEXT": "prod", "NATS_CREDS": creds})
    assert (options.creds, options.user, options.password) == (creds, "", "")


def test_password_from_the_environment_completes_a_context(home: Home) -> None:
    """A context may hold the user and leave the password to the environment."""
    env = home(prod={"url": "nats://prod", "user": "u"}) | {"NATS_CONTEXT": "prod", "NATS_PASSWORD": "p"}
    options = resolve_options(env=env)
    assert (options.user, options.password) == ("u", "p")


def test_user_without_password_is_a_token(home: Home) -> None:
    """NATS_USER alone is a token, as it is for the nats CLI."""
    assert resolve_options(env=home() | {"NATS_USER": "t"}).token == "t"
    assert resolve_options(env=home() | {"NATS_TOKEN": "t"}).token == "t"


def test_every_setting_of_a_context_arrives(home: Home, tmp_path: Path) -> None:
    """All supported fields of a context are read, several servers among them; unknown fields are left alone."""
    files = {name: _file(tmp_path / name) for name in ("nkey", "cert", "key", "ca")}
    rest = {"tls_first": True, "inbox_prefix": "_INBOX.n1", "jetstream_domain": "hub"}
    env = home(all={"url": "nats://a, tls://b:5", "color_scheme": "red", "description": "d"} | files | rest)
    options = resolve_options(context="all", env=env)
    assert options == ConnectOptions(servers=["nats://a:4222", "tls://b:5"], context="all", **files, **rest)


def test_context_as_a_file(tmp_path: Path) -> None:
    """A context may be named by the path of its file, as in the nats CLI."""
    path = _file(tmp_path / "mine.json", '{"url": "nats://mine"}')
    assert resolve_options(context=path, env={}).servers == ["nats://mine:4222"]


# ---- addresses


def test_login_in_the_address_is_taken_out() -> None:
    """User, password or token in an address become fields, decoded; the address that gets printed holds none."""
    options = resolve_options("nats://u:p%40ss@a,u2.example:5", env={"NATS_TOKEN": "other"})
    assert options == ConnectOptions(servers=["nats://a:4222", "nats://u2.example:5"], user="u", password="p@ss")
    assert resolve_options("tok@a", env={}) == ConnectOptions(servers=["nats://a:4222"], token="tok")
    assert resolve_options("nats://[::1]", env={}).servers == ["nats://[::1]:4222"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://a", "scheme 'http'"),
        ("ws://a", "scheme 'ws'"),
        ("nats://", "no host"),
        (" , ", "empty"),
        ("nats://a/path", "goes on after host and port"),
        ("nats://a:port", "cannot be read"),
        ("nats://[::1", "cannot be read"),
        ("nats://a:99999", "cannot be read"),
        ("u:p@a,v:q@b", "different users"),
    ],
)
def test_bad_address(url: str, message: str) -> None:
    """An address that cannot be is refused with an example of a right one, or with what contradicts."""
    with pytest.raises(UsageError, match=message) as caught:
        resolve_options(url, env={})
    assert caught.value.path == "url"
    assert caught.value.hint


@given(st.text(alphabet="abc/@:#?,% é$", min_size=1, max_size=12))
def test_no_part_of_a_password_is_ever_printed(middle: str) -> None:
    """Whatever stands in a password, quoted or not, it shows neither in an error nor in the repr."""
    password = f"XX{middle}YY"
    for text in (password, quote(password, safe="")):
        try:
            shown = repr(resolve_options(f"nats://user:{text}@host:4222", env={}))
        except UsageError as error:
            shown = f"{error} {error.path}"
        assert "XX" not in shown
        assert "YY" not in shown


# ---- secrets


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    """Password, token, seed and creds text show as stars in repr, str and rich's output."""
    options = ConnectOptions(user="me", password="s1", token="s2", creds_text="s3", nkey_seed="s4")
    out = StringIO()
    Console(file=out).print(options, [options])
    for text in (repr(options), str(options), f"{options}", out.getvalue()):
        assert "me" in text
        assert not any(secret in text for secret in ("s1", "s2", "s3", "s4"))


def test_references(home: Home, tmp_path: Path) -> None:
    """creds and nkey may be paths with ~ or $VARIABLE, file:// URLs, or env:// names."""
    path = _file(tmp_path / "a.creds")
    env = home(c={"creds": "${DIR}/a.creds"}) | {"DIR": str(tmp_path), "SEED": "SUA", "CREDS": "text"}
    assert resolve_options(context="c", env=env).creds == path
    assert resolve_options(env=env | {"NATS_CREDS": f"file://{path}"}).creds == path
    assert resolve_options(env=env | {"NATS_CREDS": "env://CREDS"}).creds_text == "text"
    assert resolve_options(env=env | {"NATS_NKEY": "env://SEED"}).nkey_seed == "SUA"


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("NATS_CREDS", "op://vault/item", "op:// reference.*env://NAME"),
        ("NATS_NKEY", "nsc://op/acc/user", "nsc:// reference"),
        ("NATS_CREDS", "env://NOPE", r"\$NOPE is not set"),
        ("NATS_CREDS", "/no/such.creds", "cannot read /no/such.creds.*creds"),
        ("NATS_CA", "/no/ca.pem", "cannot read /no/ca.pem.*ca"),
        ("NATS_KEY", __file__, "without a certificate"),
        ("NATS_PASSWORD", "p", "without a user"),
    ],
)
def test_secret_that_cannot_be_had(home: Home, variable: str, value: str, message: str) -> None:
    """References to vaults, missing files and variables, and half settings are refused with what would be right."""
    with pytest.raises(UsageError, match=message):
        resolve_options(env=home() | {variable: value})


def test_a_seed_in_place_of_a_file_is_not_printed(home: Home) -> None:
    """Whoever puts the seed itself where a path belongs gets an error that does not repeat it."""
    seed, _ = _nkey(nkeys.PREFIX_BYTE_USER)
    with pytest.raises(UsageError, match="holds the secret itself") as caught:
        resolve_options(env=home() | {"NATS_NKEY": seed})
    assert seed not in str(caught.value)


# ---- contexts that cannot be used


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("prdo", "no nats context 'prdo'.*did you mean 'prod'"),
        ("zzz", "there are damaged, prod, proxied"),
        ("../prod", "no name of a context"),
        ("damaged", "damaged"),
        ("proxied", "sets socks_proxy.*connects directly"),
    ],
)
def test_bad_context(home: Home, name: str, message: str) -> None:
    """An unknown, damaged or unsupported context is refused with its name and a way out."""
    env = home(prod={}, damaged='{"url": 3}', proxied={"socks_proxy": "socks5://h:1"})
    for ask in (
        lambda: resolve_options(context=name, env=env),
        lambda: resolve_options(env=env | {"NATS_CONTEXT": name}),
    ):
        with pytest.raises(UsageError, match=message):
            ask()


def test_no_contexts_at_all(home: Home) -> None:
    """On a machine without contexts the error tells how to make one; a selected one that is gone is named."""
    with pytest.raises(UsageError, match="nats context add x"):
        resolve_options(context="x", env=home())
    with pytest.raises(UsageError, match="'gone'"):
        resolve_options(env=home("gone"))


# ---- the server accepts it


def _nkey(prefix: int) -> tuple[str, str]:
    seed = nkeys.encode_seed(os.urandom(32), prefix)
    return bytes(seed).decode(), nkeys.from_seed(bytearray(seed)).public_key.decode()


async def _who_am_i(options: ConnectOptions) -> str:
    async with await nats.connect(**options.to_nats_kwargs(), allow_reconnect=False) as client:
        reply = await client.request("$SYS.REQ.USER.INFO", timeout=5)
    return str(json.loads(reply.data)["data"]["user"])


async def test_login_and_inbox_prefix_work(home: Home) -> None:
    """User, password and inbox prefix from a context connect, with permission for this prefix alone."""
    allow = '{ subscribe: { allow: ["_INBOX.n1.>"] } }'
    config = f'authorization {{ users: [{{ user: u, password: "p w", permissions: {allow} }}] }}'
    async with await EmbeddedServer.start(jetstream=False, config=config) as server:
        env = home(c={"url": server.url, "user": "u", "password": "p w", "inbox_prefix": "_INBOX.n1"})
        assert await _who_am_i(resolve_options(context="c", env=env)) == "u"
        login = server.url.replace("nats://", "nats://u:p%20w@")
        options = resolve_options(login, env={})
        assert (options.user, options.password) == ("u", "p w")
        async with await nats.connect(**options.to_nats_kwargs()) as client:
            assert client.is_connected


async def test_token_works() -> None:
    """A token in the address or the environment connects."""
    async with await EmbeddedServer.start(jetstream=False, config='authorization { token: "t0ken" }') as server:
        for options in (
            resolve_options(server.url.replace("//", "//t0ken@"), env={}),
            resolve_options(server.url, env={"NATS_TOKEN": "t0ken"}),
        ):
            async with await nats.connect(**options.to_nats_kwargs()) as client:
                assert client.is_connected


async def test_nkey_works(tmp_path: Path) -> None:
    """An nkey seed connects from a file and from a variable."""
    seed, public = _nkey(nkeys.PREFIX_BYTE_USER)
    config = f"authorization {{ users: [{{ nkey: {public} }}] }}"
    async with await EmbeddedServer.start(jetstream=False, config=config) as server:
        for env in ({"NATS_NKEY": _file(tmp_path / "seed.nk", seed)}, {"NATS_NKEY": "env://SEED", "SEED": seed}):
            assert await _who_am_i(resolve_options(server.url, env=env)) == public


def _jwt(seed: str, subject: str, name: str, claims: dict[str, Any]) -> str:
    def pack(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    pair = nkeys.from_seed(bytearray(seed.encode()))
    body = {"iat": int(time.time()), "iss": pair.public_key.decode(), "name": name, "sub": subject, "nats": claims}
    body["jti"] = sha256(json.dumps(body).encode()).hexdigest()
    head = pack(b'{"typ":"JWT","alg":"ed25519-nkey"}') + "." + pack(json.dumps(body).encode())
    return head + "." + pack(pair.sign(head.encode()))


async def test_creds_work(tmp_path: Path) -> None:
    """A creds file connects to a server in operator mode, by path and as text in a variable."""
    (op_seed, op), (acc_seed, acc), (seed, user) = (
        _nkey(prefix) for prefix in (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER)
    )
    operator = _jwt(op_seed, op, "op", {"type": "operator", "version": 2})
    limits = dict.fromkeys(("subs", "data", "payload", "imports", "exports", "conn", "leaf"), -1) | {"wildcards": True}
    account = _jwt(op_seed, acc, "acc", {"type": "account", "version": 2, "limits": limits})
    jwt = _jwt(acc_seed, user, "me", {"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1})
    creds = (
        f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    )
    config = f"operator: {operator}\nresolver: MEMORY\nresolver_preload {{ {acc}: {account} }}"
    async with await EmbeddedServer.start(jetstream=False, config=config) as server:
        for env in ({"NATS_CREDS": _file(tmp_path / "me.creds", creds)}, {"NATS_CREDS": "env://C", "C": creds}):
            async with await nats.connect(**resolve_options(server.url, env=env).to_nats_kwargs()) as client:
                assert client.is_connected


@pytest.mark.parametrize("first", [False, True])
async def test_tls_with_client_certificate_works(home: Home, tmp_path: Path, first: bool) -> None:
    """CA, certificate and key connect to a server that verifies clients, also with the TLS handshake first."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("127.0.0.1", "client@example.org"):
        made = authority.issue_cert(name)
        made.private_key_pem.write_to_path(tmp_path / f"{name[:6]}.key")
        made.cert_chain_pems[0].write_to_path(tmp_path / f"{name[:6]}.pem")
    files = f'cert_file: "{tmp_path}/127.0..pem", key_file: "{tmp_path}/127.0..key", ca_file: "{tmp_path}/ca.pem"'
    config = f"tls {{ {files}, verify: true, handshake_first: {str(first).lower()} }}"
    async with await EmbeddedServer.start(jetstream=False, config=config) as server:
        settings = {name: f"{tmp_path}/{file}" for name, file in
                    (("ca", "ca.pem"), ("cert", "client.pem"), ("key", "client.key"))}  # fmt: skip
        options = resolve_options(context="c", env=home(c={"url": server.url, "tls_first": first} | settings))
        assert options.uses_tls
        async with await nats.connect(**options.to_nats_kwargs()) as client:
            assert client.is_connected


def test_tls_files_that_are_none(home: Home, tmp_path: Path) -> None:
    """A file that holds no certificate is named in the error; a tls:// address alone uses the system's authorities."""
    options = resolve_options("tls://h", env={"NATS_CA": _file(tmp_path / "ca.pem", "no certificate")})
    with pytest.raises(UsageError, match=r"ca\.pem"):
        options.to_nats_kwargs()
    assert isinstance(resolve_options("tls://h", env={}).to_nats_kwargs()["tls"], ssl.SSLContext)
    assert "tls" not in resolve_options("nats://h", env={}).to_nats_kwargs()
