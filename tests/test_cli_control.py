"""Controlling jobs from the command line: one at once, many by a filter, and nothing by a filter without ``--yes``."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from actors.command_bodies.many_jobs import parse_age
from bus.errors import UsageError
from tests.test_cli import LIMIT_S, Shell, shell

__all__ = ["shell"]


def in_state(run: Shell, job: str, state: str) -> dict[str, Any]:
    """The job once it is in that state."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        code, out, _ = run("show", job, "--json")
        view: dict[str, Any] = json.loads(out) if code == 0 else {}
        if view.get("state") == state:
            return view
        assert time.monotonic() < deadline, view


def test_pause_show_and_resume(shell: Shell) -> None:
    """One job is told at once; show says who paused it and since when, and how it goes on."""
    shell.json("submit", "waiter", "name=go", "--job-id", "cc-one")
    in_state(shell, "cc-one", "waiting")
    assert shell.json("pause", "cc-one")["signal"] == "pause"
    assert in_state(shell, "cc-one", "paused")["paused_at"]
    _, out, _ = shell("show", "cc-one")
    assert "paused by" in out and " since " in out and "next: callboard resume cc-one" in out
    shell.json("signal", "cc-one", "go", '"done"')
    shell.json("resume", "cc-one", "--no-children")
    assert shell.json("result", "cc-one", "--wait", "--timeout", "30") == "2 done"
    code, _, err = shell("pause", "cc-one")
    assert code == 2 and "has ended" in err
    code, _, err = shell("terminate", "cc-nobody")
    assert code == 2 and "no job cc-nobody" in err


def test_many_by_a_filter(shell: Shell) -> None:
    """A filter shows what it would hit, and hits it with --yes; what refuses is named and makes exit code 1."""
    jobs = [f"cc-many-{n}" for n in range(3)]
    for job in jobs:
        shell.json("submit", "waiter", "name=never", "--job-id", job)
    for job in jobs:
        in_state(shell, job, "waiting")
    code, out, _ = shell("pause", "--workflow", "waiter")
    assert code == 0 and all(job in out for job in jobs)
    assert "nothing was done; --yes to pause 3 jobs" in out
    dry = shell.json("pause", "--workflow", "waiter", "--json")
    assert dry["dry_run"] and {job["job"] for job in dry["jobs"]} == set(jobs)
    assert "no job is meant" in shell("pause", "--older-than", "2d")[1]
    done = shell.json("pause", "--workflow", "waiter", "--yes", "--json")
    assert {each["job"] for each in done["told"]} == set(jobs) and not done["dry_run"]
    for job in jobs:
        in_state(shell, job, "paused")
    code, out, err = shell("terminate", *jobs, "cc-unknown", "--reason", "too many")
    assert code == 1 and "refused" in err and '"code":"unknown_job"' in out
    for job in jobs:
        assert in_state(shell, job, "cancelled")["reason"] == "terminated: too many"
    assert shell.json("cancel", "--all", "--state", "paused", "--yes", "--json")["told"] == []


def test_fork(shell: Shell) -> None:
    """A dry run only shows; a fork runs what comes after its step, and both jobs tell of it."""
    shell.json("submit", "five", "start:=1", "--job-id", "cc-source", "--wait")
    code, out, _ = shell("fork", "cc-source", "--from", "step:3", "--dry-run")
    assert code == 0 and "nothing was done" in out and out.index("reused") < out.index("anew")
    dry = shell.json("fork", "cc-source", "--from", "step:3", "--dry-run", "--json")
    assert (dry["reused"], dry["dry_run"]) == (["step:1", "step:2", "lambda:1"], True)
    made = shell.json("fork", "cc-source", "--from", "step:5", "--id", "cc-fork")
    assert (made["job"], made["anew"]) == ("cc-fork", ["step:5"])
    result = shell.json("result", "cc-source")
    assert shell.json("fork", "cc-source", "--from", "step:5", "--id", "cc-fork", "--wait") == result
    assert shell("fork", "cc-source", "--from", "step:5", "--input", '{"start": 9}', "--wait")[1].strip() == str(result)
    _, out, _ = shell("show", "cc-fork")
    assert "forked from" in out and "cc-source, at step:5 (5 results reused)" in out
    assert "cc-fork" in shell("show", "cc-source")[1]
    code, _, err = shell("fork", "cc-source", "--from", "stop:5")
    assert code == 2 and "no operation 'stop:5'" in err and "step:1" in err


def test_amend(shell: Shell) -> None:
    """A policy is changed and shown; steps of a function cannot be, and what is no step is named."""
    shell.json("submit", "waiter", "name=go", "--job-id", "cc-amended")
    in_state(shell, "cc-amended", "waiting")
    said = shell.json("amend", "cc-amended", "step", "--retry-attempts", "9", "--timeout-s", "3", "--on-open", "fail")
    assert said["sequence"] and said["in_flight"] == []
    _, out, _ = shell("show", "cc-amended")
    assert "step: attempts 9, timeout_s 3.0, on_open fail" in out
    for words in (("inject", "cc-amended", "--step", '{"id": "x"}'), ("add", "cc-amended", "each", "1"),
                  ("finish", "cc-amended", "each"), ("skip", "cc-amended", "each")):  # fmt: skip
        code, _, err = shell("amend", *words)
        assert code == 2 and "has no steps that can be changed" in err
    shell.json("signal", "cc-amended", "go")
    assert shell("result", "cc-amended", "--wait", "--timeout", "30")[0] == 0


def test_planned_jobs(shell: Shell) -> None:
    """A delayed job shows when it begins, is found by its state, cancelled, and its result does not hang."""
    terms = ("--delay", "2h", "--deadline", "1h30m")
    said = shell.json("submit", "waiter", "name=go", "--job-id", "cc-later", *terms)
    view = in_state(shell, "cc-later", "planned")
    assert said["starts_at"] and view["deadline_at"] > view["starts_at"] > view["requested_at"]
    assert view["input"] == {"name": "go"}
    _, out, _ = shell("show", "cc-later")
    assert "planned for" in out and "next: callboard cancel cc-later" in out
    assert shell("result", "cc-later")[0] == 4
    code, out, _ = shell("cancel", "--state", "planned")
    assert code == 0 and "cc-later" in out and ("planned, in 2h00m" in out or "planned, in 1h59m" in out)
    shell.json("cancel", "cc-later", "--reason", "not needed")
    assert in_state(shell, "cc-later", "cancelled")["reason"] == "not needed"
    code, _, err = shell("result", "cc-later", "--wait")
    assert code == 1 and "not needed" in err
    late = shell.json("submit", "waiter", "name=never", "--at", "2020-01-01T00:00Z", "--deadline", "0.3s")
    code, _, err = shell("result", late["job"], "--wait", "--timeout", "30")
    assert code == 1 and "deadline" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("pause",), "no job to pause is named"),
        (("cancel", "j", "--all"), "jobs and a filter are given"),
        (("resume", "--state", "odd"), "cannot be picked by state"),
        (("terminate", "--older-than", "soon"), "cannot read the age"),
        (("retry", "a", "b", "--wait"), "for one JOB"),
        (("amend", "a", "b"), "nothing is changed"),
        (("amend", "inject", "a", "--step", "{"), "--step cannot be read"),
        (("amend", "inject", "a", "--step", "no/such.yaml"), "cannot read no/such.yaml"),
        (("fork", "a", "--from", "b", "--dry-run", "--wait"), "a dry run starts nothing"),
        (("submit", "waiter", "--delay", "soon"), "cannot read the duration 'soon' (at --delay)"),
        (("submit", "waiter", "--at", "2026-12-01T08:00"), "has no time zone (at --at)"),
        (("submit", "waiter", "--at", "2030-01-01T00:00Z", "--delay", "1h"), "--delay and --at"),
        (("submit", "waiter", "--deadline", "2020-01-01T00:00Z"), "the job could only fail"),
    ],
)
def test_wrong_use(shell: Shell, arguments: tuple[str, ...], says: str) -> None:
    """What cannot be meant is exit code 2, and says what would be right."""
    code, _, err = shell(*arguments)
    assert code == 2 and says in err


def test_ages() -> None:
    """An age is a number and a unit."""
    assert [parse_age(text) for text in ("90s", "30m", "1.5h", "2d", "")] == [90, 1800, 5400, 172_800, None]
    for text in ("1", "h", "-1h", "1w", "1h30m"):
        with pytest.raises(UsageError):
            parse_age(text)
