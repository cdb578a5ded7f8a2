"""The GitHub tools, against a server that speaks as GitHub's REST API does."""

from __future__ import annotations

import base64
import traceback
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from actors import App, ToolContext
from actors.toolbox import GitHub
from actors.toolbox.web.github_api import RepoList
from actors.toolbox.web.github_records import ChangedFile, CodeHit, Comment, Commit, Issue, Repo, RepoFile
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError, failure_of
from tests.web_server import Asked, Said, WebServer, json_said, web_server

TOKEN = "ghp_very_secret"
CTX = ToolContext("default", "job-1", "call-2")
AGAIN = ToolContext("default", "job-1", "call-2", attempt=2)
USER = {"login": "ann"}


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """A token in the environment."""
    monkeypatch.setenv("GITHUB_TOKEN", TOKEN)
    return TOKEN


class FakeGitHub:
    """Repository acme/shop: issues 1 to 250 of which each tenth is a pull request, files, commits."""

    def __init__(self) -> None:
        self.said: Said | None = None
        self.created: list[dict[str, Any]] = []

    def say(self, asked: Asked) -> Said:
        """One answer."""
        if self.said:
            return self.said
        path = asked.path.removeprefix("/repos/acme/shop")
        if asked.path.startswith("/search/"):
            return json_said({"total_count": 9, "items": self.found(asked)})
        if asked.method == "POST":
            raw = {**asked.json(), "number": 300, "user": USER, "html_url": "https://github.com/n"}
            self.created.append(raw)
            return json_said(raw, 201)
        if path.startswith("/contents"):
            return self.contents(path.removeprefix("/contents"), asked)
        if path in ("/issues", "/pulls", "/commits", "/issues/10/comments", "/pulls/10/files"):
            return self.page(self.items(path), asked.query)
        if path in ("/issues/7", "/issues/10"):
            return json_said({**self.issue(int(path.rpartition("/")[2])), "comments": 2 if path.endswith("10") else 0})
        if path == "/pulls/10":
            return json_said(
                {"number": 10, "merged": True, "head": {"label": "ann:fix"}, "base": {"label": "acme:main"}}
            )
        return json_said({"message": "Not Found"}, 404)

    def issue(self, number: int) -> dict[str, Any]:
        """A record as GitHub has it."""
        pull = {} if number % 10 else {"pull_request": {"url": "u"}}
        return {
            "number": number, "title": f"Issue {number}", "state": "open", "html_url": f"https://github.com/i/{number}",
            "user": USER, "body": None, "labels": [{"name": "bug"}], "comments": 1,
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-02T00:00:00Z",
            "repository_url": "https://api.github.com/repos/acme/shop", **pull,
        }  # fmt: skip

    def items(self, path: str) -> list[dict[str, Any]]:
        """What a list holds."""
        match path:
            case "/issues":
                return [*self.created[::-1], *(self.issue(number) for number in range(1, 251))]
            case "/pulls":
                return [{"number": 10, "title": "Fix", "state": "open", "html_url": "u", "head": {}, "user": USER}]
            case "/commits":
                commit = {"message": "Mend", "author": {"name": "Ann", "date": "2026-01-01T00:00:00Z"}}
                return [{"sha": "abc", "html_url": "u", "author": None, "commit": commit}]
            case "/pulls/10/files":
                return [{"filename": "a.py", "status": "added", "additions": 3, "deletions": 0, "patch": "+x"}]
            case _:
                said = [{"user": USER, "body": f"says {n}", "created_at": "t", "html_url": "u"} for n in range(2)]
                return [*said, *({**each, "created_at": "t"} for each in self.created)]

    def page(self, items: list[dict[str, Any]], query: dict[str, str]) -> Said:
        """One page of a list."""
        size, page = int(query["per_page"]), int(query["page"])
        return json_said(items[(page - 1) * size : page * size])

    def found(self, asked: Asked) -> list[dict[str, Any]]:
        """What a search finds: something of ours, and something that is not."""
        match asked.path:
            case "/search/repositories":
                names = ["acme/shop", "other/secret"]
                return [{"full_name": name, "html_url": "u", "stargazers_count": 5, "language": None} for name in names]
            case "/search/code":
                owned = [{"full_name": "acme/shop"}, {"full_name": "other/secret"}]
                fragments = [{"fragment": "def tea()"}]
                return [
                    {"path": "a.py", "html_url": "u", "repository": repo, "text_matches": fragments} for repo in owned
                ]
            case _:
                other = {"repository_url": "https://api.github.com/repos/other/secret"}
                return [self.issue(1), {**self.issue(2), **other}]

    def contents(self, path: str, asked: Asked) -> Said:
        """Files and folders."""
        match path:
            case "/":
                return json_said([{"type": "dir", "name": "src"}, {"type": "file", "name": "a.md"}])
            case "/docs/a%20b.md":
                content = base64.encodebytes("Tëa\n".encode() * 40).decode()
                return json_said({"type": "file", "encoding": "base64", "content": content, "size": 200})
            case "/big.txt" if "raw" in asked.headers["accept"]:
                return Said("big text", content_type="application/octet-stream")
            case "/big.txt":
                return json_said({"type": "file", "encoding": "none", "content": "", "size": 2_000_000})
            case "/logo.png":
                return json_said(
                    {"type": "file", "encoding": "base64", "content": base64.b64encode(b"\x89\0").decode()}
                )
            case _:
                return json_said({"type": "submodule"})


@pytest.fixture
def github() -> FakeGitHub:
    """What the server says."""
    return FakeGitHub()


@pytest.fixture
async def server(github: FakeGitHub) -> AsyncIterator[WebServer]:
    """The server."""
    async with web_server(github.say) as running:
        yield running


def tools_of(server: WebServer, *repos: str, **settings: Any) -> dict[str, Any]:
    """The tools by what they do; the allowlist is acme/shop unless another one is given."""
    kit = GitHub(repos or ("acme/shop",), base_url=server.url, **settings)
    return {tool.name.removeprefix("github_"): tool for tool in App("desk").use(kit).tools}


async def test_searches(server: WebServer) -> None:
    """Three kinds; the search is narrowed to what is allowed, and what comes all the same is dropped."""
    search = tools_of(server)["search"]
    assert (await search("shop", "repositories")).hits == (Repo("acme/shop", "u", stars=5),)
    assert (await search("def", "code")).hits == (CodeHit("acme/shop", "a.py", "u", ("def tea()",)),)
    assert [hit.number for hit in (await search("slow  shop OR x")).hits] == [1]
    assert server.asked[0].query == {"q": "shop repo:acme/shop", "per_page": "10", "page": "1"}
    assert "text-match" in server.asked[1].headers["accept"]
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"
    everything = App("desk").use(GitHub(base_url=server.url)).tools[0]
    assert len((await everything("shop", "repositories")).hits) == 2
    assert server.asked[-1].query["q"] == "shop"


async def test_files(server: WebServer) -> None:
    """Text, folders, and files that are too big for a record; what is no text is refused."""
    file = tools_of(server)["file"]
    assert await file("acme/shop") == RepoFile("acme/shop", "", entries=("src/", "a.md"))
    assert await file("acme/shop", "/docs/a b.md", "v1", 4) == RepoFile("acme/shop", "/docs/a b.md", "Tëa\n", 200, True)
    assert server.asked[-1].query == {"ref": "v1"}
    big = await file("acme/shop", "big.txt")
    assert (big.text, big.size_bytes, big.truncated) == ("big text", 2_000_000, False)
    for path, code in (
        ("logo.png", "content_type"),
        ("lib", "bad_input"),
        ("../x", "bad_input"),
        ("a/../../x", "bad_input"),
    ):
        with pytest.raises(TerminalError) as refused:
            await file("acme/shop", path)
        assert refused.value.code == code


async def test_issues_and_pulls(server: WebServer) -> None:
    """Lists over as many pages as are needed; pull requests are not among the issues."""
    tools = tools_of(server)
    issues = await tools["issues"]("acme/shop", labels=["bug", "x"], count=120)
    assert [each.number for each in issues] == [number for number in range(1, 134) if number % 10]
    assert [asked.query["page"] for asked in server.asked] == ["1", "2"]
    assert server.asked[0].query["labels"] == "bug,x"
    assert issues[0] == Issue("acme/shop", 1, "Issue 1", "open", "https://github.com/i/1", "ann", "", ("bug",), 1,
                              "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z")  # fmt: skip
    (pull,) = await tools["issues"]("acme/shop", "pulls", "all")
    assert pull.is_pull and server.asked[-1].query["state"] == "all"
    thread = await tools["issue"]("acme/shop", 10)
    assert thread.comments == tuple(Comment("ann", f"says {n}", "t", "u") for n in range(2))
    assert thread.files == (ChangedFile("a.py", "added", 3, 0, "+x"),)
    assert (thread.head, thread.base, thread.merged) == ("ann:fix", "acme:main", True)
    plain = await tools["issue"]("acme/shop", 7)
    assert not plain.issue.is_pull and not plain.comments
    assert await tools["commits"]("acme/shop", "main", "a.py", 5) == (
        Commit("abc", "Mend", "Ann", "2026-01-01T00:00:00Z", "u"),
    )
    assert server.asked[-1].query == {"sha": "main", "path": "a.py", "per_page": "5", "page": "1"}


async def test_writes_happen_once(server: WebServer, github: FakeGitHub) -> None:
    """A first attempt writes; a second one finds what the first has written, and another call writes anew."""
    tools = tools_of(server, read_only=False)
    first = await tools["create_issue"](CTX, "acme/shop", "Tea", "is cold", ["bug"])
    assert (first.number, first.title) == (300, "Tea") and len(server.asked) == 1
    assert (await tools["create_issue"](AGAIN, "acme/shop", "Tea", "is cold", ["bug"])).number == 300
    assert len(github.created) == 1 and github.created[0]["body"].startswith("is cold\n\n<!-- callboard ")
    other = ToolContext("default", "job-1", "call-3", attempt=2)
    await tools["create_issue"](other, "acme/shop", "Tea", "is cold")
    assert len(github.created) == 2
    await tools["comment"](CTX, "acme/shop", 10, "so it is")
    github.created = github.created[-1:]
    assert (await tools["comment"](AGAIN, "acme/shop", 10, "so it is")).body.startswith("so it is")
    assert len(github.created) == 1 and "since" in server.asked[-1].query


def test_which_tools_there_are() -> None:
    """Those that write are there only if it is asked for; each says what it and its parameters are for."""
    reading = App("desk").use(GitHub(name="gh")).tools
    assert [tool.name for tool in reading] == ["gh_search", "gh_file", "gh_issues", "gh_issue", "gh_commits"]
    writing = App("desk").use(GitHub(("a/b",), read_only=False)).tools
    assert [tool.name for tool in writing[5:]] == ["github_create_issue", "github_comment"]
    for tool in writing:
        assert tool.description and all(each["description"] for each in tool.input_schema["properties"].values())
    assert [tool.read_only for tool in writing] == [True] * 5 + [False] * 2


async def test_what_is_not_allowed(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other repositories, counts and texts that cannot be, and what needs a token: told before anything is asked."""
    tools = tools_of(server, read_only=False)
    refused = [
        ("file", ("other/secret",), "repo_refused"), ("issue", ("acme/shop2", 1), "repo_refused"),
        ("create_issue", (CTX, "other/x", "t"), "repo_refused"), ("commits", ("acme",), "bad_input"),
        ("commits", ("acme/..",), "bad_input"), ("file", ("acme/shop/../x",), "bad_input"),
        ("issues", ("acme/shop", "issues", "open", None, 0), "bad_input"), ("search", ("",), "bad_input"),
        ("issues", ("acme/shop", "pulls", "open", ["bug"]), "bad_input"), ("search", ("x" * 257,), "bad_input"),
        ("create_issue", (CTX, "acme/shop", " "), "bad_input"), ("comment", (CTX, "acme/shop", 1, " "), "bad_input"),
        ("comment", (CTX, "acme/shop", 1, "x" * 70_000), "too_large"), ("issue", ("acme/shop", 1, 101), "bad_input"),
        ("file", ("acme/shop", "", "", 0), "bad_input"),
    ]  # fmt: skip
    for name, arguments, code in refused:
        with pytest.raises(TerminalError) as told:
            await tools[name](*arguments)
        assert told.value.code == code, (name, arguments)
    monkeypatch.delenv("GITHUB_TOKEN")
    for name, arguments in (("search", ("x", "code")), ("create_issue", (CTX, "acme/shop", "t"))):
        with pytest.raises(TerminalError, match="needs GITHUB_TOKEN"):
            await tools[name](*arguments)
    assert not server.asked
    await tools["file"]("acme/shop")
    assert "authorization" not in server.asked[0].headers


# From when the tests are collected: the last of them may run a quarter of an hour later.
IN_AN_HOUR = str(int(datetime.now(UTC).timestamp()) + 3600)


@pytest.mark.parametrize(
    ("said", "kind", "code", "wait_s"),
    [
        (json_said({"message": "API rate limit exceeded"}, 403, x_ratelimit_remaining="0",
                   x_ratelimit_reset=IN_AN_HOUR),
         RetryableError, "rate_limited", (1, 3600)),
        (json_said({"message": "secondary limit"}, 403, retry_after="17"), RetryableError, "rate_limited", (17, 17)),
        (json_said({"message": "a secondary rate limit"}, 403), RetryableError, "rate_limited", (60, 60)),
        (json_said({}, 429), RetryableError, "rate_limited", (60, 60)),
        (json_said({"message": f"Resource not accessible by {TOKEN}"}, 403), TerminalError, "forbidden", None),
        (json_said({"message": "Bad credentials"}, 401), TerminalError, "unauthorized", None),
        (json_said({"message": "Not Found"}, 404), TerminalError, "not_found", None),
        (json_said({"message": "Server Error"}, 502), RetryableError, "unavailable", None),
        (Said("<html>"), RetryableError, "bad_answer", None),
        (json_said({"message": "Moved"}, 301), TerminalError, "redirect", None),
        (Said(status=301, headers={"location": "http://localhost:1/"}), TerminalError, "address_refused", None),
    ],
)  # fmt: skip
async def test_errors(
    server: WebServer, github: FakeGitHub, said: Said, kind: type[TerminalError | RetryableError], code: str,
    wait_s: tuple[float, float] | None,
) -> None:  # fmt: skip
    """What passes says when, what does not says what GitHub said; the token is in no part of it."""
    github.said = said
    with pytest.raises(kind) as failed:
        await tools_of(server)["commits"]("acme/shop")
    assert getattr(failed.value, "code") == code  # noqa: B009 - two classes
    if wait_s:
        assert wait_s[0] <= getattr(failed.value, "retry_after_s") <= wait_s[1]  # noqa: B009 - as above
    assert TOKEN not in "".join(traceback.format_exception(failed.value)) + repr(failure_of(failed.value))


def test_allowlists() -> None:
    """Names in any case, all of an owner's, none at all."""
    repos = RepoList.of(("Acme/Shop", "tea/*"))
    assert [repos.has(name) for name in ("acme/shop", "ACME/SHOP", "tea/x", "acme/shop2", "teas/x", "x/tea")] == (
        [True, True, True, False, False, False]
    )
    assert repos.qualifiers() == "repo:acme/shop user:tea"
    assert not RepoList.of(()).has("a/b") and RepoList.of(None).has("a/b")


@pytest.mark.parametrize(
    "settings",
    [{"repos": ("acme",)}, {"repos": ("*/*",)}, {"repos": ("a/b c",)}, {"repos": ("a/..",)}, {"base_url": "github.com"},
     {"timeout_s": 0}, {"name": "a.b"}],
)  # fmt: skip
def test_settings_that_cannot_be(settings: dict[str, Any]) -> None:
    """They are told when the app is declared."""
    with pytest.raises(UsageError):
        GitHub(**settings)
