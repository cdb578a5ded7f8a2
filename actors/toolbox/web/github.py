"""GitHub: repositories, issues, pull requests and code, as far as an operator allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from actors.toolbox.kit import Kit
from actors.toolbox.web.github_records import Comment, Commit, Issue, IssueThread, RepoFile, SearchHits
from actors.toolbox.web.json_api import checked_base_url
from actors.tools.tool_context import ToolContext
from bus.errors import UsageError
from bus.failure import TerminalError
from bus.subjects import check_name

if TYPE_CHECKING:
    from actors.components.app import App
    from actors.components.component import Component
    from actors.toolbox.web.github_api import GitHubApi, RepoList

SearchKind = Literal["repositories", "issues", "code"]
IssueKind = Literal["issues", "pulls"]
State = Literal["open", "closed", "all"]

# Several requests may be one call.
_CALL_TIMES = 6
MAX_CHARS_LIMIT = 1_000_000
COMMENTS_LIMIT = 100


class GitHub(Kit):
    """Tools for GitHub, by its REST API.

    ``repos`` are the repositories that they may speak of: ``owner/name`` or ``owner/*``; None for all that the token
    may see. With ``read_only=False`` there are tools that create issues and comments. ``base_url`` is that of a GitHub
    Enterprise server. The token is read from GITHUB_TOKEN when a tool runs. ``timeout_s`` is for one request.
    """

    def __init__(
        self, repos: tuple[str, ...] | None = None, *, read_only: bool = True, name: str = "github", base_url: str = "",
        timeout_s: float = 20.0,
    ) -> None:  # fmt: skip
        from actors.toolbox.web.github_api import RepoList

        super().__init__()
        self.name = check_name(name, "prefix of the tools' names")
        self.repos: RepoList = RepoList.of(repos)
        self.read_only = read_only
        self.base_url = checked_base_url(base_url, "base_url") if base_url else ""
        if timeout_s <= 0:
            raise UsageError("GitHub needs a time above 0", path="timeout_s")
        self.timeout_s = timeout_s

    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """Declare the tools that read, and those that write if that is allowed."""
        reading = (self._search(app), self._file(app), self._issues(app), self._issue(app), self._commits(app))
        return reading if self.read_only else (*reading, self._create_issue(app), self._comment(app))

    def _api(self) -> GitHubApi:
        from actors.toolbox.web.github_api import GitHubApi

        return GitHubApi(self.base_url, timeout_s=self.timeout_s)

    def _search(self, app: App) -> Component[..., Any]:
        async def search(query: str, kind: SearchKind = "issues", count: int = 10) -> SearchHits:
            """Search GitHub for repositories, for issues and pull requests, or for code.

            Args:
                query: Words and GitHub's qualifiers, such as "timeout is:open label:bug".
                kind: What is searched. "issues" finds pull requests, too.
                count: How many are wanted at most.
            """
            from actors.toolbox.web.github_reads import search

            return await search(self._api(), self.repos, kind, query, count)

        return self._declared(app, "search", search, read_only=True)

    def _file(self, app: App) -> Component[..., Any]:
        async def file(repo: str, path: str = "", ref: str = "", max_chars: int = 50_000) -> RepoFile:
            """Read a text file of a GitHub repository, or list what is in one of its folders.

            Args:
                repo: The repository, as owner/name.
                path: The file or folder; empty for the root.
                ref: A branch, tag or commit; empty for the default branch.
                max_chars: How much of a file is wanted at most.
            """
            from actors.toolbox.web.github_reads import read_file

            if not 0 < max_chars <= MAX_CHARS_LIMIT:
                raise TerminalError(f"max_chars has to be from 1 to {MAX_CHARS_LIMIT:,}", code="bad_input")
            return await read_file(self._api(), self.repos.check(repo), path, ref, max_chars)

        return self._declared(app, "file", file, read_only=True)

    def _issues(self, app: App) -> Component[..., Any]:
        async def issues(
            repo: str, kind: IssueKind = "issues", state: State = "open", labels: list[str] | None = None,
            count: int = 20,
        ) -> tuple[Issue, ...]:  # fmt: skip
            """List the issues or the pull requests of a GitHub repository, those that changed last first.

            Args:
                repo: The repository, as owner/name.
                kind: "issues" or "pulls".
                state: "open", "closed" or "all".
                labels: Only issues that have all of these labels.
                count: How many are wanted at most.
            """
            from actors.toolbox.web.github_reads import list_issues

            return await list_issues(
                self._api(),
                self.repos.check(repo),
                pulls=kind == "pulls",
                state=state,
                labels=labels or [],
                count=count,
            )

        return self._declared(app, "issues", issues, read_only=True)

    def _issue(self, app: App) -> Component[..., Any]:
        async def issue(repo: str, number: int, comments: int = 30) -> IssueThread:
            """Get an issue or a pull request of a GitHub repository with its comments, and the files that it changes.

            Args:
                repo: The repository, as owner/name.
                number: The number of the issue or pull request.
                comments: How many comments are wanted at most, the first ones first.
            """
            from actors.toolbox.web.github_reads import get_issue

            if not 0 <= comments <= COMMENTS_LIMIT:
                raise TerminalError(f"comments has to be from 0 to {COMMENTS_LIMIT}", code="bad_input")
            return await get_issue(self._api(), self.repos.check(repo), number, comments)

        return self._declared(app, "issue", issue, read_only=True)

    def _commits(self, app: App) -> Component[..., Any]:
        async def commits(repo: str, ref: str = "", path: str = "", count: int = 20) -> tuple[Commit, ...]:
            """List the commits of a GitHub repository, the newest first.

            Args:
                repo: The repository, as owner/name.
                ref: A branch, tag or commit to begin at; empty for the default branch.
                path: Only commits that changed this file or folder.
                count: How many are wanted at most.
            """
            from actors.toolbox.web.github_reads import list_commits

            return await list_commits(self._api(), self.repos.check(repo), ref, path, count)

        return self._declared(app, "commits", commits, read_only=True)

    def _create_issue(self, app: App) -> Component[..., Any]:
        async def create_issue(
            ctx: ToolContext, repo: str, title: str, body: str = "", labels: list[str] | None = None
        ) -> Issue:
            """Create an issue in a GitHub repository.

            Args:
                repo: The repository, as owner/name.
                title: One line.
                body: What is to be said, in Markdown.
                labels: Labels that the repository has.
            """
            from actors.toolbox.web.github_writes import create_issue

            return await create_issue(self._api_to_write(), ctx, self.repos.check(repo), title, body, labels or [])

        return self._declared(app, "create_issue", create_issue)

    def _comment(self, app: App) -> Component[..., Any]:
        async def comment(ctx: ToolContext, repo: str, number: int, body: str) -> Comment:
            """Write a comment on an issue or a pull request of a GitHub repository.

            Args:
                repo: The repository, as owner/name.
                number: The number of the issue or pull request.
                body: What is to be said, in Markdown.
            """
            from actors.toolbox.web.github_writes import create_comment

            return await create_comment(self._api_to_write(), ctx, self.repos.check(repo), number, body)

        return self._declared(app, "comment", comment)

    def _declared(self, app: App, verb: str, fn: Any, *, read_only: bool = False) -> Component[..., Any]:
        timeout_s = self.timeout_s * _CALL_TIMES
        declared: Component[..., Any] = app.tool(name=f"{self.name}_{verb}", timeout_s=timeout_s, read_only=read_only)(
            fn
        )
        return declared

    def _api_to_write(self) -> GitHubApi:
        api = self._api()
        if not api.has_token:
            raise TerminalError("writing needs GITHUB_TOKEN in the environment of the tool", code="no_credentials")
        return api
