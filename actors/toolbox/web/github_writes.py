"""What the GitHub tools write. GitHub knows no idempotency keys, so each text carries one that nobody sees.

A call may run twice: its process dies after GitHub has written and before that is recorded. So from the second attempt
on the text is looked for first, by the mark at its end, which is the same for all attempts at a call and for no other.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any

from actors.toolbox.web.github_api import PAGE_ITEMS, GitHubApi
from actors.toolbox.web.github_records import Comment, Issue, comment_of, issue_of
from actors.tools.tool_context import ToolContext
from bus.failure import TerminalError

BODY_LIMIT_CHARS = 60_000
TITLE_LIMIT_CHARS = 256


def mark_of(ctx: ToolContext) -> str:
    """The mark of a call: a comment of HTML, which GitHub does not show."""
    digest = hashlib.sha256(f"{ctx.workspace}/{ctx.idempotency_key}".encode()).hexdigest()
    return f"<!-- callboard {digest[:24]} -->"


async def create_issue(
    api: GitHubApi, ctx: ToolContext, repo: str, title: str, body: str, labels: list[str]
) -> Issue:  # fmt: skip
    """A new issue, or the one that an earlier attempt has made. Raises: TerminalError, RetryableError."""
    if not 0 < len(title.strip()) <= TITLE_LIMIT_CHARS:
        raise TerminalError(f"a title has 1 to {TITLE_LIMIT_CHARS} characters", code="bad_input")
    text = _marked(body, ctx)
    path = f"/repos/{repo}/issues"
    made = await _made(api, ctx, path, {"state": "all", "sort": "created", "direction": "desc"})
    raw = made or await api.post(path, {"title": title, "body": text, "labels": labels})
    return issue_of(raw, repo)


async def create_comment(api: GitHubApi, ctx: ToolContext, repo: str, number: int, body: str) -> Comment:
    """A new comment on an issue or pull request, or the one that an earlier attempt has made.

    Raises: TerminalError, RetryableError.
    """
    if not body.strip():
        raise TerminalError("a comment has to say something", code="bad_input")
    text = _marked(body, ctx)
    path = f"/repos/{repo}/issues/{number}/comments"
    # Comments come oldest first, and a long thread has many pages: only what is new can be ours.
    since = datetime.now(UTC) - timedelta(days=2)
    made = await _made(api, ctx, path, {"since": since.strftime("%Y-%m-%dT%H:%M:%SZ")})
    return comment_of(made or await api.post(path, {"body": text}))


async def _made(api: GitHubApi, ctx: ToolContext, path: str, params: dict[str, str]) -> dict[str, Any] | None:
    if ctx.attempt < 2:
        return None
    mark = mark_of(ctx)
    found = await api.listed(path, PAGE_ITEMS, params)
    return next((raw for raw in found if mark in str(raw.get("body"))), None)


def _marked(body: str, ctx: ToolContext) -> str:
    if len(body) > BODY_LIMIT_CHARS:
        raise TerminalError(
            f"the text has {len(body):,} characters, the limit is {BODY_LIMIT_CHARS:,}", code="too_large"
        )
    return f"{body}\n\n{mark_of(ctx)}"
