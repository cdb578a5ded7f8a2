"""Fetch: pages as they are read, within their limits, and as their sites want it."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import App
from actors.toolbox import Fetch
from actors.toolbox.web.bounded_body import BoundedBody
from actors.toolbox.web.charset import text_of
from actors.toolbox.web.fetch import Page
from actors.toolbox.web.http_status import retry_after_s
from actors.toolbox.web.markdown import Link, read_html
from actors.toolbox.web.page_type import page_type
from actors.toolbox.web.robots import KEPT_S, Robots
from actors.toolbox.web.web_client import Answer
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError
from bus.moment import datetime
from tests.web_server import Asked, Said, WebServer, web_server

PAGE = """<!doctype html><html><head><title>Tea &amp; more</title><style>p { color: red }</style></head>
<body><script>var secret = "<p>no</p>";</script><h1>Kinds of <em>tea</em></h1>
<p>Green, <a href="/black?x=1#top">black</a>
   and <b>white</b>.<br>See <a href="javascript:alert(1)">this</a>.</p>
<ul><li>one<li>two<ol start="3"><li>three</ol></ul><pre>a
  b</pre><blockquote><p>said</p></blockquote>
<table><tr><th>kind<th>price<tr><td>green<td>3|4</table>
<img src="cup.png" alt="a cup"><img src="dot.gif"></body></html>"""

MARKDOWN = """# Kinds of *tea*

Green, [black](http://tea.example/black?x=1#top) and **white**.
See this.

- one
- two
  3. three

```
a
  b
```

> said

| kind | price |
| --- | --- |
| green | 3\\|4 |

![a cup](http://tea.example/shop/cup.png)"""

PLAIN = """Kinds of tea

Green, black and white.
See this.

- one
- two
  3. three

a
  b

said

kind | price

green | 3|4

a cup"""


def fetch_of(server: WebServer, **settings: Any) -> Any:
    """The tool, let in to the server of the test."""
    kit = App("desk").use(Fetch(**{"allow_private": (server.opening,), "robots": False, "timeout_s": 30.0, **settings}))
    return kit.tools[0]


# ---- pure


def test_html_as_markdown_and_as_text() -> None:
    """What is there to be read is kept in its order; scripts, styles and links that lead to no page are not."""
    read = read_html(PAGE, "http://tea.example/shop/")
    assert (read.title, read.text) == ("Tea & more", MARKDOWN)
    assert read.links == (Link("black", "http://tea.example/black?x=1#top"),)
    assert read_html(PAGE, "http://tea.example/shop/", plain=True).text == PLAIN


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<table><tr><td><table><tr><td>a<td>b</table><td>c</table>", "| a | b |\n| --- | --- |\n\nc"),
        ("<table><tr><td>one<tr><td>two</table>", "one\n\ntwo"),
        ("<a href='/x'><h3>Title</h3><p>words</p></a>", "### [Title](http://e.com/x)\n\n[words](http://e.com/x)"),
        ("<b>bold <i>both</b> plain", "**bold *both*** plain"),
        ("<title>never closed<p>text", "text"),
        ("<pre>```\ncode</pre>", "````\n```\ncode\n````"),
        ("a <svg><title>no</title><path/></svg> b<select><option>x</select>", "a b"),
        ("&lt;p&gt; &amp; &#65;", "<p> & A"),
        ("<p> </p><b> </b><ul></ul><table></table>", ""),
        ("<ul><li><p>one<p>more<li>two</ul>", "- one\n\n  more\n\n- two"),
    ],
)
def test_html_as_people_write_it(html: str, text: str) -> None:
    """Tables for layout, elements that are not closed or closed in the wrong order, links around blocks."""
    assert read_html(html, "http://e.com/").text == text


TAGS = st.sampled_from(
    ["a", "b", "p", "ul", "ol", "li", "table", "tr", "td", "th", "pre", "h1", "div", "br", "script", "title"]
)
PIECES = st.one_of(TAGS.map("<{}>".format), TAGS.map("</{}>".format), st.text(), st.just("<a href='/x'>"))
HTML = st.lists(PIECES).map("".join)


@given(HTML, st.booleans())
def test_any_html_can_be_read(html: str, plain: bool) -> None:
    """Nothing that a page holds makes the reader fail, and a word outside of all markup is never lost."""
    assert "word" in read_html(f"<p>word</p>{html}", "http://e.com/", plain=plain).text


def test_deep_html_can_be_read() -> None:
    """A page is as deep as it likes, and reading stops when its time is over."""
    deep = "<div><table><tr><td><b><ul><li>x" * 5_000
    assert read_html(deep, "http://e.com/").text.count("x") == 5_000
    assert read_html(deep, "http://e.com/", go_on=lambda: False).text == ""


@given(st.binary(max_size=3_000), st.integers(1, 2_000), st.integers(1, 500), st.sampled_from(["", "gzip", "deflate"]))
def test_a_body_is_kept_up_to_its_limit(body: bytes, limit: int, step: int, encoding: str) -> None:
    """However it is packed and whatever parts it comes in: its beginning, and whether there was more."""
    packed = {"": body, "gzip": gzip.compress(body), "deflate": zlib.compress(body)}[encoding]
    bounded = BoundedBody(limit, encoding)
    for start in range(0, len(packed), step):
        if not bounded.feed(packed[start : start + step]):
            break
    assert bounded.content == body[:limit]
    assert bounded.truncated == (len(body) > limit)


def test_bombs() -> None:
    """A small packed body that unpacks to much is unpacked no further than the limit; damage is told."""
    bounded = BoundedBody(1_000, "gzip")
    assert not bounded.feed(gzip.compress(bytes(50_000_000)))
    assert bounded.truncated and len(bounded.content) == 1_000
    with pytest.raises(RetryableError, match="damaged"):
        BoundedBody(1_000, "gzip").feed(b"not packed")
    with pytest.raises(TerminalError, match="nobody asked"):
        BoundedBody(1_000, "br")


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("tëa".encode(), "", "tëa"),
        ("tëa".encode("latin-1"), "text/html; charset=ISO-8859-1", "tëa"),
        ("“tea”".encode("cp1252"), "text/html; charset=us-ascii", "“tea”"),
        ("tëa".encode("cp1252"), "text/html", "tëa"),
        ("<meta charset=koi8-r>чай".encode("koi8-r"), "text/html", "<meta charset=koi8-r>чай"),
        ("<?xml encoding='shift_jis'?>茶".encode("shift_jis"), "", "<?xml encoding='shift_jis'?>茶"),
        (b"\xff\xfet\x00", "text/html; charset=utf-8", "t"),
        (b"\xef\xbb\xbft", "text/html; charset=cp1251", "t"),
        (b"abc", "text/html; charset=punycode", "abc"),
        (b"abc", "text/html; charset=zlib", "abc"),
        (b"abc", 'text/html; charset="nonsense', "abc"),
        ("tëa".encode()[:2], "", "t�"),
    ],
)
def test_charsets(body: bytes, content_type: str, text: str) -> None:
    """The mark, the header, the page's own word, in this order; and only charsets that the web knows."""
    assert text_of(body, content_type) == text


@given(st.binary(), st.text())
def test_any_body_has_a_text(body: bytes, content_type: str) -> None:
    """No header and no bytes make it fail."""
    assert isinstance(text_of(body, content_type), str)


def test_waits_that_are_asked_for() -> None:
    """Seconds or a date; nonsense says nothing."""
    now = datetime.fromisoformat("2026-11-21T10:00:00Z")
    assert retry_after_s("120", now) == 120
    assert retry_after_s("Sat, 21 Nov 2026 10:00:30 GMT", now) == 30
    assert retry_after_s("Sat, 21 Nov 2020 10:00:30 GMT", now) == 0
    assert [retry_after_s(text, now) for text in ("", "soon", "-1", "1e9", "²")] == [None] * 5


def test_kinds_of_pages() -> None:
    """Media types by the words of ``types``; pictures and programs are none of them."""
    kinds = {"text/html": "html", "application/xhtml+xml": "html", "application/ld+json": "json", "text/csv": "text",
             "application/atom+xml": "xml", "text/markdown": "markdown", "": "text", "image/svg+xml": "",
             "application/pdf": "", "video/mp4": "", "application/octet-stream": ""}  # fmt: skip
    assert {each: page_type(each) for each in kinds} == kinds


@pytest.mark.parametrize(
    "settings",
    [{"types": ("pdf",)}, {"size_limit_bytes": 0}, {"timeout_s": 0}, {"user_agent": "a\nb"}, {"ports": (0,)},
     {"allow_private": ("here",)}, {"name": "a b"}],
)  # fmt: skip
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    """They are told when the app is declared."""
    with pytest.raises(UsageError):
        Fetch(**settings)


# ---- the tool


async def test_a_page_is_read() -> None:
    """As Markdown, as text, as it was sent; over a redirect; with its links if they are wanted."""

    def say(asked: Asked) -> Said:
        if asked.path == "/old":
            return Said(status=301, headers={"location": "/tea"})
        packed = gzip.compress(PAGE.encode())
        return Said(packed, content_type="text/html; charset=utf-8", headers={"content-encoding": "gzip"})

    async with web_server(say) as server:
        fetch = fetch_of(server)
        page = await fetch(f"{server.url}/old#part", links=True)
        assert page == Page(
            url=f"{server.url}/tea", status=200, content_type="text/html", title="Tea & more",
            text=MARKDOWN.replace("http://tea.example/shop", server.url).replace("http://tea.example", server.url),
            links=(Link("black", f"{server.url}/black?x=1#top"),),
        )  # fmt: skip
        assert (await fetch(f"{server.url}/tea", "text")).text == PLAIN
        assert (await fetch(f"{server.url}/tea", "raw")).text == PAGE
        cut = await fetch(f"{server.url}/tea", max_chars=7)
        assert (cut.text, cut.truncated) == ("# Kinds", True)
        assert server.asked[0].headers["user-agent"] == "callboard/0.1"
        short = await fetch_of(server, size_limit_bytes=200)(f"{server.url}/tea", "raw")
        assert (short.text, short.truncated) == (PAGE[:200], True)


async def test_other_kinds_of_content() -> None:
    """JSON and text come as they are; what cannot be read is refused before its body is."""
    said = {"/a.json": ("application/json", '{"a": 1}'), "/a.txt": ("text/plain", "<b>x</b>")}

    def say(asked: Asked) -> Said:
        if asked.path == "/film":
            return Said("x", content_type="video/mp4", hang=True)
        return Said(said[asked.path][1], content_type=said[asked.path][0])

    async with web_server(say) as server:
        fetch = fetch_of(server)
        assert [(await fetch(server.url + path)).text for path in said] == ['{"a": 1}', "<b>x</b>"]
        with pytest.raises(TerminalError, match=r"video/mp4: only html, text") as film:
            await fetch(f"{server.url}/film")
        assert film.value.code == "content_type"
        with pytest.raises(TerminalError, match="only html"):
            await fetch_of(server, types=("html",))(f"{server.url}/a.json")


@pytest.mark.parametrize(
    ("status", "headers", "kind", "code", "wait_s"),
    [
        (404, {}, TerminalError, "not_found", None),
        (403, {}, TerminalError, "forbidden", None),
        (418, {}, TerminalError, "http_status", None),
        (429, {"retry-after": "7"}, RetryableError, "rate_limited", 7),
        (503, {"retry-after": "soon"}, RetryableError, "unavailable", None),
    ],
)
async def test_statuses(
    status: int,
    headers: dict[str, str],
    kind: type[TerminalError | RetryableError],
    code: str,
    wait_s: float | None,
) -> None:
    """What may pass is retried, after the wait that was asked for; what will not is told to the model."""
    async with web_server(lambda _: Said("no", status, headers=headers)) as server:
        with pytest.raises(kind, match=f"answered {status}") as failed:
            await fetch_of(server)(f"{server.url}/")
    assert (failed.value.code, getattr(failed.value, "retry_after_s", None)) == (code, wait_s)


async def test_what_a_model_gets_wrong() -> None:
    """Addresses that are refused, things that are no URL, limits that make no sense: told in words, at once."""
    fetch = App("desk").use(Fetch(robots=False)).tools[0]
    for url in ("http://127.0.0.1:8080/", "example.com", "file:///etc/passwd", "http://[bad/", "http://0x7f000001/",
                "http://example.com/" + "a" * 9_000):  # fmt: skip
        with pytest.raises(TerminalError):
            await fetch(url)
    with pytest.raises(TerminalError, match=r"http://a\?b\? is no URL"):
        await fetch("http://a\0b\ud800?key=secret")
    with pytest.raises(TerminalError, match="max_chars"):
        await fetch("http://example.com/", max_chars=0)


async def test_time_is_limited_as_a_whole() -> None:
    """A page that never ends costs the time of the setting and no more."""
    async with web_server(lambda _: Said("x", hang=True)) as server:
        with pytest.raises(RetryableError, match=r"within 0\.3 s"):
            await fetch_of(server, timeout_s=0.3)(f"{server.url}/")


# ---- robots.txt


RULES = "User-agent: callboard\nDisallow: /private\n\nUser-agent: *\nDisallow: /\n"


async def test_robots_are_heeded() -> None:
    """A site is asked once; what it does not want read is not asked for, not over a redirect either."""

    def say(asked: Asked) -> Said:
        if asked.path == "/robots.txt":
            return Said(RULES, content_type="text/plain")
        return Said(status=302, headers={"location": "/private/x"}) if asked.path == "/to" else Said("<p>open")

    async with web_server(say) as server:
        fetch = fetch_of(server, robots=True)
        assert (await fetch(f"{server.url}/open")).text == "open"
        for path in ("/private/x", "/to"):
            with pytest.raises(TerminalError, match=r"robots\.txt does not allow callboard") as refused:
                await fetch(server.url + path)
            assert refused.value.code == "robots"
        with pytest.raises(TerminalError, match="robots"):
            await fetch_of(server, robots=True, user_agent="other/1")(f"{server.url}/open")
        assert server.paths == ["/robots.txt", "/open", "/to", "/robots.txt"]


async def test_robots_that_are_not_there() -> None:
    """Without the file all may be read; while a site cannot say, nothing is."""
    status = 404
    async with web_server(lambda asked: Said("<p>x", status if asked.path == "/robots.txt" else 200)) as server:
        assert (await fetch_of(server, robots=True)(f"{server.url}/")).text == "x"
        status = 503
        with pytest.raises(RetryableError, match="not known now"):
            await fetch_of(server, robots=True)(f"{server.url}/")


async def test_robots_are_asked_again_after_an_hour() -> None:
    """What a site has said is kept for an hour of the clock."""
    now_s = 0.0
    asked: list[str] = []

    async def ask(url: str) -> Answer:
        asked.append(url)
        return Answer(url, 404, {})

    robots = Robots("callboard/0.1", lambda: now_s)
    for instant_s in (0.0, KEPT_S - 1, KEPT_S, KEPT_S + 1):
        now_s = instant_s
        await robots.check("http://e.com", "http://e.com/", ask)
    assert asked == ["http://e.com/robots.txt"] * 2


def test_the_schema_is_for_models() -> None:
    """The tool says what it does and what its parameters mean, and its output can be decoded."""
    tool = App("desk").use(Fetch(name="read_page")).tools[0]
    assert tool.name == "read_page" and tool.read_only and tool.description.startswith("Read a page of the web")
    assert tool.input_schema["properties"]["format"]["enum"] == ["markdown", "raw", "text"]
    assert all(each["description"] for each in tool.input_schema["properties"].values())
    page = Page(url="u", status=200, content_type="text/html", links=(Link("a", "b"),))
    assert msgspec.convert(msgspec.to_builtins(page), Page) == page
