"""What the GitHub tools read: one function for each, from what a model asks to what it gets."""

from __future__ import annotations

import base64
import binascii
from typing import Any, Literal

from actors.toolbox.web.charset import text_of
from actors.toolbox.web.github_api import COUNT_LIMIT, GitHubApi, RepoList, file_path
from actors.toolbox.web.github_records import (
    CodeHit,
    Commit,
    Issue,
    IssueThread,
    Repo,
    RepoFile,
    SearchHits,
    code_of,
    comment_of,
    commit_of,
    file_of,
    issue_of,
    repo_of,
)
from bus.failure import RetryableError, TerminalError

SearchKind = Literal["repositories", "issues", "code"]
State = Literal["open", "closed", "all"]

QUERY_LIMIT_CHARS = 256
_RAW = "application/vnd.github.raw+json"
_WITH_FRAGMENTS = "application/vnd.github.text-match+json"


async def search(api: GitHubApi, repos: RepoList, kind: SearchKind, query: str, count: int) -> SearchHits:
    """Repositories, issues (and pull requests), or code. Raises: TerminalError, RetryableError."""
    query = " ".join(query.split())
    if not 0 < len(query) <= QUERY_LIMIT_CHARS:
        raise TerminalError(f"a query has 1 to {QUERY_LIMIT_CHARS} characters", code="bad_input")
    if kind == "code" and not api.has_token:
        raise TerminalError("a search of code needs GITHUB_TOKEN in the environment of the tool", code="no_credentials")
    params = {"q": f"{query} {repos.qualifiers()}".strip()}
    accept = _WITH_FRAGMENTS if kind == "code" else ""
    raw = await api.listed(f"/search/{kind}", checked_count(count), params, key="items", accept=accept)
    hits = [_hit(kind, item) for item in raw]
    return SearchHits(tuple(hit for hit in hits if repos.has(hit.repo)))


def _hit(kind: SearchKind, raw: dict[str, Any]) -> Repo | Issue | CodeHit:
    match kind:
        case "repositories":
            return repo_of(raw)
        case "issues":
            return issue_of(raw)
        case "code":
            return code_of(raw)


async def read_file(api: GitHubApi, repo: str, path: str, ref: str, max_chars: int) -> RepoFile:
    """A file's text, or what is in a folder. Raises: TerminalError for what is neither."""
    url = f"/repos/{repo}/contents/{file_path(path)}"
    params = {"ref": ref} if ref else {}
    found = await api.any(url, params=params)
    if isinstance(found, list):
        return RepoFile(repo, path, entries=tuple(_entry(item) for item in found if isinstance(item, dict)))
    if found.get("type") != "file":
        raise TerminalError(f"{path} in {repo} is a {found.get('type')}, and no file", code="bad_input")
    truncated = False
    if found.get("encoding") == "base64":
        content = _unpacked(found.get("content"))
    else:
        # A file above 1 MB comes in no record.
        answer = await api.ask("GET", url, params=params, accept=_RAW)
        content, truncated = answer.body, answer.truncated
    if b"\0" in content[:8_000]:
        raise TerminalError(f"{path} in {repo} is not text", code="content_type")
    text, size = text_of(content), found.get("size")
    return RepoFile(repo, path, text[:max_chars], size if isinstance(size, int) else len(content),
                    truncated or len(text) > max_chars)  # fmt: skip


async def list_issues(
    api: GitHubApi, repo: str, *, pulls: bool, state: State, labels: list[str], count: int
) -> tuple[Issue, ...]:
    """Issues or pull requests of a repository, those that changed last first.

    Raises: TerminalError, RetryableError.
    """
    params = {"state": state, "sort": "updated", "direction": "desc"}
    count = checked_count(count)
    if pulls:
        if labels:
            raise TerminalError("pull requests cannot be listed by labels: search for them", code="bad_input")
        return tuple(issue_of(raw, repo) for raw in await api.listed(f"/repos/{repo}/pulls", count, params))
    if labels:
        params["labels"] = ",".join(labels)
    # GitHub lists pull requests among the issues.
    raw = await api.listed(f"/repos/{repo}/issues", count, params, skips=True)
    return tuple(issue_of(item, repo) for item in raw if "pull_request" not in item)[:count]


async def get_issue(api: GitHubApi, repo: str, number: int, comments: int) -> IssueThread:
    """An issue or a pull request with its first comments, and of a pull request its files."""
    raw = await api.get(f"/repos/{repo}/issues/{number}")
    issue = issue_of(raw, repo)
    said = (
        await api.listed(f"/repos/{repo}/issues/{number}/comments", comments, {}) if comments and issue.comments else []
    )
    thread = IssueThread(issue, tuple(comment_of(item) for item in said))
    if not issue.is_pull:
        return thread
    pull = await api.get(f"/repos/{repo}/pulls/{number}")
    files = await api.listed(f"/repos/{repo}/pulls/{number}/files", COUNT_LIMIT, {})
    return IssueThread(
        issue, thread.comments, tuple(file_of(item) for item in files), head=_branch(pull.get("head")),
        base=_branch(pull.get("base")), merged=pull.get("merged") is True,
    )  # fmt: skip


async def list_commits(api: GitHubApi, repo: str, ref: str, path: str, count: int) -> tuple[Commit, ...]:
    """Commits, the newest first, of a branch and of a path if these are said."""
    params = {name: value for name, value in (("sha", ref), ("path", path)) if value}
    return tuple(commit_of(raw) for raw in await api.listed(f"/repos/{repo}/commits", checked_count(count), params))


def checked_count(count: int) -> int:
    """Raises: TerminalError for a count that cannot be."""
    if not 1 <= count <= COUNT_LIMIT:
        raise TerminalError(f"count has to be from 1 to {COUNT_LIMIT}, not {count}", code="bad_input")
    return count


def _entry(raw: dict[str, Any]) -> str:
    return f"{raw.get('name', '')}/" if raw.get("type") == "dir" else str(raw.get("name", ""))


def _branch(raw: Any) -> str:
    return str(raw.get("label") or raw.get("ref") or "") if isinstance(raw, dict) else ""


def _unpacked(content: Any) -> bytes:
    try:
        return base64.b64decode(content)
    except (binascii.Error, TypeError, ValueError):
        raise RetryableError("GitHub gave a file that cannot be read", code="bad_answer") from None
