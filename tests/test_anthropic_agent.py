"""An agent over the real SDK, whose process is killed: the endpoint's count says that no answer is paid for twice."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

from bus.embedded import EmbeddedServer
from bus.messages import JobCompleted
from tests.apps.crossed import POINTS
from tests.fake_anthropic import FakeAnthropic, Hang, Say, Turn, Use, by_conversation
from tests.stage import stage
from tests.waiting import wait_until

DEADLINE_S = 60.0
STALLED = "stalled"
TURNS = [
    Say(
        "Both at once.",
        thinking="Two at first.",
        signature="first",
        tools=(Use("step", {"n": 1}), Use("step", {"n": 10})),
    ),
    Say(thinking="One more.", signature="second", redacted="hidden", tools=(Use("step", {"n": 100}),)),
    Say("done"),
]


def _job(request: dict[str, Any]) -> str:
    return str(request["messages"][0]["content"][0]["text"])


def _said(request: dict[str, Any]) -> int:
    return sum(message["role"] == "assistant" for message in request["messages"])


def _thoughts(request: dict[str, Any]) -> list[str]:
    blocks = [block for message in request["messages"] for block in message["content"]]
    return [block.get("signature") or block["data"] for block in blocks if "thinking" in block["type"]]


class Endpoint:
    """Tells the turns, but the second one of job ``stalled`` stays in the middle of its stream for the first time."""

    def __init__(self) -> None:
        self.has_stalled = False

    def __call__(self, request: dict[str, Any], count: int) -> Turn:
        """The turn for this request."""
        if _job(request) == STALLED and _said(request) == 1 and not self.has_stalled:
            self.has_stalled = True
            return Hang(4, TURNS[1])
        return by_conversation(TURNS)(request, count)


async def test_no_answer_is_asked_for_again(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Killed after an answer was recorded, or amid a stream, the agent goes on with the thoughts that it had."""
    killed = "host.after.reply.completed:2"
    marker, script = tmp_path / "died", Endpoint()
    (tmp_path / "recorded").write_text(f"{killed}:{marker}")
    async with FakeAnthropic(script) as fake:
        env = {POINTS: str(tmp_path), "ANTHROPIC_BASE_URL": fake.url, "ANTHROPIC_API_KEY": "a key"}
        async with stage(nats_server.url, tmp_path, "tests.apps.claude:app", env=env) as on:
            await on.submit("think", "recorded", {})
            assert isinstance(end := await on.end("recorded", deadline_s=DEADLINE_S), JobCompleted), end
            assert marker.exists()
            await on.submit("think", STALLED, {})
            await wait_until(lambda: script.has_stalled, DEADLINE_S)
            os.kill(on.pid("think-1"), signal.SIGKILL)
            assert isinstance(end := await on.end(STALLED, deadline_s=DEADLINE_S), JobCompleted), end
            asked = Counter((_job(request), _said(request)) for request in fake.requests)
            assert asked == {
                (job, turn): 1 + (job == STALLED and turn == 1) for job in ("recorded", STALLED) for turn in range(3)
            }
            for request in fake.requests:
                assert _thoughts(request) == ["first", "second", "hidden"][: (0, 1, 3)[_said(request)]]
            assert Counter(on.effects()) == {f"{job}:{n}": 1 for job in ("recorded", STALLED) for n in (1, 10, 100)}
