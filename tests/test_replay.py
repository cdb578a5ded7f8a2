"""``callboard replay`` and ``callboard snapshot`` as a user sees them: time travel, files, and verdicts on code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from bus.embedded import EmbeddedServer
from bus.failure import Failure
from bus.messages import JobRejected, encode
from store.snapshot import Snapshot, SnapshotEvent, encode_snapshot
from tests.apps import five
from tests.record_histories import HISTORIES
from tests.test_cli import ROOT, Shell
from tests.troupe import Troupe, troupe

NOWHERE = "nats://127.0.0.1:9"
ORDER = str(HISTORIES / "shop-order.json")
CRASH = str(HISTORIES / "shop-crash.json")
SHOP = "examples.shop:app"


@pytest.fixture
def away(tmp_path: Path) -> Shell:
    """A shell of a machine that has no server."""
    return Shell(NOWHERE, tmp_path)


@pytest.fixture
async def on(nats_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Troupe]:
    """A job ``j`` of ``tests.apps.five`` that has run."""
    monkeypatch.setenv(five.LEDGER, str(tmp_path / "ledger"))
    async with troupe(nats_server.url, five.app) as here:
        await here.submit("five", "j", {"start": 1})
        await here.end("j")
        yield here


# ---- from the log


async def test_replay_of_a_job_on_the_bus(on: Troupe, nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Without --at it is what show says; with it, the job as it was, with nothing of what came later."""
    run = Shell(nats_server.url, tmp_path)
    events = await on.events("j")
    now = run.json("replay", "j", "--json")
    assert now == run.json("show", "j", "--json")
    assert (now["state"], now["last_sequence"]) == ("completed", events[-1].sequence)
    first_reply = next(r.sequence for r in events if r.event.kind == "reply.completed")
    then = run.json("replay", "j", "--at", str(first_reply), "--json")
    assert (then["state"], then["last_sequence"]) == ("running", first_reply)
    assert [(call["call"], call.get("state")) for call in then["calls"]] == [("step:1", "completed")]
    before = run.json("replay", "j", "--at", str(first_reply - 1), "--json")
    assert [(call["call"], call.get("state")) for call in before["calls"]] == [("step:1", None)]  # running
    code, _, err = run("replay", "nobody")
    assert (code, "nobody" in err) == (2, True)


async def test_snapshot_of_a_job_is_replayed_elsewhere(
    on: Troupe, nats_server: EmbeddedServer, away: Shell, tmp_path: Path
) -> None:
    """The file says without any bus what the log says; so does the pipe; and present code fits it."""
    run, file = Shell(nats_server.url, tmp_path), str(tmp_path / "j.json")
    told = run.json("snapshot", "j", "--out", file, "--json")
    size_bytes = (tmp_path / "j.json").stat().st_size
    assert told == {"job": "j", "file": file, "events": len(await on.events("j")), "size_bytes": size_bytes}
    code, out, _ = run("snapshot", "j")
    assert (code, out) == (0, (tmp_path / "j.json").read_text())
    shown = run.json("show", "j", "--json")
    assert away.json("replay", "--file", file, "--json") == shown
    assert json.loads(away("replay", "--file", "-", "--json", stdin=out)[1]) == shown
    for where in (("--file", file), ("j",)):
        verdict = run.json("replay", *where, "--verify", "tests.apps.five:app", "--json")
        assert (verdict["same"], verdict["operations"], verdict["difference"]) == (True, 6, None)
    code, _, err = run("snapshot", "nobody")
    assert (code, "nobody" in err) == (2, True)


async def test_redacted_snapshot_holds_no_data(
    on: Troupe, nats_server: EmbeddedServer, away: Shell, tmp_path: Path
) -> None:
    """It shows what happened and not what with, and no function is run against it."""
    run, file = Shell(nats_server.url, tmp_path), tmp_path / "j.json"
    assert run("snapshot", "j", "--redact", "--out", str(file))[0] == 0
    assert '"start"' not in file.read_text() and "sha256" in file.read_text()
    view, whole = away.json("replay", "--file", str(file), "--json"), run.json("show", "j", "--json")
    assert [(c["call"], c["state"]) for c in view["calls"]] == [(c["call"], c["state"]) for c in whole["calls"]]
    assert view["input"]["size_bytes"] == len('{"start":1}')
    code, _, err = away("replay", "--file", str(file), "--verify", "tests.apps.five:app")
    assert (code, "redacted" in err) == (2, True)


# ---- from a file


def test_page_says_where_one_is(away: Shell) -> None:
    """The page of a moment has the moment, and the commands for the ones before and after it."""
    code, out, _ = away("replay", "--file", CRASH, "--at", "6")
    assert code == 0
    assert out.startswith("running  order 1.2.0  shop-crash\n")
    assert "as of  6, reply.completed\nevent  6 of 12\n" in out
    assert f"back: callboard replay --file {CRASH} --at 5   reply.completed\n" in out
    assert out.endswith(f"next: callboard replay --file {CRASH} --at 7   job.owned\n")
    assert "callboard tail" not in out
    assert "next:" not in away("replay", "--file", CRASH)[1]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say which job: an id or --file"),
        (("j", "--file", ORDER), "say which job: an id or --file"),
        (("--file", "nowhere.json"), "cannot read nowhere.json: No such file"),
        (("--file", "README.md"), "README.md is no snapshot of a job"),
        (("--file", CRASH, "--at", "x"), "Invalid value for '--at'"),
        (("bad.id",), "job id 'bad.id' holds '.'"),
        (("--file", ORDER, "--verify", "examples.survey:app"), "app survey has no job order 1.x"),
        (("--file", ORDER, "--verify", "examples.sop:app"), "there is no module 'examples.sop'"),
        (("--file", ORDER, "--verify", "examples.shop:ap"), "has no attribute 'ap'"),
    ],
)
def test_wrong_use(away: Shell, arguments: tuple[str, ...], said: str) -> None:
    """What cannot be done is exit code 2, in one line that says what is wrong."""
    code, out, err = away("replay", *arguments)
    assert (code, out) == (2, "")
    assert said in err and "Traceback" not in err


def test_bus_that_is_away(away: Shell) -> None:
    """A job that is only on the bus cannot be had without it: exit code 3."""
    assert away("replay", "j")[0] == 3
    assert away("snapshot", "j")[0] == 3


def test_file_that_cannot_be_written(nats_server: EmbeddedServer, tmp_path: Path, on: Troupe) -> None:
    """A place where nothing can be written is wrong use."""
    code, _, err = Shell(nats_server.url, tmp_path)("snapshot", "j", "--out", str(tmp_path / "no" / "where.json"))
    assert (code, "cannot write" in err) == (2, True)


# ---- verdicts


def changed_shop(tmp_path: Path, old: str, new: str) -> str:
    """A copy of the shop with a change in it."""
    text = (ROOT / "examples" / "shop.py").read_text()
    assert text.count(old) == 1
    (tmp_path / "changed.py").write_text(text.replace(old, new))
    return f"{tmp_path / 'changed.py'}:app"


def test_verify_says_the_same(away: Shell) -> None:
    """Code that does what is recorded is exit code 0."""
    code, out, err = away("replay", "--file", ORDER, "--verify", SHOP)
    assert (code, err) == (0, "")
    assert out.startswith("same  order 1.2.0  shop-order\noperations  5\n")


def test_verify_finds_the_first_difference(away: Shell, tmp_path: Path) -> None:
    """Code that departs is exit code 1, with the key, what is recorded and what the code does now."""
    app = changed_shop(tmp_path, "call(quote, sku=sku, qty=qty)", "call(quote, sku=sku, qty=qty + 1)")
    code, out, err = away("replay", "--file", ORDER, "--verify", app)
    assert (code, err) == (1, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert lines == [
        "differs order 1.2.0 shop-order",
        "at quote:1",
        "how it calls with another input",
        "recorded {'sku': 'A1', 'qty': 2}",
        "present {'sku': 'A1', 'qty': 3}",
    ]
    code, out, _ = away("replay", "--file", ORDER, "--verify", app, "--json")
    verdict = json.loads(out)
    assert (code, verdict["same"], verdict["difference"]["kind"], verdict["difference"]["call"]) == (
        1, False, "input", "quote:1",
    )  # fmt: skip


def test_verify_up_to_a_sequence(away: Shell, tmp_path: Path) -> None:
    """A difference that comes later than --at is not seen yet."""
    app = changed_shop(tmp_path, "total=price.total, tracking", "total=0.0, tracking")
    assert away("replay", "--file", CRASH, "--verify", app)[0] == 1
    assert away("replay", "--file", CRASH, "--verify", app, "--at", "11")[0] == 0


BROKEN = {
    "raises": ("1 / 0", "ZeroDivisionError"),
    "does not parse": ("def", "SyntaxError"),
    "exits": ("import os; os._exit(0)", "it ended with code 0 and said nothing"),
    "dies": ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "it ended with code -9 and said nothing"),
    "never stops talking": ("import sys\nwhile True: sys.stderr.write('x' * 65536)", "not come to an end within 3 s"),
    "blocks": ("import time; time.sleep(1000)", "did not come to an end within 3 s"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_modules_hurt_nobody(away: Shell, tmp_path: Path, how: str) -> None:
    """Whatever the module does, the command ends with exit code 2 and says what it was."""
    text, said = BROKEN[how]
    (tmp_path / "broken.py").write_text(text + "\n")
    app = f"{tmp_path / 'broken.py'}:app"
    code, out, err = away(
        "replay", "--file", ORDER, "--verify", app, "--timeout", "3" if "within 3 s" in said else "30"
    )
    assert (code, out) == (2, "")
    assert said in err and str(tmp_path) in err


def test_a_process_that_nobody_waits_for_ends(tmp_path: Path) -> None:
    """Should the command be killed, the process of a module that blocks does not stay: it has an alarm of its own."""
    (tmp_path / "blocks.py").write_text("while True: pass\n")
    argv = ["verify", "--limit", "0.5", f"{tmp_path / 'blocks.py'}:app", ORDER, str(tmp_path / "verdict.json")]
    done = subprocess.run([sys.executable, "-m", "actors.node.process", *argv], cwd=ROOT, timeout=60, check=False)
    assert done.returncode == -signal.SIGALRM
    assert not (tmp_path / "verdict.json").exists()


def test_job_that_never_began(away: Shell, tmp_path: Path) -> None:
    """A rejected request is shown like any job; there is nothing to run its function with."""
    rejected = JobRejected(job="r", workflow="order", failure=Failure(code="invalid_input", message="no sku"))
    body = SnapshotEvent(1, "log.default.r.job.rejected", msgspec.Raw(encode(rejected)))
    file = tmp_path / "r.json"
    file.write_bytes(encode_snapshot(Snapshot(workspace="default", job="r", events=(body,))))
    assert away.json("replay", "--file", str(file), "--json")["state"] == "rejected"
    code, _, err = away("replay", "--file", str(file), "--verify", SHOP)
    assert (code, "never began" in err) == (2, True)


def test_a_function_that_blocks_or_prints(away: Shell, tmp_path: Path) -> None:
    """What a function prints does not come into the answer, and one that never gives the loop back is ended."""
    talks = changed_shop(tmp_path, "    number = await", "    print('{}')\n    number = await")
    code, out, _ = away("replay", "--file", ORDER, "--verify", talks, "--json")
    assert (code, json.loads(out)["same"]) == (0, True)
    blocks = changed_shop(tmp_path, "    number = await", "    while True: pass\n    number = await")
    code, _, err = away("replay", "--file", ORDER, "--verify", blocks, "--timeout", "3")
    assert (code, "did not come to an end within 3 s" in err) == (2, True)
