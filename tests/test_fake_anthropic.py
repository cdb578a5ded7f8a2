"""The fake endpoint itself: what other tests rely on when they count its requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.anthropic_rules import complaint
from tests.fake_anthropic import FakeAnthropic, FakeProcess, Refuse, Say, Use, by_conversation

ASKED: dict[str, Any] = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]}
USED = {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "add", "input": {}}]}
ADD = {"name": "add", "description": "", "input_schema": {"type": "object"}}
MARK = {"cache_control": {"type": "ephemeral"}}


async def _post(url: str, request: dict[str, Any], key: str = "a key") -> httpx2.Response:
    async with httpx2.AsyncClient(trust_env=False) as client:
        return await client.post(f"{url}/v1/messages", json=request, headers={"x-api-key": key}, timeout=30.0)


async def test_turns_are_told_in_order_and_counted() -> None:
    """Each request hears the next turn; a wrong key takes none, and a request too many is refused."""
    async with FakeAnthropic([Say("one"), Refuse(429, retry_after="3")], key="right") as fake:
        wrong = await _post(fake.url, ASKED, "wrong")
        first, second, third = [await _post(fake.url, ASKED, "right") for _ in range(3)]
    assert wrong.status_code == 401
    assert second.status_code == 429 and second.headers["retry-after"] == "3"
    assert third.status_code == 400 and "no turn" in third.text
    assert first.json()["content"] == [{"type": "text", "text": "one"}] and fake.count == 4


async def test_a_process_tells_the_same_turn_to_the_same_conversation(tmp_path: Path) -> None:
    """A request that is repeated hears the same again, and the process's log has all of them."""
    async with FakeProcess(tmp_path, [Say(tools=(Use("add", {"a": 1}),)), Say("done")]) as fake:
        said = [(await _post(fake.url, {**ASKED, "tools": [ADD]})).json()["content"][0]["name"] for _ in range(2)]
        assert said == ["add", "add"]
        assert fake.count == 2 and fake.requests[0]["messages"] == ASKED["messages"]


async def test_a_script_may_be_a_function() -> None:
    """A function is given the request and its number."""
    async with FakeAnthropic(lambda request, count: Say(f"{request['model']} {count}")) as fake:
        assert [(await _post(fake.url, ASKED)).json()["content"][0]["text"] for _ in range(2)] == ["m 1", "m 2"]


def test_by_conversation_counts_what_the_model_said() -> None:
    """The turn follows from the conversation alone."""
    script = by_conversation([Say("a"), Say("b")])
    assert script({"messages": []}, 7) == Say("a")
    assert script({"messages": [USED]}, 1) == Say("b")


WRONG: dict[str, dict[str, Any]] = {
    "first message": {"messages": [{"role": "assistant", "content": "hello"}]},
    "non-empty": {"messages": [{"role": "user", "content": []}]},
    "non-whitespace": {"messages": [{"role": "user", "content": " "}]},
    "signature": {"messages": [*ASKED["messages"], {"role": "assistant", "content": [{"type": "thinking"}]}]},
    "right after": {"tools": [ADD], "messages": [*ASKED["messages"], USED, *ASKED["messages"]]},
    "must define tools": {"messages": [*ASKED["messages"], USED, {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t1"}]}]},
    "come first": {"tools": [ADD], "messages": [*ASKED["messages"], USED, {"role": "user", "content": [
        {"type": "text", "text": "x"}, {"type": "tool_result", "tool_use_id": "t1"}]}]},
    "input_schema": {"tools": [{**ADD, "input_schema": {}}]},
    "match pattern": {"tools": [{**ADD, "name": "my.add"}]},
    "unique": {"tools": [ADD, ADD]},
    "while providing tools": {"tool_choice": {"type": "auto"}},
    "not found": {"tools": [ADD], "tool_choice": {"type": "tool", "name": "sub"}},
    "greater than or equal": {"thinking": {"type": "enabled", "budget_tokens": 10}},
    "max_tokens": {"thinking": {"type": "enabled", "budget_tokens": 2000}},
    "forces tool": {"thinking": {"type": "adaptive"}, "tools": [ADD], "tool_choice": {"type": "any"}},
    "for this model": {"model": "claude-opus-5-5", "tools": [ADD], "tool_choice": {"type": "any"}},
    "thinking.type.enabled": {"model": "claude-opus-4-8", "thinking": {"type": "enabled", "budget_tokens": 1024}},
    "`temperature`": {"thinking": {"type": "adaptive"}, "temperature": 0},
    "A maximum of 4": {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", **MARK}] * 5}]},
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_what_the_api_refuses_is_refused(words: str) -> None:
    """A request that the real endpoint would refuse does not pass in tests either."""
    assert complaint(ASKED) == ""
    assert words in complaint({**ASKED, **WRONG[words]})


def test_what_only_a_version_or_a_beta_knows() -> None:
    """The newer version of the API knows no temperature, and binding of thoughts is a beta."""
    bound = {**ASKED, "thinking": {"type": "adaptive", "block_binding": {}}}
    assert complaint(bound) == "" and "block_binding" in complaint(bound, betas="")
    assert complaint({**ASKED, "temperature": 0}, "2023-06-01") == ""
    assert "temperature" in complaint({**ASKED, "temperature": 0}, "2026-10-21")
