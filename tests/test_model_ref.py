"""Refs of models: what a text names, what is near to a wrong one, and what open_model makes of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import actors.model
from actors.model import ModelRef, ScriptedModel, open_model, parse_model_ref
from actors.model.message import user
from actors.model.model import ModelRequest
from actors.model.model_ref import EXAMPLES, PROVIDERS
from bus.errors import UsageError

WORD = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789.-_/:", min_size=1, max_size=20)
HOST = st.sampled_from(["", "http://127.0.0.1:11434/v1", "https://models.example:8443/a/b", "http://[::1]:80"])
SERVED = st.builds(ModelRef, st.sampled_from(["anthropic", "openai", "ollama", "vllm"]), WORD, HOST)
SCRIPTED = st.builds(
    ModelRef, st.just("scripted"), st.from_regex(r"[a-z]{1,5}(\.[a-z]{1,5})?:[a-z]{1,5}", fullmatch=True)
)
PATH = st.text("abcdefgh./-_ +", min_size=1, max_size=20)
CASSETTE = st.builds(ModelRef, st.just("cassette"), PATH, st.just(""), st.none() | SERVED | SCRIPTED)


@given(SERVED | SCRIPTED | CASSETTE)
def test_a_ref_is_read_as_it_is_written(ref: ModelRef) -> None:
    """Every ref has one text, and that text is read as the ref."""
    if ref.provider == "cassette":
        ref = ModelRef("cassette", ref.name.strip() or "a", "", ref.through)
    assert parse_model_ref(str(ref)) == ref


@given(st.text(max_size=30) | st.builds("{}:{}".format, st.sampled_from(PROVIDERS), st.text(max_size=30)))
def test_any_text_is_a_ref_or_is_refused(text: str) -> None:
    """No text makes anything but a ref or a UsageError with a hint; what is read says the same when written."""
    try:
        ref = parse_model_ref(text)
    except UsageError as error:
        refused = error
    else:
        assert parse_model_ref(str(ref)) == ref
        return
    assert refused.hint and refused.code in {"bad_model_ref", "unknown_provider"}


def test_the_examples_are_refs() -> None:
    """What errors show as right is right, for each provider."""
    assert set(EXAMPLES) == set(PROVIDERS)
    assert [parse_model_ref(text).provider for text in EXAMPLES.values()] == list(EXAMPLES)
    served = parse_model_ref("openai:org/model:7b@http://10.0.0.5:8000/v1/")
    assert served == ModelRef("openai", "org/model:7b", "http://10.0.0.5:8000/v1")
    kept = parse_model_ref("cassette:tests/a+b.jsonl+ollama:llama3.2@http://h:1/v1")
    assert kept == ModelRef("cassette", "tests/a+b.jsonl", "", ModelRef("ollama", "llama3.2", "http://h:1/v1"))


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("opnai:gpt-4.1", "unknown_provider", "did you mean openai?"),
        ("mistral:large", "unknown_provider", "one of anthropic, openai"),
        ("claude-sonnet-4-5", "bad_model_ref", "did you mean anthropic:claude-sonnet-4-5?"),
        ("sonnet", "bad_model_ref", "write provider:name"),
        ("openai:", "bad_model_ref", "such as openai:gpt-4.1"),
        ("openai:gpt 4", "bad_model_ref", "such as openai:gpt-4.1"),
        ("openai:@http://h/v1", "bad_model_ref", "such as openai"),
        ("vllm:m@http://h:port/v1", "bad_model_ref", "is no base URL"),
        ("vllm:m@http:///v1", "bad_model_ref", "is no base URL"),
        ("vllm:m@http://h/v1?key=secret", "bad_model_ref", "is no base URL"),
        ("scripted:script", "bad_model_ref", "scripted:shop.script:model"),
        ("cassette:a+cassette:b", "bad_model_ref", "not those of another cassette"),
        ("cassette:+openai:m", "bad_model_ref", "a cassette has a path"),
        ("cassette:a+opnai:m", "unknown_provider", "did you mean openai?"),
    ],
)
def test_a_wrong_ref_is_told_what_would_be_right(text: str, code: str, said: str) -> None:
    """Each way to get it wrong has a code for programs and a next step for people."""
    with pytest.raises(UsageError) as caught:
        parse_model_ref(text)
    assert caught.value.code == code and said in str(caught.value)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    """A ref is kept in logs; so it may hold no credentials, and the error that says so holds none either."""
    with pytest.raises(UsageError) as caught:
        parse_model_ref("openai:m@http://me:hunter2@h/v1")
    assert "environment variable" in str(caught.value) and "hunter2" not in str(caught.value) + caught.value.path


# ---- scripts


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A module of the user's in the working directory."""
    text = (
        "from actors.testing import ScriptedModel, say\n"
        "model = ScriptedModel([say('hello')])\n"
        "turns = [say('one'), say('two')]\n"
        "number = 5\n"
        "def echo(request):\n    return say(request.messages[-1].text)\n"
    )
    (tmp_path / "play_script.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("play_script", None)


@pytest.mark.parametrize(("attribute", "said"), [("model", "hello"), ("turns", "one"), ("echo", "Hi.")])
async def test_a_script_of_the_users_is_opened(script: None, attribute: str, said: str) -> None:
    """A ref finds a model, a list of turns or a function in a module of the working directory."""
    model = open_model(f"scripted:play_script:{attribute}")
    assert isinstance(model, ScriptedModel) and model.provider == "scripted"
    reply = await model.reply(ModelRequest(model="m", messages=(user("Hi."),)))
    assert reply.message.text == said


@pytest.mark.parametrize(
    ("ref", "code", "said"),
    [
        ("scripted:play_script:modle", "no_such_attribute", "did you mean model?"),
        ("scripted:play_scrpt:model", "module_not_found", "did you mean play_script?"),
        ("scripted:play_script:number", "not_a_script", "a ScriptedModel, a list of turns"),
        ("scripted:play script:model", "bad_target", "shop.script:model"),
        ("scripted:play_script:ScriptedModel", "not_a_script", "is a type"),
    ],
)
def test_a_script_that_is_not_there_is_told(script: None, ref: str, code: str, said: str) -> None:
    """A wrong module, a wrong attribute and a thing that is no script are three errors, each with what is near."""
    with pytest.raises(UsageError) as caught:
        open_model(ref)
    assert caught.value.code == code and said in str(caught.value)


def test_a_model_is_given_back_and_anything_else_is_refused() -> None:
    """An agent may be given a ref or an object; what is neither is told before the first call."""
    model = ScriptedModel([])
    assert open_model(model) is model
    with pytest.raises(UsageError, match="a int is no model"):
        open_model(cast("Any", 5))


def test_the_front_door_gives_the_function_whatever_was_imported_before() -> None:
    """The file of open_model has its name; the package's attribute is the function all the same."""
    assert callable(actors.model.open_model)
    assert all(getattr(actors.model, name) is not None for name in actors.model.__all__)
