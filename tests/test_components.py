"""App and Component: declaring, finding, validating, and the wire form."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import enum
import inspect
import json
import os
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.components.app import App
from actors.components.component import Component, ComponentInfo, InvalidInput, InvalidOutput
from actors.components.version import parse_version
from bus.errors import UsageError
from bus.failure import failure_of
from supervisor.retry import Retry

ROOT = Path(__file__).parent.parent


class Job:
    """Stands for the real class, which is known by its name."""


class Item(msgspec.Struct, forbid_unknown_fields=True):
    sku: str
    qty: int = 1


class Quote(msgspec.Struct):
    price: float
    note: str | None = None


class Special(Quote):
    """A subclass is as good as its base."""


class Positive(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ValueError("n is negative")
        if self.n == 0:
            raise KeyError("zero")


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Receipt:
    total: float
    items: list[Item]


app = App("shop", version="1.2.0")


@app.tool(retry=Retry(attempts=4), timeout_s=10, replicas=2, concurrency=3)
async def quote(sku: str, items: list[Item], qty: int = 1) -> Quote:
    """Price an article."""
    return Quote(len(items) * qty)


@app.tool
def loose(value: Any = None) -> Any:
    return value


@app.tool
def receipt(positive: Positive) -> Receipt:
    return Receipt(1.0, [])


@app.job(isolated=True)
async def order(job: Job, sku: str) -> Quote:
    return Quote(1.0)


# ---- declaring


def test_a_component_knows_what_its_author_said() -> None:
    """Options, signature and docstring are all there, under the names that other parts rely on."""
    assert (quote.kind, quote.name, quote.app, quote.version, quote.major) == ("tool", "quote", "shop", "1.2.0", 1)
    assert (quote.retry.attempts, quote.timeout_s, quote.replicas, quote.concurrency) == (4, 10, 2, 3)
    assert (quote.description, quote.is_async, loose.is_async) == ("Price an article.", True, False)
    assert (order.kind, order.isolated, order.timeout_s, order.context_param) == ("job", True, None, "job")
    assert (loose.timeout_s, loose.replicas, loose.concurrency, loose.retry) == (60.0, 1, 8, Retry())
    assert app.components == [quote, loose, receipt, order]


async def test_calling_a_component_runs_the_plain_function() -> None:
    """Users test their functions without a bus."""
    assert await quote("A", [Item("x")], qty=2) == Quote(2.0)
    assert loose(5) == 5
    assert await order(Job(), "A") == Quote(1.0)
    assert list(inspect.signature(quote).parameters) == ["sku", "items", "qty"]


def test_a_component_cannot_be_changed() -> None:
    """It is what was declared, for as long as the process lives."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        quote.name = "other"  # type: ignore[misc]


def test_options_override_the_function() -> None:
    """Name, version and description may differ from what the function says."""
    component = App("a").tool(name="mail-send", version="2.1.0-rc.1", description="Send.")(loose.fn)
    assert (component.name, component.version, component.major, component.description) == (
        "mail-send",
        "2.1.0-rc.1",
        2,
        "Send.",
    )


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"name": "mail.send"}, "bad_name"),
        ({"name": ""}, "bad_name"),
        ({"name": "x" * 65}, "bad_name"),
        ({"version": "1.2"}, "bad_version"),
        ({"version": "01.2.3"}, "bad_version"),
        ({"version": 1}, "bad_version"),
        ({"timeout_s": 0}, "bad_option"),
        ({"timeout_s": float("nan")}, "bad_option"),
        ({"timeout_s": "10"}, "bad_option"),
        ({"replicas": 0}, "bad_option"),
        ({"concurrency": True}, "bad_option"),
        ({"retry": 3}, "bad_option"),
        ({"description": 3}, "bad_option"),
        ({"stall_s": 0.5}, "bad_option"),
        ({"stall_s": float("inf")}, "bad_option"),
        ({"limits": 2**30}, "bad_option"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], code: str) -> None:
    """Each option that cannot be is named, with the function that it was given for."""
    with pytest.raises(UsageError, match="loose") as caught:
        App("a").tool(**options)(loose.fn)
    assert caught.value.code == code


def test_an_app_needs_a_usable_name_and_version() -> None:
    """Both become parts of subjects and of the registry."""
    with pytest.raises(UsageError, match="name of the app"):
        App("my shop")
    with pytest.raises(UsageError, match="version of app shop"):
        App("shop", version="latest")


# ---- versions


def test_versions_live_side_by_side_and_the_newest_is_found() -> None:
    """find takes the newest of a major, or of all; a pre-release is older than its release."""
    side = App("side")
    for version in ("1.9.0", "1.10.0", "2.0.0-rc.1", "2.0.0", "10.0.0-beta"):
        side.tool(name="send", version=version)(loose.fn)
    side.job(name="send", version="1.0.0")(order.fn)

    def found(major: int | None = None) -> str | None:
        component = side.find("tool", "send", major)
        return component and component.version

    assert (found(), found(1), found(2), found(3)) == ("10.0.0-beta", "1.10.0", "2.0.0", None)
    assert side.find("tool", "nothing") is None


def test_the_same_version_twice_is_refused() -> None:
    """Two components of one kind, name and version in one App would be one subject."""
    twice = App("twice")
    twice.tool(loose.fn)
    with pytest.raises(UsageError, match=r"loose 0\.1\.0 already") as caught:
        twice.tool(loose.fn)
    assert caught.value.code == "duplicate_component"
    assert len(twice.components) == 1


def test_versions_order_as_semver_says() -> None:
    """The example of semver.org, clause 11, and build metadata that does not count."""
    pre_releases = ["alpha", "alpha.1", "alpha.beta", "beta", "beta.2", "beta.11", "rc.1"]
    versions = [parse_version(v, "v") for v in (*(f"1.0.0-{pre}" for pre in pre_releases), "1.0.0")]
    assert versions == sorted(versions)
    assert len(set(versions)) == len(versions)
    assert parse_version("1.0.0+a", "v") == parse_version("1.0.0+b", "v")


@given(st.text())
def test_no_text_breaks_the_version_parser(text: str) -> None:
    """A text is a version or a UsageError."""
    with contextlib.suppress(UsageError):
        parse_version(text, "v")


# ---- input


@pytest.mark.parametrize(
    ("raw", "code", "path", "words"),
    [
        (b"", "invalid_input", "$.sku", "missing required field `sku`"),
        (b" \n", "invalid_input", "$.sku", "missing required field `sku`"),
        (b'{"sku": 1, "items": []}', "invalid_input", "$.sku", "Expected `str`, got `int`"),
        (b'{"sku": "", "items": [{"sku": ""}, {"sku": "", "qty": "2"}]}', "invalid_input", "$.items[1].qty", "`int`"),
        (b'{"sku": "", "items": [{"qty": 1}]}', "invalid_input", "$.items[0].sku", "missing"),
        (b'{"sku": "", "items": [{"sku": "", "qyt": 1}]}', "invalid_input", "$.items[0].qyt", "did you mean `qty`?"),
        (b'{"skuu": ""}', "invalid_input", "$.skuu", "did you mean `sku`?"),
        (b'{"zzz": ""}', "invalid_input", "$.zzz", "the fields are sku, items, qty"),
        (b'{"sku": "", "items": [], "a b": 1}', "invalid_input", '$["a b"]', "unknown field `a b`"),
        (b"[1]", "invalid_input", "$", 'must be an object: {"sku": ...'),
        (b"null", "invalid_input", "$", "Expected `object`, got `null`"),
        (b'{"sku": "", "items": [], "qty": 1e999}', "invalid_input", "$.qty", "out of range"),
        (b'{"sku": "', "invalid_json", "$", "too early at byte 9 (line 1, column 10)"),
        (b'{\n  "sku": A1}', "invalid_json", "$", "byte 11 (line 2, column 10)"),
        (b"sku=A1", "invalid_json", "$", "byte 0 (line 1, column 1)"),
        (b'{"sku": "", "items": []} x', "invalid_json", "$", "trailing characters"),
        (b'{"sku": NaN}', "invalid_json", "$", "use null"),
        (b"{'sku': 1}", "invalid_json", "$", "double quotes"),
        (b"\xef\xbb\xbf{}", "invalid_json", "$", "byte order mark"),
        ("{}".encode("utf-16"), "invalid_json", "$", "byte order mark"),
        (b'{"sku": "\xff"}', "invalid_json", "$", "0xff is not UTF-8 at byte 9"),
        (b'{"sku": 1, "items": oops}', "invalid_json", "$", "byte 20"),
        (b'{"sku": ' + b"[" * 5000, "invalid_input", "$.sku", "Expected `str`, got `array`"),
    ],
)
def test_bad_input_says_what_and_where(raw: bytes, code: str, path: str, words: str) -> None:
    """Each kind of bad input has its code, the path of the field or the position in the text, and advice."""
    with pytest.raises(InvalidInput) as caught:
        quote.decode_input(raw)
    assert (caught.value.code, caught.value.path) == (code, path)
    assert words in str(caught.value)
    assert "quote" in str(caught.value)


def test_bad_input_crosses_the_wire_as_it_is() -> None:
    """The failure that others see is final and has the code, the path and the hint."""
    with pytest.raises(InvalidInput) as caught:
        quote.decode_input(b'{"skuu": ""}')
    failure = failure_of(caught.value)
    assert (failure.code, failure.path, failure.retryable) == ("invalid_input", "$.skuu", False)
    assert failure.hint == "did you mean `sku`?"


@pytest.mark.parametrize(("n", "words"), [(-1, "n is negative"), (0, "KeyError: 'zero'")])
def test_a_validator_that_raises_is_bad_input(n: int, words: str) -> None:
    """Whatever a __post_init__ of the user's raises is a refusal, never an error of the actor."""
    with pytest.raises(InvalidInput, match=words):
        receipt.decode_input(b'{"positive": {"n": %d}}' % n)


def test_input_nested_too_deeply_is_refused() -> None:
    """Ten thousand brackets are bad input, not a crash."""
    with pytest.raises(InvalidInput, match="nested too deeply"):
        loose.decode_input(b'{"value": ' + b"[" * 10_000 + b"]" * 10_000 + b"}")


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_are_input_or_invalid_input(raw: bytes) -> None:
    """Nothing but InvalidInput leaves decode_input."""
    for component in (quote, loose, receipt):
        with contextlib.suppress(InvalidInput):
            assert isinstance(component.decode_input(raw), dict)


# ---- output


def test_output_comes_back_typed() -> None:
    """Structs and dataclasses are rebuilt at the caller; fields added by a newer version do not matter."""
    assert quote.decode_output(quote.encode_output(Quote(1.5, "x"))) == Quote(1.5, "x")
    assert receipt.decode_output(receipt.encode_output(Receipt(1.0, [Item("a")]))) == Receipt(1.0, [Item("a")])
    assert quote.decode_output(b'{"price": 2, "added": true}') == Quote(2.0)


@pytest.mark.parametrize("value", [Special(1.0), {"price": 1, "note": None}, {"price": 1}])
def test_objects_count_by_their_fields(value: Any) -> None:
    """A subclass, or a dict of the right shape, is a right answer."""
    assert quote.decode_output(quote.encode_output(value)) == Quote(1.0)


def _circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    ("component", "value", "path", "words"),
    [
        (quote, None, "$", "Expected `object`, got `null`"),
        (quote, 5, "$", "Expected `object`, got `int`"),
        (quote, Quote("x"), "$.price", "Expected `float`, got `str`"),  # type: ignore[arg-type]
        (quote, {"note": "x"}, "$.price", "missing required field `price`"),
        (quote, Quote(float("nan")), "$.price", "nan cannot be written as JSON"),
        (quote, Quote(1.0, object()), "$.note", "a `object` cannot be written"),  # type: ignore[arg-type]
        (quote, Quote(1.0, "\ud800"), "$.note", "surrogate"),
        (receipt, Receipt(1.0, [Item("a"), Item("b", "c")]), "$.items[1].qty", "got `str`"),  # type: ignore[arg-type]
        (receipt, Receipt(1.0, [Item("a", float("inf"))]), "$.items[0].qty", "inf"),  # type: ignore[arg-type]
        (loose, {"a": [1, {"b c": float("-inf")}]}, '$.a[1]["b c"]', "-inf cannot be written"),
        (loose, [1, {"a": print}], "$[1].a", "a `builtin_function_or_method` cannot be written"),
        (loose, (i for i in ()), "$", "collect it into a list"),
        (loose, {"a": {(1, 2): 3}}, "$.a", "keys must be strings or numbers"),
        (loose, _circular(), "$", "holds itself"),
    ],
)
def test_bad_output_says_what_and_where(component: Component[..., Any], value: Any, path: str, words: str) -> None:
    """A result of the wrong type, or one that is no JSON, is named with its type and place."""
    with pytest.raises(InvalidOutput) as caught:
        component.encode_output(value)
    assert (caught.value.code, caught.value.path) == ("invalid_output", path)
    assert words in str(caught.value)


def test_a_forgotten_await_is_recognised() -> None:
    """Returning a coroutine is a common slip and has a hint of its own."""
    coroutine = quote("A", [])
    with pytest.raises(InvalidOutput, match="an await is missing"):
        loose.encode_output({"quote": coroutine})
    coroutine.close()


def test_a_long_text_of_the_sender_is_clipped() -> None:
    """A field name of any size does not blow up the error that is logged."""
    with pytest.raises(InvalidInput) as caught:
        loose.decode_input(b'{"' + b"x" * 100_000 + b'": 1}')
    assert len(str(caught.value)) < 1_000
    assert len(caught.value.path) < 400


@pytest.mark.parametrize("depth", [10, 300, 900, 980, 990, 1_000, 2_000, 100_000])
def test_deep_output_is_written_or_refused(depth: int) -> None:
    """Nesting at, below and above the interpreter's limit never ends in another error."""
    value: Any = None
    for _ in range(depth):
        value = [value]
    with contextlib.suppress(InvalidOutput):
        loose.encode_output(value)
    while value:  # taken apart by hand, since freeing it recurses as well
        value = value[0]


@pytest.mark.parametrize(
    "value",
    [
        {1: None, 2.5: None, uuid.UUID(int=1): None, dt.date(2020, 1, 1): None},
        [msgspec.Raw(b"null")],
        {"e": Colour.RED, "s": {None}, "b": b"null", "d": Decimal(1), "n": None},
    ],
)
def test_whatever_msgspec_writes_beside_a_null_passes(value: Any) -> None:
    """The search for lost numbers knows every type that the encoder knows."""
    assert loose.encode_output(value) == msgspec.json.encode(value)


def test_text_that_says_null_is_no_problem() -> None:
    """The shortcut that looks for a null in the JSON refuses only numbers that JSON has not."""
    for value in ("null", None, [None, "nullable"], {"null": 1.0}):
        assert loose.decode_output(loose.encode_output(value)) == value


def test_wrong_bytes_of_a_result_are_invalid_output() -> None:
    """The caller's side blames the result, not the input."""
    with pytest.raises(InvalidOutput, match=r"\$\.price"):
        quote.decode_output(b'{"price": "x"}')
    with pytest.raises(InvalidOutput) as caught:
        quote.decode_output(b"{")
    assert caught.value.code == "invalid_json"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_json_values_round_trip_without_annotation(value: Any) -> None:
    """Plain JSON comes back as it went in."""
    assert loose.decode_output(loose.encode_output(value)) == value


@given(st.recursive(st.floats() | st.none() | st.builds(object), lambda inner: st.lists(inner) | st.tuples(inner)))
def test_any_value_is_output_or_invalid_output(value: Any) -> None:
    """Nothing but InvalidOutput leaves encode_output, and what passes reads back without loss."""
    with contextlib.suppress(InvalidOutput):
        encoded = loose.encode_output(value)
        assert loose.decode_output(encoded) == json.loads(json.dumps(value, allow_nan=False))


# ---- wire form


def test_info_round_trips() -> None:
    """The registry's row says all that callers and nodes need, and reads back equal."""
    for component in app.components:
        info = component.info()
        assert msgspec.json.decode(msgspec.json.encode(info), type=ComponentInfo) == info
        assert (info.kind, info.name, info.major, info.digest) == (
            component.kind,
            component.name,
            component.major,
            component.digest,
        )


def test_digest_is_the_same_in_every_process() -> None:
    """Two nodes agree on whether they run the same component, whatever their hash seed."""
    code = (
        "from typing import Literal\nfrom actors.components.app import App\nimport sys\n"
        "def f(a: Literal['x', 'y', 'z'], b: set[str] = {'p', 'q', 'r'}) -> dict[str, int]: ...\n"
        "sys.stdout.write(App('a').tool(f).digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1
    assert len(digests.pop()) == 64
