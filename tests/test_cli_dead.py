"""``callboard dead`` and ``callboard retry`` as a user sees them, and the same as NATS services, with a real node."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.console.page import plain_lines
from actors.dead_letters.dead_letters import Attempt, Letter, Redriven, WholeLetter
from actors.listings.letter_page import letter_page, letters_page, redriven_page
from bus.connection import Bus
from bus.crash import VARIABLE
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.failure import Failure
from bus.options import ConnectOptions
from bus.service import ask
from tests.test_cli import ROOT, Shell

LIMIT_S = 60.0
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Theatre(Shell):
    """A shell with a node of ``tests.apps.letters`` running, on a server of its own."""

    def __init__(self, url: str, tmp_path: Path) -> None:
        super().__init__(url, tmp_path)
        self.url = url
        self.ledger = tmp_path / "ledger"

    def mend(self, what: str) -> None:
        Path(f"{self.ledger}.{what}").touch()

    def effects(self, job: str) -> Counter[str]:
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return Counter(line for line in lines if line.startswith(f"{job}/"))

    def letters(self, *arguments: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.json("dead", "--json", *arguments)
        return found

    def fail(self, workflow: str, job: str, *inputs: str) -> None:
        """Have such a job fail."""
        code, _, err = self("submit", workflow, *inputs, "--job-id", job, "--wait", "--timeout", "60")
        assert code == 1, err

    def publish(self, workflow: str, job: str, body: bytes) -> None:
        """A request that no gateway has looked at."""

        async def put() -> None:
            async with await Bus.connect(ConnectOptions(servers=[self.url]), name="test") as bus:
                await bus.append(f"jobs.default.{workflow}", body, headers={"Job-Id": job})

        asyncio.run(put())

    def service(self, noun: str, verb: str, body: dict[str, Any]) -> Any:
        """One request to the gateway."""

        async def request() -> bytes:
            async with await Bus.connect(ConnectOptions(servers=[self.url]), name="test") as bus:
                return await ask(bus, f"api.default.{noun}.{verb}", json.dumps(body).encode())

        return json.loads(asyncio.run(request()))


@pytest.fixture
def theatre(tmp_path: Path) -> Iterator[Theatre]:
    """The node has started when a test begins, and ends in order."""
    server = asyncio.run(EmbeddedServer.start())
    run = Theatre(server.url, tmp_path)
    command = [sys.executable, "-m", "cli", "node", "tests.apps.letters:app", "--name", "dead1"]
    with (tmp_path / "node.log").open("w") as log:
        node = subprocess.Popen(command, cwd=ROOT, env=run.env, stdout=log, stderr=log)
        try:
            _wait_for(run, "deadly", tmp_path / "node.log")
            yield run
        finally:
            node.send_signal(signal.SIGTERM)
            code = node.wait(timeout=LIMIT_S)
            asyncio.run(server.stop())
            assert code == 0, (tmp_path / "node.log").read_text()


def _wait_for(run: Theatre, component: str, log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        code, out, _ = run("components", component, "--json")
        if code == 0 and json.loads(out)[0]["replicas"].get("dead1"):
            return
    raise AssertionError(f"the node did not come up: {log.read_text()}")


def test_from_a_letter_to_a_job_that_completes(theatre: Theatre) -> None:
    """The list names the letter, show has all of it, redrive has its job complete; each step says the next one."""
    theatre.fail("fragile", "f", "start:=1")
    (letter,) = theatre.letters()
    number = str(letter["id"])
    assert (letter["job"], letter["call"], letter["failure"]["code"]) == ("f", "deadly:1", "process_died")
    for arguments in (("dead",), ("dead", "list", "--job", "f")):
        code, out, err = theatre(*arguments)
        assert code == 0, err
        assert number in out and "deadly:1" in out and "SIGKILL" in out and f"callboard dead redrive {number}" in out
    assert theatre.letters("--job", "other") == []
    code, out, _ = theatre("show", "f")
    assert f"callboard dead show {number}" in out and "callboard retry f" in out
    code, out, _ = theatre("dead", "show", number)
    assert code == 0 and '"n": 2' in out and "process_died" in out and "seq" in out
    whole = theatre.json("dead", "show", number, "--json")
    assert whole["body"]["input"] == {"n": 2} and whole["letter"]["id"] == letter["id"]
    theatre.mend("deadly")
    assert theatre.json("dead", "redrive", number) == [{"letter": letter["id"], "job": "f", "how": "retried"}]
    assert theatre.json("result", "f", "--wait", "--timeout", "60") == 4
    assert theatre.effects("f") == {"f/step:1": 1, "f/deadly:1": 1, "f/step:2": 1}
    assert theatre.letters() == []
    assert [one["state"] for one in theatre.letters("--all")] == ["redriven"]
    code, out, _ = theatre("dead")
    assert (code, out.strip()) == (0, "no dead letters")


def test_a_redrive_that_is_killed_half_way_is_done_again(theatre: Theatre) -> None:
    """Killed after its job was retried and before that is noted: the next redrive notes it, and nothing runs twice."""
    theatre.fail("fragile", "f", "start:=1")
    (letter,) = theatre.letters()
    theatre.mend("deadly")
    armed = {VARIABLE: f"dead.before_redriven:1:{theatre.ledger}.died"}
    code, _, _ = theatre("dead", "redrive", "--job", "f", env=armed)
    assert code == -signal.SIGKILL
    assert [one["id"] for one in theatre.letters()] == [letter["id"]]
    assert theatre.json("result", "f", "--wait", "--timeout", "60") == 4
    assert [one["how"] for one in theatre.json("dead", "redrive", "--everything")] == ["already"]
    assert theatre.letters() == []
    assert set(theatre.effects("f").values()) == {1}


def test_retry_and_its_services(theatre: Theatre) -> None:
    """A failed job goes on by command and by service; the same letters are served under api.<workspace>.dead."""
    theatre.fail("brittle", "b", "start:=1")
    theatre.fail("fragile", "f", "start:=1")
    theatre.publish("brittle", "r", b"\x00\x01\xff")
    (letter,) = theatre.service("dead", "list", {"job": "f"})["letters"]
    shown = theatre.service("dead", "show", {"letter": letter["id"]})
    assert (shown["letter"]["job"], shown["body"]["input"]) == ("f", {"n": 2})
    theatre.mend("broken")
    theatre.mend("deadly")
    code, out, err = theatre("retry", "b", "--wait", "--timeout", "60")
    assert (code, out.strip()) == (0, "14"), err
    (done,) = theatre.service("dead", "redrive", {"letters": [letter["id"]], "by": "ann"})["letters"]
    assert (done["job"], done["how"]) == ("f", "retried")
    assert theatre.json("result", "f", "--wait", "--timeout", "60") == 4
    assert theatre.service("dead", "list", {"closed": True})["total"] == 2
    assert theatre.service("dead", "drop", {"letters": [letter["id"]], "reason": "done"}) == {"letters": [letter["id"]]}
    dropped(theatre)
    for noun, verb, body, code_of in (
        ("jobs", "retry", {"job": "b"}, "not_failed"),
        ("jobs", "retry", {"job": "nobody"}, "unknown_job"),
        ("dead", "show", {"letter": 5}, "no_such_letter"),
        ("dead", "redrive", {}, "bad_request"),
        ("dead", "redrive", {"letter": [1]}, "bad_request"),
    ):
        with pytest.raises(UsageError) as caught:
            theatre.service(noun, verb, body)
        assert caught.value.code == code_of
    for arguments, said in (
        (("retry", "b"), "job b is completed; only a failed job can be retried"),
        (("dead", "show", "5"), "there is no dead letter 5"),
        (("dead", "redrive"), "which letters?"),
        (("dead", "redrive", "5", "--everything"), "which letters?"),
        (("dead", "-w", "a b"), "workspace 'a b'"),
        (("dead", "show", "five"), "valid integer"),
    ):
        code, out, err = theatre(*arguments)
        assert code == 2 and said in err, (arguments, code, err)


def dropped(theatre: Theatre) -> None:
    """The refused request, shown as bytes; dropped with a reason it leaves the list, and --all says who and why."""
    (letter,) = theatre.letters()
    number = str(letter["id"])
    _, out, _ = theatre("dead", "show", number)
    assert "00 01 ff" in out and "not JSON" in out
    assert theatre.json("dead", "show", number, "--json")["body_base64"] == "AAH/"
    assert theatre.json("dead", "drop", number, "--reason", "a test") == [{"letter": letter["id"], "job": "r"}]
    (closed,) = theatre.letters("--all", "--job", "r")
    assert (closed["state"], closed["reason"], bool(closed["closed_by"])) == ("dropped", "a test", True)


# ---- pages

FAILURE = Failure(code="process_died", message="the process that served the call died: SIGKILL")
LETTER = Letter(
    id=7, workspace="shop", job="j", at=NOW - timedelta(hours=1), failure=FAILURE, subject="log.shop.j.call.tool.t.v1",
    stream="EVENTS", sequence=5, deliveries=4, call="t:1", actor="n1/t-1", headers={"X": "\x1b[31mred"},
)  # fmt: skip


def text(page: Any) -> str:
    return "\n".join(plain_lines(page))


def test_pages_of_letters() -> None:
    """A list with what can be done, in the workspace of the letters; with closed ones their state as well."""
    said = text(letters_page([LETTER], NOW))
    assert "callboard dead redrive 7 --workspace shop" in said and "1 dead letter" in said and "redriven" not in said
    closed = msgspec.structs.replace(LETTER, state="redriven", closed_at=NOW, closed_by="ann")
    said = text(letters_page([closed], NOW, closed=True))
    assert "redriven" in said and "next:" not in said
    poison = msgspec.structs.replace(LETTER, call="", stream="JOBS", failure=Failure(code="poison", message="x"))
    assert "the job itself" in text(letters_page([poison], NOW))


def test_page_of_one_letter() -> None:
    """All that is known, with nothing in it that a terminal would obey; big bodies are cut with a word on the rest."""
    tried = (Attempt(1, NOW, FAILURE, "n1/t-1"),)
    said = text(letter_page(WholeLetter(letter=LETTER, body=b'{"a": [1, 2]}', attempts=tried), NOW, zone=UTC))
    for part in ("dead letter 7", "process_died", "n1/t-1", "seq 5 of EVENTS", "2026-01-01 11:00:00", '"a": [', "4"):
        assert part in said
    assert "\x1b" not in said
    said = text(letter_page(WholeLetter(letter=LETTER, body=b"\xff" * 5000), NOW))
    assert "ff ff ff" in said and "4,488 bytes more" in said
    said = text(letter_page(WholeLetter(letter=LETTER, body=msgspec.json.encode(list(range(500)))), NOW))
    assert "lines more" in said
    assert "(empty)" in text(letter_page(WholeLetter(letter=LETTER, body=b""), NOW))


def test_page_of_what_was_redriven() -> None:
    """Refusals come last, each with its reason and what would be right."""
    done = [Redriven(1, "a", "refused", "job a is completed", "drop it"), Redriven(2, "b", "retried")]
    lines = plain_lines(redriven_page(done, "default"))
    assert lines == [
        "2  job b goes on",
        "1  not re-driven: job a is completed",
        "  -> drop it",
        "next: callboard result b --wait",
    ]
