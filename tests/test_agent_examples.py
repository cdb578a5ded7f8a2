"""The examples of agents run as they are, with their scripts in place of models."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from actors import Client
from bus.embedded import EmbeddedServer
from bus.messages import CallAgent, JobCompleted
from examples.agents import debate, hand_off, supervisor
from tests.stage import ROOT
from tests.troupe import troupe

DEADLINE_S = 50


async def test_hand_off(nats_server: EmbeddedServer) -> None:
    """The conversation goes to the one who knows, with all that was said."""
    async with troupe(nats_server.url, hand_off.app) as on:
        await on.submit("service", "s1", {"question": "I was charged twice."})
        assert await Client(on.bus).result("s1", timeout_s=DEADLINE_S) == [
            "customer: I was charged twice.", "reception: One moment, billing will help you.",
            "billing: You get one of the two charges back today.",
        ]  # fmt: skip
        calls = [r.event for r in await on.events("s1") if isinstance(r.event, CallAgent)]
    assert [call.name for call in calls] == ["reception", "billing"]
    assert msgspec.json.decode(calls[1].input)["conversation"][1].startswith("reception: ")


async def test_debate(nats_server: EmbeddedServer) -> None:
    """Two of three answers are enough; the judge counts these."""
    async with troupe(nats_server.url, debate.app) as on:
        await on.submit("debate", "d1", {"question": "Shall we build it ourselves?"})
        end = await on.end("d1", deadline_s=DEADLINE_S)
    assert isinstance(end, JobCompleted), end
    verdict = msgspec.json.decode(end.output, type=debate.Verdict)
    assert len(verdict.votes) == 2 and set(verdict.votes) < {"hopeful", "careful", "frugal"}
    assert verdict.votes == {view: view == "hopeful" for view in verdict.votes}
    assert not verdict.decision and verdict.reason


async def test_supervisor_and_workers(nats_server: EmbeddedServer) -> None:
    """Both workers are asked at once, and the answer is made of theirs."""
    async with troupe(nats_server.url, supervisor.app) as on:
        await on.submit("foreman", "f1", {"question": "What does a new roof cost?"})
        answer = await Client(on.bus).result("f1", timeout_s=DEADLINE_S)
        calls = [r.event.call for r in await on.events("f1") if isinstance(r.event, CallAgent)]
    assert answer == "Roofer: It is 38.5 for a square metre. Carpenter: It is 21.0 for a square metre."
    assert calls == ["gather:1.0/roofer:1", "gather:1.1/carpenter:1"]


def test_the_demo_of_agents(tmp_path: Path) -> None:
    """As ``make demo-agents`` runs it: the analyst is killed, nobody is asked twice, the report has its sources."""
    out = tmp_path / "report"
    argv = [sys.executable, "-m", "examples.agents.demo", "--model", "", "--out", str(out)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "kill -9" in done.stdout and "23 asked for: none twice" in done.stdout
    report = (out / "report.md").read_text()
    assert "Asia gained most, 26.50 years. [t1.2]" in report
    assert "- Zimbabwe: 48.451 to 43.487 (-4.96) [t2.2]" in report
    assert sorted(file.suffix for file in out.iterdir()) == [".csv", ".html", ".json", ".md"]
    assert "(life-expectancy-by-continent-1952-to-2007.html)" in report
