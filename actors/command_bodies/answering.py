"""Answers to approvals from the command line: shown first, confirmed on a terminal, then said."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from actors.command_bodies.arguments import parse_json, parse_pair
from actors.command_bodies.jobs import decode_data, user_name
from actors.command_bodies.session import EXIT_DONE, EXIT_JOB_FAILED, Session
from actors.console.approval_page import approval_blocks, approvals_page
from actors.console.page import Span, line
from bus.errors import UsageError
from store.approval import ApprovalView

if TYPE_CHECKING:
    from actors.clients.client import Client


@dataclass(frozen=True)
class Words:
    """What the arguments say."""

    comment: str
    edits: tuple[str, ...]
    answer: str | None
    name: str
    roles: tuple[str, ...]


async def approvals(session: Session, role: str) -> int:
    """List what is open."""
    async with await session.client() as client:
        found = await client.approvals(role=role)
    screen = session.screen()
    if session.json:
        screen.show_json(found)
    else:
        screen.show(approvals_page(found, datetime.now(UTC), session.workspace))
    return EXIT_DONE


async def answer(session: Session, job: str, step: str, words: Words, *, approved: bool, yes: bool) -> int:
    """Approve or reject; 1 if whoever is asked to confirm does not."""
    async with await session.client() as client:
        shown = await _shown(client, job, step)
        if shown is not None and not _confirm(session, shown, approved=approved, yes=yes):
            session.notes().show([line("nothing was said")])
            return EXIT_JOB_FAILED
        said: dict[str, Any] = {
            "by": words.name or user_name(), "roles": words.roles, "comment": words.comment,
            "answer": decode_data(words.answer),
        }  # fmt: skip
        if approved:
            said["edit"] = parse_edits(words.edits, shown.values if shown else {})
            said["seen"] = shown.last_sequence if shown else None
        told = await (client.approve if approved else client.reject)(job, shown.step if shown else step, **said)
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json({"job": job, "step": told.step, "approved": approved, "sequence": told.sequence})
    else:
        verb = "approved" if approved else "rejected"
        screen.show([line(f"{verb} as {said['by']}: {told.step} of job ", Span(job, "name"))])
        screen.show([line(Span(f"next: callboard tail {job}, callboard result {job} --wait", "dim"))])
    return EXIT_DONE


async def _shown(client: Client, job: str, step: str) -> ApprovalView | None:
    """The approval that is meant; None if that is not clear, which the client then says better."""
    found = [each for each in (await client.get(job)).approvals if step in ("", each.step) and each.state == "open"]
    return found[0] if len(found) == 1 else None


def _confirm(session: Session, shown: ApprovalView, *, approved: bool, yes: bool) -> bool:
    """Show it to people, and ask them. A pipe is not asked."""
    notes = session.notes()
    if not notes.is_tty or session.json:
        return True
    notes.show(approval_blocks(shown, datetime.now(UTC)))
    if yes or not sys.stdin.isatty():
        return True
    import typer

    return typer.confirm("Approve this?" if approved else "Reject this?", err=True)


def parse_edits(edits: Iterable[str], values: dict[str, Any]) -> dict[str, Any]:
    """The values to change: ``name=text``, ``name:=JSON`` or a JSON object, each overriding those before.

    The text for a value that is no text is read as JSON. Raises: UsageError.
    """
    changed: dict[str, Any] = {}
    for edit in edits:
        if edit.lstrip().startswith("{"):
            whole = parse_json(edit, "--edit")
            if not isinstance(whole, dict):
                raise UsageError("--edit is no JSON object", code="bad_argument", path="--edit")
            changed |= whole
            continue
        name, value = parse_pair(edit)
        is_text = not isinstance(value, str) or isinstance(values.get(name), str)
        changed[name] = value if is_text or edit.startswith(f"{name}:=") else decode_data(value)
    return changed
