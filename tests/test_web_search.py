"""Web search: two providers behind one interface, each against a server that speaks its protocol."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

from actors import App
from actors.toolbox import WebSearch
from actors.toolbox.web.search_provider import SearchResult
from actors.toolbox.web.tavily import Tavily
from actors.toolbox.web.web_search import Found
from actors.toolbox.web.wikipedia import Wikipedia
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError, failure_of
from tests.web_server import Asked, Said, json_said, web_server

KEY = "tvly-very-secret"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> str:
    """A key in the environment, that of the test."""
    monkeypatch.setenv("TAVILY_API_KEY", KEY)
    return KEY


def search_of(**settings: Any) -> Any:
    """The tool."""
    return App("desk").use(WebSearch(**settings)).tools[0]


def tavily_said(asked: Asked) -> Said:
    """What Tavily says, ten results whatever is asked for."""
    results = [{"title": f"Tea {n}", "url": f"https://tea.example/{n}", "content": "hot", "score": 0.9,
                "raw_content": None, "published_date": "Sat, 21 Nov 2026 10:00:00 GMT"} for n in range(10)]  # fmt: skip
    results.insert(1, {"title": None, "url": "javascript:alert(1)", "content": None, "score": None})
    return json_said({"query": "tea", "answer": None, "images": [], "results": results, "response_time": "1.2"})


async def test_tavily() -> None:
    """Its protocol is spoken, the key goes in the header, and no more results come than were asked for."""
    async with web_server(tavily_said) as server:
        search = search_of(provider="tavily", base_url=server.url)
        found = await search("  green   tea ", 3)
        assert found.provider == "tavily" and found.query == "green tea"
        assert [each.url for each in found.results] == [f"https://tea.example/{n}" for n in range(3)]
        assert found.results[0] == SearchResult("Tea 0", "https://tea.example/0", "hot", 0.9,
                                                "Sat, 21 Nov 2026 10:00:00 GMT")  # fmt: skip
        assert len((await search("tea")).results) == 5
    asked = server.asked[0]
    assert (asked.method, asked.target, asked.headers["authorization"]) == ("POST", "/search", f"Bearer {KEY}")
    assert asked.json() == {"query": "green tea", "max_results": 3, "search_depth": "basic"}


@pytest.mark.parametrize(
    ("said", "kind", "code", "wait_s"),
    [
        (json_said({"detail": {"error": f"Unauthorized: key {KEY}"}}, 401), TerminalError, "unauthorized", None),
        (json_said({"detail": {"error": "bad query"}}, 400), TerminalError, "http_status", None),
        (json_said({"detail": {"error": "plan limit"}}, 432), TerminalError, "quota", None),
        (json_said({"detail": {"error": "slow down"}}, 429, retry_after="9"), RetryableError, "rate_limited", 9),
        (Said("<h1>Bad gateway", 502), RetryableError, "unavailable", None),
        (Said("<h1>Welcome"), RetryableError, "bad_answer", None),
        (json_said({"results": [{"title": "no url"}]}), RetryableError, "bad_answer", None),
        (Said(status=307, headers={"location": "http://127.0.0.1:1/"}), TerminalError, "redirect", None),
    ],
)
async def test_tavily_when_it_fails(
    said: Said, kind: type[TerminalError | RetryableError], code: str, wait_s: float | None
) -> None:
    """Errors say what the provider said, whether they pass, and never the key, in any part of them."""
    async with web_server(lambda _: said) as server:
        with pytest.raises(kind) as failed:
            await search_of(provider="tavily", base_url=server.url)("tea")
    assert (failed.value.code, getattr(failed.value, "retry_after_s", None)) == (code, wait_s)
    assert KEY not in "".join(traceback.format_exception(failed.value)) + repr(failure_of(failed.value))


async def test_wikipedia() -> None:
    """Its protocol is spoken without a key; titles, whole URLs and a snippet without markup come out."""
    page = {"id": 7, "key": "Green_tea/ä", "title": "Green tea", "description": "type of tea", "thumbnail": None,
            "excerpt": '<span class="searchmatch">Green</span> &amp; tea', "matched_title": None}  # fmt: skip
    bare = {"id": 8, "key": "Tea", "title": "Tea", "description": None, "excerpt": ""}
    async with web_server(lambda _: json_said({"pages": [page, bare]})) as server:
        found = await search_of(provider="wikipedia", base_url=server.url)("green tea", 20)
    assert found == Found("wikipedia", "green tea", (
        SearchResult("Green tea", f"{server.url}/wiki/Green_tea/%C3%A4", "type of tea: Green & tea"),
        SearchResult("Tea", f"{server.url}/wiki/Tea"),
    ))  # fmt: skip
    asked = server.asked[0]
    assert (asked.path, asked.query) == ("/w/rest.php/v1/search/page", {"q": "green tea", "limit": "20"})
    assert "authorization" not in asked.headers and KEY not in str(asked)


async def test_wikipedia_when_it_fails() -> None:
    """Wrong requests are told in its words; a redirect to elsewhere is not followed."""
    said = json_said({"httpCode": 400, "httpReason": "Bad Request"}, 400)
    async with web_server(lambda _: said) as server:
        search = search_of(provider="wikipedia", base_url=server.url)
        with pytest.raises(TerminalError, match="Wikipedia answered 400: Bad Request"):
            await search("tea")
        said = Said(status=302, headers={"location": f"http://localhost:{server.port}/"})
        with pytest.raises(TerminalError, match="leads to http://localhost"):
            await search("tea")


def test_auto_goes_by_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key where the tool runs it is Tavily, else Wikipedia; the environment is read when it searches."""
    kit = WebSearch()
    assert isinstance(kit.chosen(), Tavily) and App("desk").use(kit).tools[0].read_only
    monkeypatch.setenv("TAVILY_API_KEY", " ")
    assert isinstance(kit.chosen(), Wikipedia)
    assert isinstance(WebSearch(provider="tavily").chosen(), Tavily)


async def test_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable; a key that no header can hold is not sent, nor shown."""
    for value in ("", "line\nbreak", "schlüssel"):
        monkeypatch.setenv("TAVILY_API_KEY", value)
        with pytest.raises(TerminalError, match="needs TAVILY_API_KEY") as failed:
            await search_of(provider="tavily")("tea")
        assert failed.value.code == "no_credentials" and (not value or value not in str(failed.value))


@pytest.mark.parametrize(("query", "count"), [("", 5), (" ", 5), ("x" * 401, 5), ("tea", 0), ("tea", 21)])
async def test_what_a_model_gets_wrong(query: str, count: int) -> None:
    """It is told what would be right, and nobody is asked."""
    with pytest.raises(TerminalError, match="1 to"):
        await search_of()(query, count)


@pytest.mark.parametrize(
    "settings",
    [{"provider": "altavista"}, {"results": 0}, {"results": 21}, {"base_url": "http://127.0.0.1"}, {"language": "e n"},
     {"timeout_s": 0}, *({"provider": "tavily", "base_url": url} for url in ("ftp://x", "http://u:p@x", "http://x:99999"))],
)  # fmt: skip
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    """They are told when the app is declared."""
    with pytest.raises(UsageError):
        WebSearch(**settings)
