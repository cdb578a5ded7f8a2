"""Http: listed URLs only, credentials where they belong and nowhere else."""

from __future__ import annotations

import traceback
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import App, ToolContext
from actors.toolbox import Http
from actors.toolbox.web.address_guard import Target
from actors.toolbox.web.header_rules import checked_headers
from actors.toolbox.web.url_pattern import UrlPattern
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError, failure_of
from tests.web_server import Asked, Said, WebServer, json_said, web_server

CTX = ToolContext("default", "job-1", "call-2")
SECRET = "s3cret-token"
WRITES = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """A credential in the environment."""
    monkeypatch.setenv("EXAMPLE_TOKEN", SECRET)
    return SECRET


def http_of(*servers: WebServer, **settings: Any) -> Any:
    """The tool for the API of these servers."""
    allow = tuple(f"{server.url}/v1/*" for server in servers)
    openings = tuple(server.opening for server in servers)
    secret = {"Authorization": "Bearer ${EXAMPLE_TOKEN}"}
    kit = Http(**{"allow": allow, "allow_private": openings, "headers_from_env": secret, "methods": WRITES, **settings})
    tool = App("desk").use(kit).tools[0]

    async def call(url: str, method: str = "GET", **more: Any) -> Any:
        return await tool(CTX, url, method, **more)

    return call


# ---- pure


def matches(pattern: str, path: str, host: str = "api.example.com", port: int = 443) -> bool:
    """Whether a path of a host is meant by a pattern."""
    return UrlPattern.of(pattern).matches(Target("https", host, port), path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("https://api.example.com/*", "/"),
        ("https://api.example.com/v1/*", "/v1/a/b"),
        ("https://api.example.com/v1", "/v1"),
        ("https://api.example.com/u/*/posts", "/u/7/posts"),
        ("https://api.example.com:443/v1/*", "/v1/%20x"),
        ("https://*.example.com/v1/*", "/v1/x..y"),
    ],
)
def test_patterns_that_match(pattern: str, path: str) -> None:
    """A star in the middle is one part, at the end it is any rest."""
    assert matches(pattern, path)


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("https://api.example.com/v1/*", "/v2/a"),
        ("https://api.example.com/v1/*", "/v1"),
        ("https://api.example.com/v1", "/v1/"),
        ("https://api.example.com/v1/*", "/V1/a"),
        ("https://api.example.com/u/*/posts", "/u/7/8/posts"),
        ("https://api.example.com/u/*/posts", "/u//posts"),
        ("https://api.example.com/u/*/posts", "/u/7%2F8/posts"),
        ("http://api.example.com/v1/*", "/v1/a"),
        ("https://api.example.com:8443/v1/*", "/v1/a"),
        ("https://example.com/v1/*", "/v1/a"),
        ("https://*.api.example.com/v1/*", "/v1/a"),
        ("https://*.le.com/v1/*", "/v1/a"),
    ],
)
def test_patterns_that_do_not_match(pattern: str, path: str) -> None:
    """Scheme, host and port are exact, and a path is no other path."""
    assert not matches(pattern, path)


@given(
    st.lists(st.sampled_from(["a", "b", ".", ";x"]), max_size=3), st.sampled_from(["..", ".", "..;x", ".;"]),
    st.integers(0, 5), st.sampled_from(["/", "\\"]), st.booleans(),
)  # fmt: skip
def test_no_path_climbs(before: list[str], up: str, encodings: int, slash: str, whole: bool) -> None:
    """However its dots and slashes are encoded, a path that leads up is matched by no pattern."""
    path = slash.join(["v1", *before, up, "admin"])
    for _ in range(encodings):
        path = (
            "".join(f"%{ord(c):02x}" for c in path)
            if whole and len(path) < 100
            else quote(path.replace(".", "%2e"), "")
        )
    path = f"/v1/{path}"
    assert not matches("https://api.example.com/*", path)


@pytest.mark.parametrize(
    "pattern",
    ["", "*", "https://*/", "https://api.example.com*", "https://api.example.com", "api.example.com/*", "ftp://a.b/*",
     "https://a.b/x?q=*", "https://u@a.b/*", "https://a.b/v1/../x", "https://a.*.b/", "https://A.b/", "https://a.b./x"],
)  # fmt: skip
def test_patterns_that_cannot_be(pattern: str) -> None:
    """What would mean more than it seems to, or nothing, is told when the app is declared."""
    with pytest.raises(UsageError, match="no pattern"):
        UrlPattern.of(pattern)


@given(st.text(), st.text())
def test_no_header_holds_a_line_break(name: str, value: str) -> None:
    """Whatever a model asks for, what is sent is one header, and none of those that are ours."""
    try:
        sent = checked_headers({name: value}, frozenset({"x-key"}))
    except TerminalError:
        return
    line = f"{name}: {sent[name]}"
    assert line.isascii() and line.replace("\t", "").isprintable() and name.lower() not in ("host", "x-key", "cookie")


@pytest.mark.parametrize(
    "headers",
    [{"X": "a\r\nHost: evil"}, {"X\r\nY": "a"}, {"X": "a\nb"}, {"X": "a\0"}, {"Host": "evil"}, {"content-length": "0"},
     {"Transfer-Encoding": "chunked"}, {"authorization": "mine"}, {"Cookie": "a"}, {"X-Key": "mine"}, {"": "a"},
     {"X-Forwarded-For": "127.0.0.1"}, {"X-HTTP-Method-Override": "DELETE"}, {"X": "ä"}, {"a b": "c"}],
)  # fmt: skip
def test_headers_that_are_refused(headers: dict[str, str]) -> None:
    """Injected lines, and headers that say where a message goes or who sends it."""
    with pytest.raises(TerminalError) as refused:
        checked_headers(headers, frozenset({"x-key"}))
    assert refused.value.code == "bad_header"


@pytest.mark.parametrize(
    "settings",
    [{"allow": ()}, {"methods": ("TRACE",)}, {"methods": ("get",)}, {"methods": ()}, {"timeout_s": 0},
     {"size_limit_bytes": 0}, {"headers_from_env": {"Authorization": "Bearer x"}},
     {"headers_from_env": {"a b": "X"}}, {"name": "x.y"}],
)  # fmt: skip
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    """They are told when the app is declared."""
    with pytest.raises(UsageError):
        Http(**{"allow": ("https://a.b/*",), **settings})


# ---- the tool


def test_only_what_asks_is_read_only() -> None:
    """A tool whose methods change nothing says so, and any that may write does not."""
    for methods, reads in ((("GET",), True), (("GET", "HEAD"), True), (("GET", "POST"), False), (WRITES, False)):
        (tool,) = App("desk").use(Http(("https://api.example.com/*",), methods=methods)).tools
        assert tool.read_only is reads, methods


async def test_a_request() -> None:
    """Query, headers and credential go out; JSON comes back as what it is, text as text."""

    def say(asked: Asked) -> Said:
        if asked.path == "/v1/text":
            return Said("plain", content_type="text/plain", headers={"set-cookie": "a=b"})
        return json_said({"auth": asked.headers.get("authorization"), "n": [1]}, etag="7")

    async with web_server(say) as server:
        http = http_of(server)
        answer = await http(f"{server.url}/v1/x?a=1", params={"b": True, "c": 2}, headers={"X-Trace": "t"})
        assert answer.json == {"auth": "Bearer ***", "n": [1]} and answer.headers["etag"] == "7"
        asked = server.asked[0]
        assert asked.query == {"a": "1", "b": "true", "c": "2"} and asked.headers["x-trace"] == "t"
        assert asked.headers["authorization"] == f"Bearer {SECRET}" and "idempotency-key" not in asked.headers
        text = await http(f"{server.url}/v1/text")
        assert (text.json, text.text, text.headers) == (None, "plain", {"content-type": "text/plain"})


async def test_writes_have_an_idempotency_key() -> None:
    """It is the call's, so that a second attempt is known as the same; the body is JSON."""
    async with web_server(lambda asked: json_said({"id": 1}, 201)) as server:
        answer = await http_of(server)(f"{server.url}/v1/x", "POST", json={"a": 1})
        assert (answer.status, answer.json) == (201, {"id": 1})
        await http_of(server)(f"{server.url}/v1/x", "DELETE")
    first, second = server.asked
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == "job-1/call-2"
    assert first.json() == {"a": 1} and first.headers["content-type"] == "application/json"
    assert second.body == b"" and "content-type" not in second.headers


async def test_what_is_not_allowed() -> None:
    """Another URL, another method, a body where none belongs: told before anything is sent."""
    async with web_server(lambda _: json_said({})) as server:
        http = http_of(server, methods=("GET", "POST"))
        x, port_1 = f"{server.url}/v1/x", "http://127.0.0.1:1/v1/x"
        refused: list[tuple[str, str, dict[str, Any], str]] = [
            (f"{server.url}/v2/x", "GET", {}, "url_refused"), (f"{server.url}/v1/../v2", "GET", {}, "url_refused"),
            (f"{server.url}/v1/%2e%2e/x", "GET", {}, "url_refused"), (x, "DELETE", {}, "method_refused"),
            (x, "GET", {"json": {}}, "bad_input"), (port_1, "GET", {}, "address_refused"),
            (x, "POST", {"json": "x" * 2_000_000}, "too_large"),
            (x, "GET", {"headers": {"Authorization": "x"}}, "bad_header"),
            (x, "POST", {"headers": {"idempotency-key": "x"}}, "bad_header"),
        ]  # fmt: skip
        for url, method, more, code in refused:
            with pytest.raises(TerminalError) as told:
                await http(url, method, **more)
            assert told.value.code == code, url
        assert not server.asked
    public = App("desk").use(Http(("http://127.0.0.1:8080/*",))).tools[0]
    with pytest.raises(TerminalError, match="loopback"):
        await public(CTX, "http://127.0.0.1:8080/")


async def test_credentials_stay_where_they_belong() -> None:
    """Over a redirect they go on at the same origin; another origin gets neither them nor the model's headers."""
    where = ""
    async with web_server(lambda _: json_said({"far": True})) as far:

        def say(asked: Asked) -> Said:
            return json_said({}) if asked.path == "/v1/end" else Said(status=302, headers={"location": where})

        async with web_server(say) as near:
            http = http_of(near, far)
            where = "/v1/end"
            await http(f"{near.url}/v1/x")
            assert [asked.headers.get("authorization") for asked in near.asked] == [f"Bearer {SECRET}"] * 2
            where = f"{far.url}/v1/x"
            assert (await http(f"{near.url}/v1/x", headers={"X-Mine": "1"})).json == {"far": True}
            assert not {"authorization", "x-mine"} & far.asked[0].headers.keys()
            where = f"{far.url}/private"
            with pytest.raises(TerminalError, match="not allowed"):
                await http(f"{near.url}/v1/x")
            with pytest.raises(TerminalError, match="a POST is not sent on"):
                await http(f"{near.url}/v1/x", "POST")
            assert len(far.asked) == 1


@pytest.mark.parametrize(
    ("said", "kind", "code"),
    [
        (json_said({"error": f"field x is wrong, {SECRET}"}, 422), TerminalError, "http_status"),
        (Said(f"no {SECRET}", 404, "text/plain"), TerminalError, "not_found"),
        (json_said({}, 429, retry_after="5"), RetryableError, "rate_limited"),
        (json_said({}, 500), RetryableError, "unavailable"),
        (json_said("x" * 4_000), TerminalError, "too_large"),
        (Said(b"\0", content_type="image/png"), TerminalError, "content_type"),
    ],
)
async def test_answers_that_are_errors(said: Said, kind: type[TerminalError | RetryableError], code: str) -> None:
    """A model reads what the API says is wrong; the credential is in no part of it, sent back or not."""
    async with web_server(lambda _: said) as server:
        with pytest.raises(kind) as failed:
            await http_of(server, size_limit_bytes=2_000)(f"{server.url}/v1/x")
    assert failed.value.code == code
    assert SECRET not in "".join(traceback.format_exception(failed.value)) + repr(failure_of(failed.value))
    if said.status == 422:
        assert "field x is wrong, ***" in str(failed.value)


async def test_answers_that_are_not_what_they_say() -> None:
    """JSON that is none is given as text; nothing is nothing."""
    async with web_server(lambda asked: Said("{", content_type="application/json") if asked.path == "/v1/x"
                          else Said(status=204, content_type="")) as server:  # fmt: skip
        broken = await http_of(server)(f"{server.url}/v1/x")
        assert (broken.json, broken.text) == (None, "{")
        empty = await http_of(server)(f"{server.url}/v1/y", "DELETE")
        assert (empty.status, empty.json, empty.text) == (204, None, "")


async def test_credentials_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is missing is named; one that is no header is not sent, nor shown."""
    async with web_server(lambda _: json_said({})) as server:
        for value in ("", "two\nlines"):
            monkeypatch.setenv("EXAMPLE_TOKEN", value)
            with pytest.raises(TerminalError) as failed:
                await http_of(server)(f"{server.url}/v1/x")
            assert failed.value.code == "no_credentials" and "two" not in str(failed.value)
        monkeypatch.setenv("EXAMPLE_TOKEN", "plain")
        await http_of(server, headers_from_env={"X-Key": "EXAMPLE_TOKEN"})(f"{server.url}/v1/x")
        assert [asked.headers["x-key"] for asked in server.asked] == ["plain"]
