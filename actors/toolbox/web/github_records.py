"""What the GitHub tools give back, and how it is read from GitHub's own records. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

BODY_CHARS = 8_000
PATCH_CHARS = 4_000
_API_REPOS = "/repos/"


class Repo(msgspec.Struct, frozen=True, tag="repo", omit_defaults=True):
    """A repository that was found."""

    repo: str
    url: str
    description: str = ""
    language: str = ""
    stars: int = 0
    updated_at: str = ""


class Issue(msgspec.Struct, frozen=True, tag="issue", omit_defaults=True):
    """An issue or a pull request. ``body`` is cut after 8,000 characters; instants are as GitHub says them."""

    repo: str
    number: int
    title: str
    state: str
    url: str
    author: str = ""
    body: str = ""
    labels: tuple[str, ...] = ()
    comments: int = 0
    created_at: str = ""
    updated_at: str = ""
    is_pull: bool = False


class CodeHit(msgspec.Struct, frozen=True, tag="code", omit_defaults=True):
    """A file in which something was found, with the places."""

    repo: str
    path: str
    url: str
    fragments: tuple[str, ...] = ()


class SearchHits(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a search found, best first."""

    hits: tuple[Repo | Issue | CodeHit, ...] = ()


class Comment(msgspec.Struct, frozen=True, omit_defaults=True):
    """A comment on an issue."""

    author: str
    body: str
    created_at: str
    url: str = ""


class ChangedFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file of a pull request; ``patch`` is cut after 4,000 characters."""

    path: str
    status: str
    additions: int = 0
    deletions: int = 0
    patch: str = ""


class IssueThread(msgspec.Struct, frozen=True, omit_defaults=True):
    """An issue with its comments; of a pull request the files, its branches and whether it is merged, too."""

    issue: Issue
    comments: tuple[Comment, ...] = ()
    files: tuple[ChangedFile, ...] = ()
    head: str = ""
    base: str = ""
    merged: bool = False


class Commit(msgspec.Struct, frozen=True, omit_defaults=True):
    """A commit."""

    sha: str
    message: str
    author: str
    date: str
    url: str


class RepoFile(msgspec.Struct, frozen=True, omit_defaults=True):
    """A file's text, or of a folder the names in it (folders end in a slash)."""

    repo: str
    path: str
    text: str = ""
    size_bytes: int = 0
    truncated: bool = False
    entries: tuple[str, ...] = ()


# ---- GitHub's records. They are read leniently: a field that is missing or null says nothing.


def repo_of(raw: dict[str, Any]) -> Repo:
    """A repository, from a search."""
    return Repo(_text(raw, "full_name"), _text(raw, "html_url"), _text(raw, "description"), _text(raw, "language"),
                _count(raw, "stargazers_count"), _text(raw, "updated_at"))  # fmt: skip


def issue_of(raw: dict[str, Any], repo: str = "") -> Issue:
    """An issue or a pull request; ``repo`` if the record does not say whose it is."""
    api_url = _text(raw, "repository_url")
    labels = [label if isinstance(label, str) else _text(label, "name") for label in _list(raw, "labels")]
    return Issue(
        repo=repo or api_url.partition(_API_REPOS)[2], number=_count(raw, "number"), title=_text(raw, "title"),
        state=_text(raw, "state"), url=_text(raw, "html_url"), author=_login(raw), body=_text(raw, "body")[:BODY_CHARS],
        labels=tuple(labels), comments=_count(raw, "comments"), created_at=_text(raw, "created_at"),
        updated_at=_text(raw, "updated_at"), is_pull="pull_request" in raw or "head" in raw,
    )  # fmt: skip


def code_of(raw: dict[str, Any]) -> CodeHit:
    """A file, from a search of code."""
    fragments = [_text(match, "fragment") for match in _list(raw, "text_matches") if isinstance(match, dict)]
    return CodeHit(_text(_dict(raw, "repository"), "full_name"), _text(raw, "path"), _text(raw, "html_url"),
                   tuple(fragments))  # fmt: skip


def comment_of(raw: dict[str, Any]) -> Comment:
    """A comment."""
    return Comment(_login(raw), _text(raw, "body")[:BODY_CHARS], _text(raw, "created_at"), _text(raw, "html_url"))


def file_of(raw: dict[str, Any]) -> ChangedFile:
    """A file of a pull request."""
    return ChangedFile(_text(raw, "filename"), _text(raw, "status"), _count(raw, "additions"), _count(raw, "deletions"),
                       _text(raw, "patch")[:PATCH_CHARS])  # fmt: skip


def commit_of(raw: dict[str, Any]) -> Commit:
    """A commit; its author is the account if GitHub knows one, else the name in the commit."""
    commit = _dict(raw, "commit")
    author = _dict(commit, "author")
    name = _text(_dict(raw, "author"), "login") or _text(author, "name")
    return Commit(_text(raw, "sha"), _text(commit, "message"), name, _text(author, "date"), _text(raw, "html_url"))


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name)
    return value if isinstance(value, str) else ""


def _count(raw: dict[str, Any], name: str) -> int:
    value = raw.get(name)
    return value if isinstance(value, int) else 0


def _dict(raw: dict[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name)
    return value if isinstance(value, dict) else {}


def _list(raw: dict[str, Any], name: str) -> list[Any]:
    value = raw.get(name)
    return value if isinstance(value, list) else []


def _login(raw: dict[str, Any]) -> str:
    return _text(_dict(raw, "user"), "login")
