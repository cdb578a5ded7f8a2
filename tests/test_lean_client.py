"""Our header parser against the library's: the same headers from the same bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

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
