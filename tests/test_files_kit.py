"""The tools for files: nothing outside of the root is read or written, whatever the path and whoever moves folders."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actors.components.app import App
from actors.toolbox import Files
from actors.toolbox.files.confined import open_file
from actors.toolbox.files.kit import _excerpt
from actors.toolbox.files.listing import content, entries
from actors.toolbox.files.writing import write_whole
from actors.tools.run_here import HeldBlobs, run_here
from bus.errors import PeerError, UsageError
from bus.failure import TerminalError

SECRET = b"a secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with files, links inside and links out, and a secret beside it."""
    (tmp_path / "secret.txt").write_bytes(SECRET)
    root = tmp_path / "root"
    (root / "notes" / "deep").mkdir(parents=True)
    (root / "notes" / "plan.md").write_text("one\nTwo\nthree\n")
    (root / "notes" / "deep" / "data.bin").write_bytes(b"\0\1")
    (root / "latin.txt").write_bytes("é".encode("latin-1"))
    (root / "inner").symlink_to("notes/deep/../plan.md")
    (root / "folder").symlink_to("notes")
    (root / "out").symlink_to("../secret.txt")
    (root / "absolute").symlink_to(tmp_path / "secret.txt")
    (root / "up").symlink_to("..")
    (root / "circle").symlink_to("circle")
    os.mkfifo(root / "pipe")
    return root


def _tools(kit: Files) -> dict[str, Any]:
    return {tool.name: tool for tool in App("desk", version="1.0.0").use(kit).tools}


async def _call(kit: Files, name: str, **body: Any) -> Any:
    return msgspec.json.decode(await run_here(_tools(kit)[name], msgspec.json.encode(body), HeldBlobs()))


async def test_reading(root: Path) -> None:
    """Lines as asked for; what is no text comes as an artifact; a link inside is followed."""
    kit = Files(root)
    whole = await _call(kit, "read_file", path="notes/plan.md")
    assert whole == {"path": "notes/plan.md", "size_bytes": 14, "text": "one\nTwo\nthree\n", "first_line": 1,
                     "last_line": 3, "lines": 3}  # fmt: skip
    assert (await _call(kit, "read_file", path="inner", first_line=2, last_line=2))["text"] == "Two\n"
    assert (await _call(kit, "read_file", path="folder/../notes//./plan.md", first_line=9)).get("text", "") == ""
    for path, name in (("notes/deep/data.bin", "data.bin"), ("latin.txt", "latin.txt")):
        read = await _call(kit, "read_file", path=path)
        assert read["file"]["name"] == name and "text" not in read
    with pytest.raises(PeerError, match="14 bytes are more than 10"):
        await _call(Files(root, size_limit_bytes=10), "read_file", path="notes/plan.md")


async def test_listing_and_searching(root: Path) -> None:
    """All that is there with links as links; lines that hold a text, in files that fit; links are not followed."""
    kit = Files(root, name="docs")
    assert set(_tools(kit)) == {"docs-read_file", "docs-list_files", "docs-search_files"}
    listed = (await _call(kit, "docs-list_files"))["entries"]
    assert {entry["path"]: entry["kind"] for entry in listed} == {
        "absolute": "link", "circle": "link", "folder": "link", "inner": "link", "latin.txt": "file", "notes": "folder",
        "notes/deep": "folder", "notes/deep/data.bin": "file", "notes/plan.md": "file", "out": "link", "pipe": "file",
        "up": "link"}  # fmt: skip
    below = await _call(kit, "docs-list_files", folder="folder/deep", pattern="*.bin")
    assert below == {"entries": [{"path": "folder/deep/data.bin", "kind": "file", "size_bytes": 2}]}
    assert await _call(kit, "docs-search_files", text="TWO") == {
        "matches": [{"path": "notes/plan.md", "line": 2, "text": "Two"}]}  # fmt: skip
    assert await _call(kit, "docs-search_files", text="two", pattern="*.txt") == {"matches": []}
    assert await _call(kit, "docs-search_files", text="secret") == {"matches": []}
    with pytest.raises(PeerError, match="the text is empty"):
        await _call(kit, "docs-search_files", text="")


@pytest.mark.parametrize(
    ("path", "reason"),
    [("../secret.txt", "leads out of the root"), ("/etc/passwd", "give a path below the root"),
     ("out", "leads out"), ("absolute", "leads out"), ("up/secret.txt", "leads out"), ("circle", "in a circle"),
     ("notes/../../secret.txt", "leads out"), ("folder/../../secret.txt", "leads out"), ("notes", "is a folder"),
     (".", "is a folder"), ("", "is a folder"), ("nothing", "does not exist"), ("pipe", "is not a plain file"),
     ("notes/plan.md/x", "should be a folder"), ("a\0b", "give a path"), ("n" * 300, "not a path that can be")],
)  # fmt: skip
def test_paths_that_are_refused(root: Path, path: str, reason: str) -> None:
    """The error says what would be right, for a model to mend."""
    with pytest.raises(TerminalError, match=reason), open_file(root, path):
        pass


PARTS = st.lists(st.sampled_from(["a", "b", "c", "..", ".", "", "root"]), min_size=1, max_size=6).map("/".join)


@settings(max_examples=60)
@given(links=st.dictionaries(st.sampled_from(["a", "b", "a/c", "b/a"]), PARTS, max_size=4), path=PARTS)
def test_nothing_leads_out(links: dict[str, str], path: str) -> None:
    """Whatever links there are, a file that can be read lies below the root, and is the one that the path names."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        for name in ("a", "b"):
            (root / name).mkdir(parents=True)
        for place in (root / "a" / "a", root / "b" / "b", root / "c", Path(folder) / "a", Path(folder) / "c"):
            if not place.exists():
                place.write_text(str(place))
        for name, target in links.items():
            if not (root / name).exists() and target:
                (root / name).symlink_to(target)
        try:
            data, _ = content(root, path, 1000)
        except TerminalError:
            return
        real = (root / path).resolve()
        assert real.is_relative_to(root.resolve()) and data == real.read_bytes()


def test_a_folder_that_is_swapped_for_a_link(root: Path) -> None:
    """While somebody swaps folders for links to the outside and back, the outside is never read or written."""
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "plan.md").write_bytes(SECRET)
    (root / "kept").mkdir()
    (root / "place").symlink_to("kept")
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            (root / "notes").rename(root / "aside")
            (root / "notes").symlink_to("../outside")
            (root / "notes").unlink()
            (root / "aside").rename(root / "notes")
            for target in ("../outside", "kept"):
                (root / "next").symlink_to(target)
                (root / "next").replace(root / "place")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        got = [_attempt(root) for _ in range(100)]
    finally:
        stop.set()
        thread.join()
    assert SECRET not in got
    assert _attempt(root) == b"one\nTwo\nthree\n"
    assert [path.name for path in outside.iterdir()] == ["plan.md"]


def _attempt(root: Path) -> bytes:
    with contextlib.suppress(TerminalError):
        write_whole(root, "place/new.txt", b"new", overwrite=True)
        assert "outside" not in [entry.path for entry in entries(root, ".", "*")]
        return content(root, "notes/plan.md", 100)[0]
    return b""


async def test_writing(root: Path) -> None:
    """Whole or not at all, never over what is there unless asked, never through a link; and twice is once."""
    kit = Files(root, read_only=False, size_limit_bytes=100)
    writing = [name for name, tool in _tools(kit).items() if not tool.read_only]
    assert writing == ["write_file"] and len(_tools(kit)) == 4
    body = {"path": "made/here/new.txt", "text": "new"}
    assert await _call(kit, "write_file", **body) == {"path": "made/here/new.txt", "size_bytes": 3, "is_new": True}
    assert (await _call(kit, "write_file", **body))["is_new"] is False
    with pytest.raises(PeerError, match="is there already; say overwrite"):
        await _call(kit, "write_file", path="made/here/new.txt", text="other")
    await _call(kit, "write_file", path="made/here/new.txt", text="other", overwrite=True)
    assert (root / "made" / "here" / "new.txt").read_text() == "other"
    assert [path.name for path in (root / "made" / "here").iterdir()] == ["new.txt"]
    for path in ("out", "absolute", "up/secret.txt", "../x", "/x", ".", "made/", "notes"):
        with pytest.raises(PeerError):
            await _call(kit, "write_file", path=path, text="x", overwrite=True)
    assert (root.parent / "secret.txt").read_bytes() == SECRET and len([*root.parent.iterdir()]) == 2
    with pytest.raises(PeerError, match="101 bytes are more than 100"):
        await _call(kit, "write_file", path="large", text="x" * 101)
    with pytest.raises(UsageError, match="needs a folder"):
        Files("")


@given(st.lists(st.text(st.characters(exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=5)),
       st.integers(1, 8), st.integers(0, 8))  # fmt: skip
def test_lines_that_are_shown(texts: list[str], first: int, last: int) -> None:
    """The text is that of the lines named, and the numbers are those of the lines shown."""
    whole = "\n".join(texts)
    shown = _excerpt("x", 0, whole, first, last)
    lines = whole.splitlines(keepends=True)
    assert shown.lines == len(lines)
    assert shown.text == "".join(lines[first - 1 : last or None])
    if shown.text:
        assert "".join(lines[shown.first_line - 1 : shown.last_line]) == shown.text
