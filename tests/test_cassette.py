"""Cassettes: recorded once with a model, played without one; what is not recorded, cut off or mended by hand."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from actors.model import Cassette, Delta, Message, ModelReply, ModelRequest, Text, ToolSpec, open_model
from actors.model.cassette import append_line
from actors.model.exchange import asked, digest_of, exchange_of, line_of, read_lines, whole_bytes
from actors.model.message import user
from actors.model.request_difference import NOTHING, request_differences
from actors.testing import ScriptedModel, fail, say, use
from bus.errors import UsageError
from bus.failure import RetryableError, TerminalError
from tests.fake_openai import FakeOpenAI, Said


def question(text: str = "How many?", **more: Any) -> ModelRequest:
    return ModelRequest(**{"model": "scripted", "messages": (user(text),), **more})


def answers(*texts: str) -> ScriptedModel:
    """A model that says these, one a call, whatever it is asked."""
    rest = list(texts)
    return ScriptedModel(lambda _: say(rest.pop(0)), name="answers")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tapes" / "x.jsonl"


async def test_recorded_once_and_played_without_the_model(path: Path) -> None:
    """What was asked is asked no more: not by this process, nor by the next one, which has no model at all."""
    model = ScriptedModel([use("sql", {"query": "select 1"}, text="Let me look.", thinking="Hm."), say("12")])
    recorder = Cassette(path, model)
    first = await recorder.reply(question())
    more = question(messages=(user("How many?"), first.message, user("Well?")))
    second = await recorder.reply(more)
    assert (recorder.provider, recorder.name) == ("scripted", "scripted") and len(model.requests) == 2
    await recorder.close()
    player = Cassette(path)
    assert (player.provider, player.name) == ("scripted", "scripted")
    heard: list[Delta] = []
    assert await player.reply(question(stream=False, timeout_s=5.0), heard.append) == first
    assert await player.reply(more) == second
    assert "".join(each.text for each in heard) == "Hm.Let me look." and len(heard) == 4
    assert player.count_tokens(more) == model.count_tokens(more)
    assert await Cassette(path, model).reply(question()) == first and len(model.requests) == 2
    line = json.loads(path.read_text().splitlines()[0])
    assert line["request"]["messages"][0] == {"role": "user", "parts": [{"type": "text", "text": "How many?"}]}


async def test_equal_requests_are_told_apart_by_their_order(path: Path) -> None:
    """The second of two equal requests has the second answer; one more than were recorded has the last one again."""
    recorder = Cassette(path, answers("one", "other", "two"))
    assert [await said(recorder), await said(recorder, "And?"), await said(recorder)] == ["one", "other", "two"]
    player = Cassette(path)
    assert [await said(player) for _ in range(3)] == ["one", "two", "two"]
    assert await said(Cassette(path, answers("fresh")), "New?") == "fresh"
    assert await said(player, "New?") == "fresh"


async def said(model: Cassette, text: str = "How many?") -> str:
    return (await model.reply(question(text))).message.text


async def test_a_failure_is_not_recorded(path: Path) -> None:
    """An answer that did not come is asked for again, and is the first of its request on the tape."""
    recorder = Cassette(path, ScriptedModel([fail(RetryableError("busy")), say("12")]))
    with pytest.raises(RetryableError):
        await recorder.reply(question())
    assert await said(recorder) == "12" and await said(Cassette(path)) == "12"


async def test_what_failed_here_and_was_recorded_elsewhere_is_played(path: Path) -> None:
    """A call that failed has not used up its place on the tape: what another process recorded meanwhile is taken."""
    model = ScriptedModel([fail(RetryableError("busy"), times=9)])
    recorder = Cassette(path, model)
    with pytest.raises(RetryableError):
        await recorder.reply(question())
    assert await said(Cassette(path, answers("12"))) == "12"
    assert await said(recorder) == "12" and len(model.requests) == 1


async def test_what_was_not_recorded_is_told_with_what_is_near(path: Path) -> None:
    """The error shows in which field the request differs from the nearest one, at the place that matters."""
    tools = (ToolSpec("sql", "Ask.", {"type": "object"}),)
    recorder = Cassette(path, answers("a", "b"))
    await recorder.reply(question("x" * 300 + " in March", tools=tools))
    await recorder.reply(question("something else"))
    with pytest.raises(TerminalError) as caught:
        await Cassette(path).reply(question("x" * 300 + " in April", tools=tools, temperature=0.5))
    text = str(caught.value)
    assert caught.value.code == "not_recorded" and "the nearest is line 1" in text
    assert "messages[0].parts[0].text: recorded ...'xxxx" in text and "in March'" in text and "in April'" in text
    assert "temperature: recorded nothing, asked 0.5" in text and len(text) < 700
    assert caught.value.details is not None
    assert caught.value.details["fields"] == ["messages[0].parts[0].text", "temperature"]


async def test_without_a_key_the_tape_is_enough(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One ref serves for recording and for playing; the key is missed when something has to be asked, and only then."""
    monkeypatch.setenv("OPENAI_COMPATIBLE_API_KEY", "sk-secret-1234567")
    async with FakeOpenAI([Said("12"), Said("13")]) as server:
        recorder = open_model(f"cassette:{path}+openai:m@{server.url}")
        await recorder.reply(question(model="m"))
        await recorder.reply(question(model="m"))
        await recorder.close()
        assert len(server.bodies) == 2
        assert recorder.provider == open_model(f"openai:m@{server.url}").provider
    assert "sk-secret" not in path.read_text()
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    player = open_model(f"cassette:{path}+openai:m")
    texts = [(await player.reply(question(model="m"))).message.text for _ in range(3)]
    assert texts == ["12", "13", "13"]
    with pytest.raises(TerminalError, match=r"openai:m cannot be asked: OPENAI_API_KEY is not set"):
        await player.reply(question("New?", model="m"))
    await player.close()


def test_a_cassette_that_is_not_there(path: Path) -> None:
    """Nobody to ask and nothing recorded is told when it is opened, with the name that is near or how to record."""
    with pytest.raises(UsageError, match=r"record it: cassette:.*x.jsonl\+PROVIDER:MODEL"):
        open_model(f"cassette:{path}")
    append_line(path, b"{}\n")
    with pytest.raises(UsageError, match=r"did you mean .*x\.jsonl"):
        open_model(f"cassette:{path.with_name('y.jsonl')}")
    with pytest.raises(UsageError, match=r"line 1: .*mend the line") as caught:
        open_model(f"cassette:{path}")
    assert caught.value.code == "bad_cassette"
    with pytest.raises(UsageError, match="directory"):
        Cassette(path.parent, answers())
    with pytest.raises(UsageError, match="did you mean openai"):
        Cassette(path, "opnai:gpt-4.1")


async def test_a_line_that_was_mended_by_hand_is_found_by_its_new_text(path: Path) -> None:
    """The file is for people: the digest in it is for the eye, and the request itself is what counts."""
    await Cassette(path, answers("twelve")).reply(question("How mnay?"))
    path.write_text(path.read_text().replace("How mnay?", "How many?").replace("twelve", "12"))
    assert await said(Cassette(path)) == "12"


async def test_recorders_beside_each_other_lose_nothing(path: Path) -> None:
    """Many write at once: every line is whole, and each knows what the others have recorded."""
    late, recorders = Cassette(path, answers()), [Cassette(path, answers(str(number))) for number in range(8)]
    await asyncio.gather(*(said(each, f"question {number}") for number, each in enumerate(recorders)))
    found = [await said(late, f"question {number}") for number in range(8)]
    assert found == [str(number) for number in range(8)]


# ---- pure parts


TEXT = st.text(max_size=12)
REQUEST = st.builds(
    ModelRequest, model=TEXT, messages=st.lists(st.builds(user, TEXT), max_size=3).map(tuple), system=TEXT,
    temperature=st.none() | st.sampled_from([0.0, 0.5]), output_schema=st.none() | st.just({"type": "object"}),
    timeout_s=st.sampled_from([1.0, 600.0]), stream=st.booleans(),
)  # fmt: skip
REPLY = st.builds(ModelReply, message=st.builds(lambda text: Message("assistant", (Text(text),)), TEXT),
                  stop=st.just("end_turn"))  # fmt: skip
EXCHANGES = st.lists(st.builds(exchange_of, TEXT, TEXT, REQUEST, REPLY), max_size=4)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(EXCHANGES, st.data())
def test_a_tape_that_is_cut_off_anywhere_is_read_up_to_there(exchanges: list[Any], data: Any) -> None:
    """At whichever byte a write was cut, the exchanges before it are read, and the next line makes the tape whole."""
    lines = [line_of(each) for each in exchanges]
    body = b"".join(lines)
    assert [each.exchange for each in read_lines(body, "x")] == exchanges
    cut = body[: data.draw(st.integers(0, len(body)))]
    whole = [each.exchange for each in read_lines(cut, "x")]
    assert whole == exchanges[: len(whole)] and len(whole) >= cut.count(b"\n")
    kept = cut[: whole_bytes(cut)]
    mended = kept + (b"\n" if kept and not kept.endswith(b"\n") else b"") + b"".join(lines[len(whole) :])
    assert [each.exchange for each in read_lines(mended, "x")] == exchanges


def test_a_line_goes_in_place_of_one_that_was_cut_off(path: Path) -> None:
    """What a killed process left half written is not left between two lines."""
    exchange = exchange_of("p", "m", question(), ModelReply(message=Message("assistant", ()), stop="end_turn"))
    line = line_of(exchange)
    longer = line_of(msgspec.structs.replace(exchange, model="m" * len(line)))
    for left, lines in ((longer[:-9], 1), (line + longer[:-9], 2), (line.rstrip(), 2), (b"", 1)):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(left)
        append_line(path, line)
        assert path.read_bytes() == line * lines


@given(REQUEST, st.floats(0.1, 900.0), st.booleans(), st.randoms())
def test_how_it_is_asked_does_not_count(
    request: ModelRequest, timeout_s: float, stream: bool, shuffled: random.Random
) -> None:
    """Time limit and streaming change no digest, nor does the order of keys; anything else does."""
    plain = asked(request)
    other = msgspec.structs.replace(request, timeout_s=timeout_s, stream=stream)
    names = list(plain)
    shuffled.shuffle(names)
    assert digest_of(plain) == digest_of(asked(other)) == digest_of({name: plain[name] for name in names})
    assert digest_of(plain) != digest_of(asked(msgspec.structs.replace(request, system=request.system + ".")))


@given(JSON, JSON)
@example({"": {}}, {"": {"a": None}, "a": None})
@example({}, {"a.b": 1, "a": {"b": 1}, "a[0]": 1})
def test_differences_are_all_there_is(recorded: Any, now: Any) -> None:
    """Equal values have none; set at their fields, the differences make the one out of the other; each can be told."""
    found = list(request_differences(recorded, now))
    same = json.dumps(recorded, sort_keys=True) == json.dumps(now, sort_keys=True)
    assert (not found) == same
    assert not list(request_differences(recorded, recorded))
    assert len({each.field for each in found}) == len(found)
    assert all(each.recorded is not NOTHING or each.asked is not NOTHING for each in found)
    assert all("recorded" in str(each) and "asked" in str(each) for each in found)
    turned = [(each.field, each.asked, each.recorded) for each in request_differences(now, recorded)]
    assert sorted(map(repr, turned)) == sorted(map(repr, map(tuple, found)))
