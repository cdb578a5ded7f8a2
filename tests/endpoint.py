"""Local endpoints for the agents of a troupe: each job is told turns of its own, whatever others ask meanwhile."""

from __future__ import annotations

from typing import Any

from tests.anthropic_turns import Refuse, Turn
from tests.fake_anthropic import FakeAnthropic
from tests.fake_openai import FakeOpenAI


class Endpoint:
    """Both servers. Agents whose prompt is the id of their job are told ``turns[job]``, in their order."""

    def __init__(self) -> None:
        self.turns: dict[str, list[Turn]] = {}
        self.claude = FakeAnthropic(self._turn)
        self.openai = FakeOpenAI([])

    def _turn(self, request: dict[str, Any], _: int) -> Turn:
        turns = self.turns[first_words(request)]
        return turns.pop(0) if turns else Refuse(400, message="the script has no more turns")

    def asked(self, job: str) -> list[dict[str, Any]]:
        """What the job has asked Claude."""
        return [request for request in self.claude.requests if first_words(request) == job]


def first_words(request: dict[str, Any]) -> str:
    """The prompt that the conversation began with."""
    return str(request["messages"][0]["content"][0]["text"])
