"""What is read from a function: parameters, types, context, docstring; and what is refused at the decorator."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import sys
import textwrap
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, TypedDict

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.components.app import App
from actors.components.component import Component, InvalidInput
from actors.components.loading import load_app
from actors.components.schema import digest, fields_at, read_docstring
from bus.errors import UsageError


class ToolContext:
    """Stands for the real class, which is known by its name."""


class Job:
    """Stands for the real class, which is known by its name."""


class Arbitrary:
    """A class that JSON knows nothing of."""


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Item(msgspec.Struct):
    sku: str
    qty: int = 1


class Cat(msgspec.Struct, tag=True):
    lives: int


class Dog(msgspec.Struct, tag=True):
    name: str


class Node(msgspec.Struct):
    value: int
    children: list[Node] = []


@dataclasses.dataclass
class Address:
    street: str
    lines: list[str] = dataclasses.field(default_factory=list)


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


class Point(NamedTuple):
    x: int
    y: int = 0


def tool(fn: Callable[..., Any], **options: Any) -> Component[..., Any]:
    return App("shop").tool(**options)(fn)


def job(fn: Callable[..., Any], **options: Any) -> Component[..., Any]:
    return App("shop").job(**options)(fn)


def refusal(declare: Callable[..., Any], fn: Callable[..., Any], **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        declare(fn, **options)
    return caught.value


# ---- parameters and types


async def everything(
    item: Item,
    address: Address,
    movie: Movie,
    point: Point,
    pet: Cat | Dog,
    node: Node,
    colour: Colour,
    size: Literal["s", "m", 3],
    count: int,
    ratio: float,
    flag: bool,
    raw: bytes,
    at: dt.datetime,
    day: dt.date,
    span: dt.timedelta,
    price: Decimal,
    key: uuid.UUID,
    maybe: int | None,
    either: int | str,
    names: set[str],
    pair: tuple[int, str],
    many: tuple[int, ...],
    by_number: dict[int, list[Item]],
    bounded: Annotated[int, msgspec.Meta(ge=0, le=9)],
    anything: Any,
    *,
    note: str = "",
) -> list[Item]:
    return [item]


INTS = st.integers(-(2**53), 2**53)
ITEMS = st.builds(Item, sku=st.text(), qty=INTS)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "item": ITEMS,
    "address": st.builds(Address, street=st.text(), lines=st.lists(st.text(), max_size=3)),
    "movie": st.fixed_dictionaries({"title": st.text()}, optional={"year": INTS}),
    "point": st.builds(Point, INTS, INTS),
    "pet": st.builds(Cat, INTS) | st.builds(Dog, st.text()),
    "node": st.recursive(
        st.builds(Node, value=INTS), lambda n: st.builds(Node, INTS, st.lists(n, max_size=2)), max_leaves=4
    ),
    "colour": st.sampled_from(Colour),
    "size": st.sampled_from(["s", "m", 3]),
    "count": st.integers(),
    "ratio": st.floats(allow_nan=False, allow_infinity=False),
    "flag": st.booleans(),
    "raw": st.binary(),
    "at": st.datetimes(timezones=st.just(dt.UTC)) | st.datetimes(),
    "day": st.dates(),
    "span": st.timedeltas(dt.timedelta(days=-999), dt.timedelta(days=999)),
    "price": st.decimals(allow_nan=False, allow_infinity=False),
    "key": st.uuids(),
    "maybe": st.none() | INTS,
    "either": INTS | st.text(),
    "names": st.sets(st.text(), max_size=3),
    "pair": st.tuples(INTS, st.text()),
    "many": st.lists(INTS, max_size=3).map(tuple),
    "by_number": st.dictionaries(INTS, st.lists(ITEMS, max_size=2), max_size=2),
    "bounded": st.integers(0, 9),
    "anything": st.recursive(st.none() | st.booleans() | INTS | st.text(), st.lists, max_leaves=4),
}
EVERYTHING = tool(everything)


@given(st.fixed_dictionaries(VALUES, optional={"note": st.text()}))
def test_arguments_survive_the_way_through_json(arguments: dict[str, Any]) -> None:
    """Whatever is bound to a call comes out of decode_input as the same typed values, and fits the schema."""
    raw = EVERYTHING.bind_input((), arguments)
    assert EVERYTHING.decode_input(raw) == {"note": "", **arguments}
    jsonschema.validate(msgspec.json.decode(raw), EVERYTHING.input_schema)


@given(ITEMS, st.lists(ITEMS, max_size=3))
def test_arguments_by_place_and_by_name_are_the_same_input(item: Item, more: list[Item]) -> None:
    """How an argument was passed leaves no trace in the input."""

    def pick(first: Item, rest: list[Item] = []) -> None: ...  # noqa: B006 - the default under test

    picked = tool(pick)
    assert picked.bind_input((item, more), {}) == picked.bind_input((item,), {"rest": more})
    assert picked.decode_input(picked.bind_input((item,), {})) == {"first": item, "rest": []}


def test_schemas_are_valid_json_schema() -> None:
    """Every schema passes the meta-schema, is an object at the top and allows no unknown field."""
    jsonschema.Draft202012Validator.check_schema(EVERYTHING.input_schema)
    jsonschema.Draft202012Validator.check_schema(EVERYTHING.output_schema)
    assert EVERYTHING.input_schema["type"] == "object"
    assert EVERYTHING.input_schema["additionalProperties"] is False
    assert "note" not in EVERYTHING.input_schema["required"]
    assert EVERYTHING.output_schema["items"] == {"$ref": "#/$defs/Item"}


def test_recursive_return_type_keeps_its_definition() -> None:
    """A schema that refers to itself stays resolvable once its top is an object."""

    def tree() -> Node: ...  # type: ignore[empty-body]

    schema = tool(tree).output_schema
    assert schema["type"] == "object"
    jsonschema.validate({"value": 1, "children": [{"value": 2}]}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"value": 1, "children": [{"value": "x"}]}, schema)


def test_a_tool_may_be_called_like_its_struct() -> None:
    """Two definitions of one name stay apart in the schema."""

    def take(item: Item) -> Item:
        return item

    schema = tool(take, name="Item").input_schema
    jsonschema.validate({"item": {"sku": "a"}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"item": {"sku": 1}}, schema)


def test_unannotated_parameters_and_results_are_plain_json() -> None:
    """No annotation means any JSON value, in and out."""

    def loose(value, other=2): ...  # type: ignore[no-untyped-def]

    loosely = tool(loose)
    assert loosely.decode_input(b'{"value": {"a": [1, null]}}') == {"value": {"a": [1, None]}, "other": 2}
    assert loosely.output_schema == {}
    assert loosely.decode_output(loosely.encode_output([1, {"a": None}])) == [1, {"a": None}]


def test_mutable_defaults_are_fresh_for_each_call() -> None:
    """A function that changes its default list does not change it for the next input."""

    def collect(tags: list[str] = ["a"], item: Item = Item("x")) -> None: ...  # noqa: B006, B008 - under test

    collected = tool(collect)
    collected.decode_input(b"{}")["tags"].append("b")
    collected.decode_input(b"{}")["item"].sku = "y"
    assert collected.decode_input(b"{}") == {"tags": ["a"], "item": Item("x")}
    assert collected.input_schema["properties"]["item"]["default"] == {"sku": "x", "qty": 1}


def test_a_sentinel_default_stays_the_same_object() -> None:
    """``if value is MISSING`` still works in the function; the schema does not mention what is no JSON."""
    missing = object()

    def look(value: Any = missing) -> None: ...

    looked = tool(look)
    assert looked.decode_input(b"")["value"] is missing
    assert "default" not in looked.input_schema["properties"]["value"]


def test_wrapped_functions_and_bound_methods_keep_their_signature() -> None:
    """functools.wraps and methods of an object are read as the author sees them."""

    class Shop:
        async def quote(self, sku: str) -> Item:
            return Item(sku)

    def traced(fn: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(fn)
        async def run(*args: Any, **kwargs: Any) -> Any:
            return await fn(*args, **kwargs)

        return run

    assert tool(Shop().quote).input_schema["required"] == ["sku"]
    wrapped = tool(traced(everything))
    assert wrapped.is_async
    assert wrapped.input_schema == EVERYTHING.input_schema


# ---- what is refused


def _star(*values: int) -> None: ...
def _stars(**values: int) -> None: ...
def _positional(a: int, /) -> None: ...
def _class(a: Arbitrary) -> None: ...
def _nested(a: list[dict[str, Arbitrary]]) -> None: ...
def _callable(a: Callable[[int], int]) -> None: ...
def _returns(a: int) -> Arbitrary: ...  # type: ignore[empty-body]
def _untagged(a: Item | Node) -> None: ...
def _complex(a: complex) -> None: ...
def _keys(a: list[dict[Item, int]]) -> None: ...
def _custom(a: Annotated[Arbitrary, msgspec.Meta(extra_json_schema={"type": "object"})]) -> None: ...
def _iterator(a: Iterator[int]) -> None: ...
def _method(self, a: int) -> None: ...  # type: ignore[no-untyped-def]
def _generator(a: int) -> Iterator[int]:
    yield a


@pytest.mark.parametrize(
    ("fn", "code", "path", "words"),
    [
        (_star, "bad_signature", "*values", "*values"),
        (_stars, "bad_signature", "**values", "**values"),
        (_positional, "bad_signature", "a", "positional-only"),
        (_class, "unsupported_type", "a", "Arbitrary"),
        (_nested, "unsupported_type", "a", "Arbitrary"),
        (_callable, "unsupported_type", "a", "Callable"),
        (_returns, "unsupported_type", "return", "Arbitrary"),
        (_untagged, "unsupported_type", "a", "tag=True"),
        (_complex, "unsupported_type", "a", "complex"),
        (_keys, "unsupported_type", "a", "the keys of a JSON object"),
        (_custom, "unsupported_type", "a", "Arbitrary"),
        (_iterator, "unsupported_type", "a", "Iterator"),
        (_method, "bad_signature", "self", "plain function"),
        (_generator, "bad_function", "", "yields"),
    ],
)
def test_what_cannot_travel_is_refused_at_the_decorator(
    fn: Callable[..., Any], code: str, path: str, words: str
) -> None:
    """The error names the function, the parameter and what is wrong with it."""
    error = refusal(tool, fn)
    assert (error.code, error.path) == (code, path)
    assert fn.__name__ in str(error)
    assert words in str(error)


@pytest.mark.parametrize("fn", [int, print, functools.partial(_class, a=1), 5, Item("x")])
def test_only_functions_are_components(fn: Any) -> None:
    """Classes, built-ins and values are refused as what they are."""
    assert refusal(tool, fn).code == "bad_function"


def test_a_component_is_not_decorated_twice() -> None:
    """Stacked decorators are refused, with the way to do it."""
    error = refusal(job, EVERYTHING)
    assert error.code == "bad_function"
    assert "component.fn" in str(error)


def test_a_job_is_async() -> None:
    """A sync function cannot be a job, since it could await nothing."""

    def order(job: Job) -> None: ...

    assert "async def" in str(refusal(job, order))


# ---- context


def test_the_context_is_no_part_of_the_input() -> None:
    """ToolContext and Job as first parameter are seen by their class and left out of the schema."""

    async def quote(ctx: ToolContext, sku: str) -> None: ...
    async def order(run: Job, sku: str) -> None: ...
    async def plain(sku: str) -> None: ...

    assert (tool(quote).context_param, job(order).context_param, tool(plain).context_param) == ("ctx", "run", None)
    assert list(tool(quote).input_schema["properties"]) == list(job(order).input_schema["properties"]) == ["sku"]


def test_the_context_comes_first() -> None:
    """A context at another place, or twice, is refused and not passed as data."""

    async def late(sku: str, ctx: ToolContext) -> None: ...
    async def twice(ctx: ToolContext, other: ToolContext) -> None: ...

    for fn in (late, twice):
        error = refusal(tool, fn)
        assert error.code == "bad_signature"
        assert "first parameter" in str(error)


def test_a_job_needs_its_context() -> None:
    """A job without a Job could do nothing; the error tells how to write it."""

    async def unannotated(run, sku: str) -> None: ...  # type: ignore[no-untyped-def]
    async def nothing() -> None: ...

    assert "write run: Job" in str(refusal(job, unannotated))
    assert "write job: Job" in str(refusal(job, nothing))


def test_a_tool_cannot_take_a_job() -> None:
    """The error of a mixed-up context says which class belongs where."""

    async def mixed(job: Job) -> None: ...

    assert "that of a job is a Job" in str(refusal(tool, mixed))


# ---- names in annotations


def _write(directory: Path, name: str, source: str) -> None:
    (directory / f"{name}.py").write_text(textwrap.dedent(source))


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_local_classes_resolve_with_postponed_annotations() -> None:
    """A Struct of the enclosing function is found, although its name is only a string in the annotation."""

    class Local(msgspec.Struct):
        a: int

    def take(local: Local, more: list[Local]) -> Local:
        return local

    assert tool(take).decode_input(b'{"local": {"a": 1}, "more": []}')["local"] == Local(1)


def test_names_under_type_checking_resolve(modules: Path) -> None:
    """What a module imports for the type checker only is imported when its components are read."""
    _write(modules, "shapes_cb", "import msgspec\nclass Box(msgspec.Struct):\n    a: int\nclass ToolContext: ...\n")
    _write(
        modules,
        "shop_cb",
        """
        from __future__ import annotations
        import typing
        from typing import TYPE_CHECKING
        from actors.components.app import App
        if TYPE_CHECKING:
            from shapes_cb import Box as Carton, ToolContext
        if typing.TYPE_CHECKING:
            import decimal as d
            import collections.abc
        app = App("shop")
        @app.tool
        def pack(ctx: ToolContext, box: Carton, price: d.Decimal, rest: collections.abc.Sequence[int]) -> Carton: ...
        """,
    )
    pack = load_app("shop_cb:app").find("tool", "pack")
    assert pack is not None
    assert pack.context_param == "ctx"
    decoded = pack.decode_input(b'{"box": {"a": 1}, "price": "1.50", "rest": [1]}')
    assert (decoded["box"].a, decoded["price"]) == (1, Decimal("1.50"))


def test_unknown_names_are_refused_with_their_name(modules: Path) -> None:
    """A class that is defined later, a field type that nobody defined and a failing import each say what is missing."""
    head = "from __future__ import annotations\nimport msgspec\nfrom typing import TYPE_CHECKING\n"
    head += "from actors.components.app import App\n"
    later = "app = App('shop')\n@app.tool\ndef quote() -> Quote: ...\nclass Quote(msgspec.Struct): ...\n"
    field = "app = App('shop')\nclass Q(msgspec.Struct):\n    x: Nope\n@app.tool\ndef quote(q: Q): ...\n"
    broken = "if TYPE_CHECKING:\n    from not_there_cb import Q\napp = App('shop')\n@app.tool\ndef quote(q: Q): ...\n"
    for name, body, word in (
        ("later_cb", later, "`Quote`"),
        ("field_cb", field, "Nope"),
        ("broken_cb", broken, "not_there_cb"),
    ):
        _write(modules, name, head + body)
        with pytest.raises(UsageError, match=word):
            load_app(f"{name}:app")


def test_an_annotation_that_is_no_type_is_refused() -> None:
    """An expression that raises while it is evaluated is reported as such."""

    def odd(a: int) -> None: ...

    odd.__annotations__["a"] = "int | 'x'"
    assert refusal(tool, odd).code == "unresolved_annotation"


# ---- binding


def _quote(ctx: ToolContext, sku: str, qty: int = 1, *, note: str = "") -> None: ...


@pytest.mark.parametrize(
    ("args", "kwargs", "path", "words"),
    [
        ((), {}, "$.sku", "misses the argument `sku`"),
        (("A", 1, "x"), {}, "$", "takes 2 positional (sku, qty), 3 given"),
        (("A",), {"sku": "B"}, "$.sku", "twice"),
        (("A",), {"qyt": 1}, "$.qyt", "did you mean `qty`?"),
        (("A",), {"ctx": 1}, "$.ctx", "from its host"),
        ((1,), {}, "$.sku", "Expected `str`, got `int`"),
        ((b"A",), {}, "$.sku", "Expected `str`, got `bytes`"),
        (("A",), {"note": None}, "$.note", "Expected `str`, got `null`"),
    ],
)
def test_wrong_arguments_are_refused(args: tuple[Any, ...], kwargs: dict[str, Any], path: str, words: str) -> None:
    """A call that the function could not take fails at the caller, with the path of the argument."""
    with pytest.raises(InvalidInput) as caught:
        tool(_quote).bind_input(args, kwargs)
    assert caught.value.path == path
    assert words in str(caught.value)


def test_arguments_that_are_not_given_stay_out() -> None:
    """The wire holds what the caller said; the receiver's defaults fill the rest."""
    quote = tool(_quote)
    assert quote.bind_input(("A",), {}) == b'{"sku":"A"}'
    assert quote.bind_input(("A", msgspec.UNSET), {}) == b'{"sku":"A"}'
    assert quote.decode_input(b'{"sku":"A"}') == {"sku": "A", "qty": 1, "note": ""}


# ---- docstrings


GOOGLE = """Price an article
for a customer.

    More about it.

Args:
    sku: The article,
        over two lines.
    qty (int): How many.

Returns:
    A quote.
"""
NUMPY = """Price an article
for a customer.

Parameters
----------
sku : str
    The article,
    over two lines.
qty : int
    How many.
"""
SPHINX = """Price an article
for a customer.

:param sku: The article,
    over two lines.
:param int qty: How many.
:returns: A quote.
"""


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX])
def test_docstring_styles(text: str) -> None:
    """All three styles give the same description and the same text per parameter."""
    doc = read_docstring(text)
    assert doc.description == "Price an article for a customer."
    assert doc.parameters == {"sku": "The article, over two lines.", "qty": "How many."}


@pytest.mark.parametrize("text", [None, "", "  \n ", ":param", "Args:\n", "Args:\n    sku", "---\n---", "a:\n  b:\n c"])
def test_odd_docstrings_do_no_harm(text: str | None) -> None:
    """Text that no style understands is at most a description."""
    assert isinstance(read_docstring(text).description, str)


@given(st.text())
def test_any_docstring_can_be_read(text: str) -> None:
    """No docstring makes a declaration fail."""
    read_docstring(text)


def test_docstring_reaches_the_schema() -> None:
    """Descriptions of parameters land at their properties; one in the type itself wins."""

    def quote(ctx: ToolContext, sku: str, qty: Annotated[int, msgspec.Meta(description="Pieces.")], at: Item) -> None:
        """Price it.

        Args:
            ctx: Not for callers.
            sku: The article.
            qty: How many.
            at: Where.
        """

    properties = tool(quote).input_schema["properties"]
    assert properties["sku"] == {"type": "string", "description": "The article."}
    assert properties["qty"]["description"] == "Pieces."
    assert properties["at"] == {"$ref": "#/$defs/Item", "description": "Where."}
    assert "ctx" not in properties
    assert tool(quote).description == "Price it."


# ---- schema


def test_fields_are_found_along_a_path() -> None:
    """References, unions, lists, tuples and dicts are followed to the object that has the fields."""
    schema = EVERYTHING.input_schema
    assert fields_at(schema, "$.item") == ["sku", "qty"]
    assert fields_at(schema, "$.by_number[...][0]") == ["sku", "qty"]
    assert fields_at(schema, "$.node.children[3].children[0]") == ["value", "children"]
    assert set(fields_at(schema, "$.pet")) >= {"lives", "name"}
    assert fields_at(schema, "$.count.what[2]") == []


def test_digest_ignores_prose_and_order_only() -> None:
    """Another wording or order is the same contract; another type, default or field is not."""
    base = {
        "type": "object",
        "properties": {"description": {"type": "string", "description": "a"}},
        "required": ["b", "a"],
    }
    reworded = {
        "required": ["a", "b"],
        "properties": {"description": {"type": "string"}},
        "type": "object",
        "title": "T",
    }
    other = {"type": "object", "properties": {"description": {"type": "integer"}}, "required": ["b", "a"]}
    fewer = {"type": "object", "properties": {}, "required": ["b", "a"]}
    assert digest("n", "1.0.0", base) == digest("n", "1.0.0", reworded)
    assert len({digest("n", "1.0.0", s) for s in (base, other, fewer)}) == 3
    assert digest("n", "1.0.0", base) != digest("n", "1.0.1", base)
