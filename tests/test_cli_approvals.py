"""Approvals as people meet them: the commands, the services of a gateway, and the pages."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from actors.command_bodies.answering import parse_edits
from actors.console.approval_page import approvals_page
from actors.console.event_line import event_line
from actors.console.job_page import job_page
from actors.console.page import plain_lines
from bus.approval_events import ApprovalAnswered, ApprovalEscalated
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import Event, JobSubmitted, JobWaiting
from store.job_approvals import OpenApproval
from store.job_fold import fold_view
from store.log import Recorded, append_unfenced
from store.tail import Followed
from tests.test_approval_fold import AT, SCHEMA, question, raw, said
from tests.test_approvals import DEADLINE_S, SOON_S, app, asked, output
from tests.test_cli import ROOT, Shell
from tests.test_gateway import Place, place
from tests.troupe import troupe

__all__ = ["place"]


async def test_commands(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Listed, refused with exit code 2, approved with an edit, rejected; --json and pipes are told the place."""
    shell = Shell(nats_server.url, tmp_path)

    async def run(*words: str) -> tuple[int, str, str]:
        return await asyncio.to_thread(shell, *words)

    async with troupe(nats_server.url, app, hosts=1, park_after_s=SOON_S) as on:
        for job in ("b1", "b2"):
            await on.submit("buy", job, {})
            await asked(on, job)
        (code, out, _), (_, listed, _), (_, none, _) = await asyncio.gather(
            run("approvals"), run("approvals", "--role", "buyer", "--json"), run("approvals", "--role", "seller")
        )
        assert code == 0 and "Buy it?" in out and "0 of 1" in out and "callboard approve b1 approval:1" in out
        assert [(each["job"], each["step"]) for each in json.loads(listed)] == [
            ("b1", "approval:1"),
            ("b2", "approval:1"),
        ]
        assert "no approval is open" in none
        (code, _, err), (other, _, unknown) = await asyncio.gather(
            run("approve", "b1", "--role", "clerk"), run("approve", "b1", "approval:7", "--as", "ann")
        )
        assert code == 2 and "has role clerk" in err and "buyer" in err
        assert other == 2 and "no approval approval:7" in unknown and "open: approval:1 (Buy it?)" in unknown
        words = ("--as", "ann", "--role", "buyer", "--comment", "as agreed", "--answer", '{"account": "a7"}')
        (code, out, err), (_, told, _) = await asyncio.gather(
            run("approve", "b1", *words, "--edit", "amount=90", "--edit", '{"note": "n"}'),
            run("reject", "b2", "--role", "buyer", "--as", "bob", "--json"),
        )
        assert code == 0, err
        assert json.loads(out).items() >= {"job": "b1", "step": "approval:1", "approved": True}.items()
        assert json.loads(told)["approved"] is False
        assert (await output(on, "b1"))["edited"] == {"amount": 90, "note": "n"}
        assert (await output(on, "b2"))["approved"] is False
        code, shown, _ = await run("show", "b1")
        assert code == 0 and "approved  Buy it?  approval:1" in shown and "as agreed" in shown


async def test_people_at_a_terminal_are_asked(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """It is shown first; whoever says no has said nothing, and is exit code 1."""
    shell = Shell(nats_server.url, tmp_path)
    async with troupe(nats_server.url, app, hosts=1, park_after_s=SOON_S) as on:
        await on.submit("council", "c1", {"quorum": 1})
        await asked(on, "c1")
        before = await on.events("c1")
        code, said_no = await asyncio.to_thread(at_terminal, shell, "n\n", "approve", "c1", "--as", "ann")
        assert code == 1 and "Go to war?" in said_no and "troops" in said_no and "nothing was said" in said_no
        assert [r for r in await on.events("c1") if isinstance(r.event, ApprovalAnswered)] == []
        assert len(before) <= len(await on.events("c1"))
        code, said_yes = await asyncio.to_thread(at_terminal, shell, "y\n", "approve", "c1", "--as", "ann")
        assert code == 0 and "approved as ann" in said_yes
        assert (await output(on, "c1"))["approved"] is True


def at_terminal(shell: Shell, typed: str, *words: str) -> tuple[int, str]:
    """Run a command with a terminal of its own, and type that."""
    ours, its = os.openpty()
    os.write(ours, typed.encode())
    command = [sys.executable, "-m", "cli", *words, "--no-color"]
    process = subprocess.Popen(command, cwd=ROOT, env=shell.env | {"TERM": "xterm"}, stdin=its, stdout=its, stderr=its)
    code = process.wait(DEADLINE_S)
    os.close(its)
    seen = os.read(ours, 65_536).decode()
    os.close(ours)
    return code, seen


async def test_services(place: Place) -> None:
    """With nothing but requests: listed, refused with a code and a path, approved; the answer wakes the job."""
    await append_unfenced(place.bus, place.blobs, "default", JobSubmitted(job="j", workflow="order", version="1.2.0"))
    refused = await place.refused("approve", {"job": "j", "by": "ann"})
    assert refused.code == "no_approval"
    asked_for = question(roles=("head",), answer=SCHEMA, edit=raw({"n": 1}))
    await append_unfenced(place.bus, place.blobs, "default", asked_for)
    await append_unfenced(place.bus, place.blobs, "default", question(call="approval:2"))
    listed = await place.call("list", {"role": "head"}, noun="approvals")
    assert [each["step"] for each in listed["approvals"]] == ["approval:1", "approval:2"] and listed["total"] == 2
    page = await place.call("list", {"role": "clerk", "limit": 1}, noun="approvals")
    assert [each["step"] for each in page["approvals"]] == ["approval:2"]
    good: dict[str, Any] = {"job": "j", "step": "approval:1", "by": "ann", "roles": ["head"], "answer": {"n": 1}}
    for changes, code, path in (
        ({"step": ""}, "which_step", "step"),
        ({"roles": []}, "wrong_role", "roles"),
        ({"answer": {"n": "x"}}, "bad_answer", "answer"),
        ({"edit": {"m": 1}}, "bad_edit", "edited.m"),
        ({"by": ""}, "no_name", "by"),
        ({"rolls": 1}, "bad_request", "$"),
        ({"job": "nobody"}, "unknown_job", "job"),
    ):
        error = await place.refused("approve", good | changes)
        assert (error.code, error.path) == (code, path), error
    told = await place.call("approve", good | {"comment": "fine", "edit": {"n": 2}})
    await place.call("reject", {"job": "j", "step": "approval:2", "by": "bob"})
    answers = [event for event in await place.events("j") if isinstance(event, ApprovalAnswered)]
    assert [(a.by, a.approved, a.comment, bytes(a.edited)) for a in answers] == [
        ("ann", True, "fine", b'{"n":2}'), ("bob", False, "", b"null"),
    ]  # fmt: skip
    assert told["step"] == "approval:1" and told["sequence"] > 0
    woken = [stored.headers["Job-Wake"] for stored in await place.queued()]
    assert woken == ["approval.answered", "approval.answered"]
    assert (await place.call("list", {}, noun="approvals"))["approvals"] == []


# ---- pure


def test_edits() -> None:
    """A text for a number is read as JSON, one for a text is not; a JSON object and := are what they are."""
    values = {"amount": 5, "note": "x", "to": None}
    assert parse_edits(["amount=7", "note=7", "to=ann", 'more:={"a":1}'], values) == {
        "amount": 7, "note": "7", "to": "ann", "more": {"a": 1},
    }  # fmt: skip
    assert parse_edits(['{"amount": 1, "note": "n"}', "amount=2", "note:=3"], values) == {"amount": 2, "note": 3}
    for wrong in ("amount", "=1", "{1}", "amount:=x"):
        with pytest.raises(UsageError):
            parse_edits([wrong], values)


HISTORY: list[Event] = [
    JobSubmitted(job="j", at=AT, workflow="order", version="1.2.0"),
    question(roles=("clerk",), quorum=2, details=raw({"for": "tea"}), edit=raw({"n": 1}), expires_at=AT + timedelta(1)),
    said("eve"),
    said("ann", roles=("clerk",), comment="why\nnot", edited=raw({"n": 2})),
    ApprovalEscalated(job="j", call="approval:1", level=1, roles=("head",), at=AT),
    JobWaiting(job="j", at=AT, on=("approval:1",)),
]


def test_pages() -> None:
    """A job's page shows what is asked, what was answered and ignored, and how to answer; a list shows what is open."""
    view = fold_view("shop", [Recorded(n, event) for n, event in enumerate(HISTORY, 1)])
    lines = [" ".join(text.split()) for text in plain_lines(job_page(view, AT + timedelta(seconds=9)))]
    for expected in (
        "open May I? approval:1", 'details {"for":"tea"}', "who may answer clerk, head (escalated 1 time)",
        "approved 1 of 2", "value n 2 (edited)", "ann 8.0 s ago approved why not n=2",
        "eve 8.0 s ago ignored wrong_role: eve has no role, and this may be answered by clerk",
        "next: callboard approve j approval:1 --workspace shop or reject it",
    ):  # fmt: skip
        assert expected in lines, (expected, lines)
    (approval,) = view.approvals
    fields = {name: getattr(approval, name) for name in type(approval).__struct_fields__}
    table = "\n".join(plain_lines(approvals_page([OpenApproval(job="j", workflow="order", **fields)], AT)))
    assert "clerk, head  (escalated 1 time)" in table and "1 of 2" in table and "1 approval" in table
    assert plain_lines(approvals_page([], AT)) == ["no approval is open"]


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (question(roles=("a", "b"), details=raw([1])), "approval.asked approval:1 May I? of a, b [1]"),
        (HISTORY[3], 'approval.answered approval:1 ann approves {"n":2} why not'),
        (said("bob", approved=False), "approval.answered approval:1 bob rejects"),
        (HISTORY[4], "approval.escalated approval:1 level 1: asks head too"),
    ],
)
def test_events_in_a_line(event: Event, expected: str) -> None:
    """A tail says what is asked, who has answered what, and who is asked too."""
    shown = event_line(Followed(1, event, "default"), workspace="default", zone=AT.tzinfo).plain
    assert " ".join(expected.split()) in " ".join(shown.split())
