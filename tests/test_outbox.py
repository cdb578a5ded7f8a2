"""The outbox's file: what was put in is there after kill -9, within its bounds, whatever state the file is in."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bus.destination import Destination, destination_of
from bus.errors import OutboxError, OutboxFull, UsageError
from bus.holder import HolderLock
from bus.options import ConnectOptions
from bus.outbox import BYTES_VARIABLE, FREE, Counts, Held, Outbox, limit_of
from tests.stage import ROOT
from tests.waiting import wait_until


def message(name: str, *, owner: str = "n1/a", body: bytes = b"{}", **more: object) -> Held:
    """A message with this event id."""
    facts = {"kind": "event", "about": f"w/j/{name}", "subject": "log.w.j.reply.completed", "headers": {"A": "b"}}
    return Held(**{"event_id": name, "owner": owner, "body": body, **facts, **more})  # type: ignore[arg-type]


async def ids(outbox: Outbox) -> list[str]:
    """What it holds, in order."""
    return [held.event_id for held in await outbox.pending()]


async def test_put_get_remove(tmp_path: Path) -> None:
    """What is put in comes out whole, once, in order, by owner and by what it is about; until it is removed."""
    outbox = Outbox(tmp_path / "n1.db")
    assert not outbox.exists()
    where = Destination(("h:1",), "user a")
    big = message("b", body=b"\x00\xff", blob=b"x" * 1000, since=7, destination=where)
    await outbox.put(message("a"))
    await outbox.put(big)
    await outbox.put(message("c", owner="client", kind="request"), free=True)
    await outbox.put(message("a", body=b"another"))
    assert await ids(outbox) == ["a", "b", "c"]
    assert [held.event_id for held in await outbox.pending("client")] == ["c"]
    assert [held.event_id for held in await outbox.about("w/j/b")] == ["b"]
    whole = await outbox.get("b")
    assert whole and (whole.body, whole.blob, whole.since, whole.destination) == (b"\x00\xff", b"x" * 1000, 7, where)
    assert whole.headers == {"A": "b"} and whole.holder == outbox.token and whole.stored_at > 0
    first = await outbox.get("a")
    assert first and first.body == b"{}" and await outbox.get("none") is None
    await outbox.note("a", "refused")
    assert [held.trouble for held in await outbox.pending()] == ["refused", "", ""]
    assert await outbox.remove(["a", "b", "none"]) == 2
    assert await ids(outbox) == ["c"]
    assert (tmp_path / "n1.db").stat().st_mode & 0o077 == 0, "inputs and outputs are nobody else's"
    await outbox.close()


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.tuples(st.booleans(), st.sampled_from("abcdefgh"), st.integers(0, 900)), max_size=25),
    messages=st.integers(0, 6), size_bytes=st.integers(0, 3000),
)  # fmt: skip
def test_bounds(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[bool, str, int]], messages: int,
                size_bytes: int) -> None:  # fmt: skip
    """Whatever is put in and removed: the counts are right, the bounds hold, and nothing is refused without need."""

    async def check() -> None:
        outbox = Outbox(tmp_path_factory.mktemp("o") / "n.db", limit_bytes=size_bytes, limit_messages=messages)
        model: dict[str, int] = {}
        for is_put, name, length in steps:
            if is_put:
                await _put_both(outbox, model, message(name, body=b"x" * length))
            else:
                assert await outbox.remove([name]) == (1 if model.pop(name, None) else 0)
            counts = await outbox.counts()
            assert (counts.messages, counts.size_bytes) == (len(model), sum(model.values()))
            assert counts.messages <= messages and counts.size_bytes <= size_bytes
        assert await ids(outbox) == list(model)
        await outbox.close()

    async def _put_both(outbox: Outbox, model: dict[str, int], held: Held) -> None:
        full = False
        try:
            await outbox.put(held)
        except OutboxFull:
            full = True
        size = next((h.size_bytes for h in await outbox.pending() if h.event_id == held.event_id), 0)
        if held.event_id in model:
            assert not full and size == model[held.event_id]
        elif full:
            needed = 200 + len(held.body) + len(held.subject) + len(b'{"A":"b"}')
            assert len(model) == messages or sum(model.values()) + needed > size_bytes
        else:
            model[held.event_id] = size

    asyncio.run(check())


async def test_full_says_what_and_where(tmp_path: Path) -> None:
    """The error names the file, what had no room, the limits, and what to do."""
    outbox = Outbox(tmp_path / "n1.db", limit_bytes=500)
    await outbox.put(message("a"))
    with pytest.raises(OutboxFull) as caught:
        await outbox.put(message("b", body=b"x" * 400))
    said = str(caught.value)
    assert all(part in said for part in (str(outbox.path), "w/j/b", "500 bytes", "callboard outbox list"))
    await outbox.remove(["a"])
    await outbox.put(message("c"))
    assert await ids(outbox) == ["c"]
    await outbox.close()


def test_limit_of_the_environment() -> None:
    """The variable counts in bytes; what is no number is refused by its name."""
    assert limit_of({}) == 64 * 1024 * 1024
    assert limit_of({BYTES_VARIABLE: "1000"}) == 1000
    with pytest.raises(UsageError, match=BYTES_VARIABLE):
        limit_of({BYTES_VARIABLE: "64 MB"})


# ---- damage and full disks


@pytest.mark.parametrize(
    "damage", [b"this is no database, it is a text that somebody has written here" * 100, b"\0" * 9000]
)
async def test_damaged_file(tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """It is moved aside under a name that the log says, and a new one takes what comes."""
    path = tmp_path / "n1.db"
    path.write_bytes(damage)
    outbox = Outbox(path)
    await outbox.put(message("a"))
    assert await ids(outbox) == ["a"]
    [aside] = tmp_path.glob("n1.db.damaged-*")
    assert aside.read_bytes() == damage and str(aside) in caplog.text
    await outbox.close()


async def test_damage_while_it_is_open(tmp_path: Path) -> None:
    """Two processes have it open when it is damaged: one file is moved aside, and both go on with the same new one."""
    path = tmp_path / "n1.db"
    one, other = Outbox(path), Outbox(path)
    for n in range(50):
        await one.put(message(f"{n}", body=b"x" * 1000))
    assert len(await ids(other)) == 50
    await one.close()
    await other.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\x99" * 40_000)
    await asyncio.gather(one.put(message("a")), other.put(message("b")))
    assert sorted(await ids(one)) == sorted(await ids(other)) == ["a", "b"]
    assert len(list(tmp_path.glob("n1.db.damaged-*[0-9]"))) == 1
    await one.close()
    await other.close()


async def test_deleted_file(tmp_path: Path) -> None:
    """Somebody deletes the file under a process: the next message begins a new one, instead of going nowhere."""
    outbox = Outbox(tmp_path / "n1.db")
    await outbox.put(message("a"))
    for file in tmp_path.glob("n1.db*"):
        file.unlink()
    await outbox.put(message("b"))
    other = Outbox(tmp_path / "n1.db")
    assert await ids(other) == ["b"]
    await outbox.close()
    await other.close()


async def test_full_disk(tmp_path: Path) -> None:
    """SQLite finds no room: that is an OutboxFull which says so; what is in it stays, and later there is room."""
    outbox = Outbox(tmp_path / "n1.db")
    await outbox.put(message("a"))
    await outbox._file.run("PRAGMA max_page_count=12")
    with pytest.raises(OutboxFull, match="disk is full"):
        await outbox.put(message("b", body=b"x" * 100_000))
    await outbox.put(message("b", body=b"x" * 100_000))
    assert await ids(outbox) == ["a", "b"]
    await outbox.close()


async def test_place_that_cannot_be_written(tmp_path: Path) -> None:
    """A file stands where the folder should be: an OutboxError names the place and the variable."""
    (tmp_path / "outbox").write_text("in the way")
    with pytest.raises(OutboxError, match="CALLBOARD_DATA_DIR"):
        await Outbox(tmp_path / "outbox" / "n1.db").put(message("a"))


async def test_newer_file(tmp_path: Path) -> None:
    """A file of a later version is left alone, and said so."""
    path = tmp_path / "n1.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(OutboxError, match="newer Callboard"):
        await Outbox(path).put(message("a"))
    assert not list(tmp_path.glob("*.damaged-*"))


# ---- several processes

WRITER = """
import asyncio, sys
from pathlib import Path
from bus.outbox import Held, Outbox

async def main(path, name, count):
    outbox = Outbox(Path(path))
    for n in range(int(count)):
        await outbox.put(Held(event_id=f"{name}-{n}", owner=name, kind="event", about="w/j/c", subject="s",
                              headers={}, body=b"x" * 100))
        print(n, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


def writer(path: Path, name: str, count: int) -> subprocess.Popen[str]:
    """A process that puts messages in, says each, and then holds them."""
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path), name, str(count)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE)  # fmt: skip


def _kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    if process.stdout:
        process.stdout.close()


async def test_processes_write_at_once_and_die(tmp_path: Path) -> None:
    """Four processes make the file and fill it at once, and are killed: all that they were told is in, is in."""
    path, said = tmp_path / "n1.db", 0
    writers = [writer(path, f"w{n}", 10_000) for n in range(4)]
    try:
        for process in writers:
            assert process.stdout
            for _ in range(30):
                said += bool(await asyncio.to_thread(process.stdout.readline))
            process.send_signal(signal.SIGKILL)
    finally:
        for process in writers:
            _kill(process)
    outbox = Outbox(path)
    held = await ids(outbox)
    assert said == 120 and {f"w{w}-{n}" for w in range(4) for n in range(30)} <= set(held)
    assert (await outbox.counts()).messages == len(held)
    assert not list(tmp_path.glob("*.damaged-*"))
    await outbox.close()


async def test_holder_lives_and_dies(tmp_path: Path) -> None:
    """What a living process holds nobody can claim; when it is killed, one can, and no second at the same time."""
    path = tmp_path / "n1.db"
    process = writer(path, "w", 1)
    outbox = Outbox(path)
    try:
        assert process.stdout and await asyncio.to_thread(process.stdout.readline)
        [held] = await outbox.pending()
        assert outbox.claim(held.holder) is None
    finally:
        _kill(process)
    lock = outbox.claim(held.holder)
    assert lock and outbox.claim(held.holder) is None and Outbox(path).claim(held.holder) is None
    lock.release(remove=False)
    again = outbox.claim(held.holder)
    assert again
    again.release(remove=True)
    assert not list((tmp_path / "holders").iterdir())
    await outbox.close()


async def test_own_messages_and_free_ones(tmp_path: Path) -> None:
    """A process cannot claim its own; what is free, and what it leaves when it closes, anybody can."""
    outbox, other = Outbox(tmp_path / "n1.db"), Outbox(tmp_path / "n1.db")
    await outbox.put(message("a"))
    await outbox.put(message("b"), free=True)
    assert {held.holder for held in await other.pending()} == {outbox.token, FREE}
    assert outbox.claim(outbox.token) is None and other.claim(outbox.token) is None
    free = other.claim(FREE)
    assert free
    free.release(remove=False)
    await outbox.close()
    left = other.claim(outbox.token)
    assert left
    left.release(remove=True)
    await other.close()


def _outlive(path: str) -> None:
    os.kill(os.getppid(), 0)
    Path(path).touch()
    signal.pause()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")  # that a fork is bad for it is the point
async def test_forked_child_keeps_no_lock(tmp_path: Path) -> None:
    """A tool that forks leaves a child behind: the messages of the dead tool are free all the same."""
    lock = HolderLock.take(tmp_path / "holder")
    assert lock
    child = multiprocessing.get_context("fork").Process(target=_outlive, args=(str(tmp_path / "up"),))
    child.start()
    try:
        await wait_until((tmp_path / "up").exists)
        lock.forget()  # what the kernel does for a process that dies
        again = HolderLock.take(tmp_path / "holder")
        assert again
        again.release(remove=True)
    finally:
        child.kill()
        child.join()


# ---- where to


def test_destinations() -> None:
    """One server in common and the same user: only then a message for one may go to the other."""

    def to(*servers: str, **fields: str) -> Destination:
        return destination_of(ConnectOptions(servers=list(servers), **fields))  # type: ignore[arg-type]

    local = to("nats://127.0.0.1:4222")
    assert local.reaches(to("nats://localhost"))
    assert to("nats://a:1", "nats://b:1").reaches(to("tls://B:1", context="prod"))
    assert not local.reaches(to("nats://localhost:4223"))
    assert not local.reaches(to("nats://localhost", user="ann", password="secret"))
    assert not local.reaches(to("nats://localhost", jetstream_domain="hub"))
    assert not local.reaches(Destination())
    assert "secret" not in str(to("nats://h", user="ann", password="secret"))
    assert str(to("nats://h:1", user="ann", context="prod")) == "h:1 as user ann (context prod)"


async def test_counts_of_an_empty_outbox(tmp_path: Path) -> None:
    """Nothing is nothing, not an error."""
    outbox = Outbox(tmp_path / "n1.db")
    assert await outbox.counts() == Counts(0, 0, 0.0)
    await outbox.close()
