"""Our header parser against the library's: the same headers from the same bytes."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client
from nats.errors import BadHeaderError

from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.lean_client import LeanClient, parse_header_lines
from bus.options import ConnectOptions

_LINES = st.one_of(
    st.text(max_size=30).map(lambda text: text.encode(errors="replace")),
    st.binary(max_size=30),
    st.tuples(
        st.sampled_from(["Nats-Sequence", "Event-Id", " X", "X ", "a b", "", "Ä", "t\tab"]), st.text(max_size=20)
    ).map(lambda pair: f"{pair[0]}: {pair[1]}".encode(errors="replace")),
)


@given(st.lists(_LINES, max_size=8))
def test_same_headers_as_the_library(lines: list[bytes]) -> None:
    """Whatever comes, both parsers say the same."""
    raw = b"\r\n".join(lines)
    assert parse_header_lines(raw) == Client._parse_header_lines(raw)


_KEYS = st.sampled_from(["Nats-Msg-Id", "Job-Id", "a b", " X", "X ", "", "Ä", "x:y"]) | st.text(max_size=5)
_VALUES = st.sampled_from(["1", "", " x", "x ", "a\r\nB: c", "ü"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=10
)


class _Library(Client):
    """The library's client as far as it makes the bytes of a publish."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[bytes] = []

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        self.sent.append(cmd)


class _Ended:
    """A flusher that runs."""

    def done(self) -> bool:
        return False


async def _sent_by_library(payload: bytes, headers: dict[str, str] | None) -> bytes | None:
    library = _Library()
    try:
        await library._send_publish("s.t", "r", payload, len(payload), headers)
    except BadHeaderError:
        return None
    return library.sent[0]


@given(st.binary(max_size=20), st.none() | st.dictionaries(_KEYS, _VALUES, min_size=1, max_size=4))
def test_same_bytes_as_the_library(payload: bytes, headers: dict[str, str] | None) -> None:
    """What the quick way sends is what the library would send; what it does not send is left to the library."""

    async def both() -> tuple[bool, list[bytes], bytes | None]:
        lean = LeanClient()
        lean._status, lean._flush_queue, lean._flusher_task = Client.CONNECTED, asyncio.Queue(), _Ended()
        lean._pending_data_size, lean._pending, lean.stats = 0, [], {"out_msgs": 0, "out_bytes": 0}
        return lean.publish_now("s.t", payload, "r", headers), lean._pending, await _sent_by_library(payload, headers)

    sent, pending, expected = asyncio.run(both())
    assert pending == ([expected] if sent else [])
    if headers is None or headers == {"Job-Id": "1"}:
        assert sent


async def test_the_quick_way_is_taken(server: EmbeddedServer) -> None:
    """A connected client sends at once, and what it sends arrives in order with what goes the library's way."""
    got: list[bytes] = []
    async with await Bus.connect(ConnectOptions(servers=[server.url]), name="test") as bus:
        await bus.subscribe("lean.quick", lambda m: got.append(m.data))
        for number in range(100):
            strange = {"a": "b "} if number % 3 else {"a": "b"}
            assert bus.client.publish_now("lean.quick", b"%d" % number, "", strange) == (number % 3 == 0)
            if number % 3:
                await bus.publish("lean.quick", b"%d" % number, headers=strange)
        await bus.client.flush(5)
    assert got == [b"%d" % number for number in range(100)]


def test_the_client_uses_it() -> None:
    """The method that is replaced is the one that the library calls."""
    assert LeanClient._parse_header_lines is parse_header_lines
    assert callable(Client._parse_header_lines)


async def test_flush_is_a_barrier(server: EmbeddedServer) -> None:
    """What was published before a flush has reached the server when it returns, each time."""
    got: list[bytes] = []
    async with await Bus.connect(ConnectOptions(servers=[server.url]), name="test") as bus:
        await bus.subscribe("lean.barrier", lambda m: got.append(m.data))
        await bus.settle()
        for number in range(200):
            await bus.publish("lean.barrier", b"%d" % number)
            await bus.client.flush(5)
            # The PONG follows the message on the same connection, so it is here already.
            assert got[-1] == b"%d" % number


async def test_a_flush_heeds_its_cancellation(server: EmbeddedServer) -> None:
    """Cancelled at any point a flush raises, and the connection goes on; the library drops some of these."""
    async with await Bus.connect(ConnectOptions(servers=[server.url]), name="test") as bus:
        for steps in range(12):
            flushing = asyncio.create_task(bus.client.flush(5))
            for _ in range(steps):
                await asyncio.sleep(0)
            if flushing.cancel():
                await asyncio.wait({flushing}, timeout=30)
                assert flushing.cancelled(), steps
        await bus.settle()


async def test_an_answer_that_comes_too_late_ends_nothing(server: EmbeddedServer) -> None:
    """A flush that was given up is answered all the same; the library's reader ends with that, ours goes on."""
    got: list[bytes] = []
    async with await Bus.connect(ConnectOptions(servers=[server.url]), name="test") as bus:
        await bus.subscribe("lean.late", lambda m: got.append(m.data))
        given_up = asyncio.get_running_loop().create_future()
        given_up.cancel()
        await bus.client._send_ping(given_up)
        await bus.settle()
        await bus.publish("lean.late", b"1")
        await bus.settle()
    assert got == [b"1"]
