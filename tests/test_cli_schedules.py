"""Schedules from the command line."""

from __future__ import annotations

import pytest

from tests.test_cli import Shell, shell

__all__ = ["shell"]


def test_a_schedule_and_its_life(shell: Shell) -> None:
    """Made, shown with its next times, listed beside planned jobs, paused, resumed, run now, removed."""
    rule = ("--cron", "0 8 * * 1-5", "--tz", "Europe/Berlin", "--overlap", "queue", "--deadline", "1h")
    added = shell.json("schedules", "add", "cs-daily", "waiter", "name=go", *rule, "--json")
    assert added["overlap"] == "queue" and added["deadline_s"] == 3600 and len(added["next_at"]) == 5
    _, out, _ = shell("schedules", "show", "cs-daily")
    assert "active" in out and "0 8 * * 1-5 Europe/Berlin" in out and out.count("(in ") == 5
    shell.json("submit", "waiter", "name=go", "--job-id", "cs-later", "--delay", "2h")
    _, out, _ = shell("schedules", "list")
    assert "cs-daily" in out and "cs-later" in out and ("planned, in 2h00m" in out or "planned, in 1h59m" in out)
    both = shell.json("schedules", "list", "--json")
    assert len(both["schedules"]) == 1 and both["planned"][0]["job"] == "cs-later"
    assert shell.json("schedules", "pause", "cs-daily", "--json")["is_paused"]
    run = shell.json("schedules", "run-now", "cs-daily")["job"]
    shell.json("signal", run, "go", '"x"')
    assert shell.json("result", run, "--wait", "--timeout", "30").endswith(" x")
    assert shell.json("schedules", "resume", "cs-daily", "--json")["last_run"] == run
    assert shell.json("schedules", "remove", "cs-daily") == {"removed": "cs-daily"}
    assert "there is no schedule" in shell("schedules", "list")[1]
    shell.json("cancel", "cs-later")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--cron", "0 25 * * *"), "field hour is '25'"),
        (("--cron", "0 8 * * *", "--every", "1h"), "either cron or every_s"),
        ((), "either cron or every_s"),
        (("--cron", "@daily", "--tz", "Europe/Berl"), "did you mean Europe/Berlin?"),
        (("--every", "often"), "cannot read the duration 'often' (at --every)"),
        (("--every", "1h", "--overlap", "both"), "one of skip, queue, allow"),
        (("--cron", "@daily"), "missing required field `name`"),
    ],
)
def test_what_cannot_be(shell: Shell, arguments: tuple[str, ...], says: str) -> None:
    """Exit code 2, with the field that is wrong and what would be right."""
    code, _, err = shell("schedules", "add", "cs-wrong", "waiter", *arguments)
    assert code == 2 and says in err
