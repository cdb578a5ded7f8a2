"""Artifacts: a name and the bytes behind it, kept once, found in any output."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import Artifact, ToolContext
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.objects import Blobs
from bus.options import resolve_options
from store.artifact import artifacts_in, describe


@pytest.mark.parametrize("name", ["", "a/b", "..", "x\n", "a\\b", "n" * 201])
def test_a_name_is_that_of_a_file(name: str) -> None:
    """A path, or nothing, is refused: whoever saves it must not write elsewhere."""
    with pytest.raises(UsageError, match="cannot be named"):
        describe(name, b"")


@given(st.recursive(st.none() | st.integers() | st.text() | st.just(describe("a.txt", b"x")),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))  # fmt: skip
def test_artifacts_are_found_anywhere(value: object) -> None:
    """As many are found in the JSON of a value as were put into it."""
    plain = msgspec.json.decode(msgspec.json.encode(value))
    found = list(artifacts_in(plain))
    assert len(found) == msgspec.json.encode(value).count(b'"artifact":"file"')
    assert set(found) <= {describe("a.txt", b"x")}


async def test_a_tool_keeps_a_file(nats_server: EmbeddedServer) -> None:
    """What a context is given lies in the object store by its digest; without a bus the reference is the same."""
    async with await Bus.connect(resolve_options(nats_server.url, env={}), name="test artifact") as bus:
        blobs = Blobs(bus)
        kept = await ToolContext("w", "j", "c", _blobs=blobs).artifact("plan.png", b"png")
        assert kept == Artifact(
            name="plan.png", media_type="image/png", size_bytes=3, sha256=hashlib.sha256(b"png").hexdigest()
        )
        assert await blobs.get(kept.sha256) == b"png"
    assert await ToolContext("w", "j", "c").artifact("plan.png", b"png") == kept
