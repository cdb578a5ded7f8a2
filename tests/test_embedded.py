"""The embedded server: it comes up, comes back on the same store and port, and never outlives its owner."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.js.errors import APIError

from bus import embedded
from bus.embedded import EmbeddedServer, PortTaken, ServerFailed, StoreLocked, read_state
from bus.errors import ServerUnsuitable, UsageError
from bus.info import read_info
from bus.local_server import Adopted, local_server
from bus.paths import data_dir, nats_config_dir
from bus.server_keeper import LONGEST_WAIT_S, STEADY_S, kept, next_wait_s
from tests.waiting import wait_until

OWNER = """
import asyncio, sys
from pathlib import Path
from bus.embedded import EmbeddedServer

async def main():
    server = await EmbeddedServer.start(store_dir=Path(sys.argv[1]) if len(sys.argv) > 1 else None)
    print(server.pid, server._leash.pid, server.store_dir, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


class Owner:
    """A Python process that owns a server, to be killed."""

    def __init__(self, *argv: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-c", OWNER, *argv], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        with self.process.stdout as said:
            server, leash, store = said.readline().split()
        self.server, self.leash, self.store = psutil.Process(int(server)), psutil.Process(int(leash)), Path(store)


@pytest.fixture
def owner() -> Iterator[Owner]:
    """An owner of a server with a temporary store; nothing of it is left after the test."""
    made = Owner()
    yield made
    for process in (made.process, made.leash, made.server):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    made.process.wait()
    shutil.rmtree(made.store, ignore_errors=True)  # where the leash was killed nobody else does it


@pytest.fixture
async def stranger() -> AsyncIterator[int]:
    """The port of a program that is no NATS server and greets in its own way."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.org ESMTP\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    listener = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]


def _gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def _publish(server: EmbeddedServer, subject: str, body: bytes) -> int:
    client = await nats.connect(server.url)
    async with client:
        return (await client.jetstream().publish(subject, body)).seq


# ---- life


async def test_starts_ready_and_leaves_nothing(tmp_path: Path) -> None:
    """A started server takes JetStream requests at once; after stop its process and temporary store are gone."""
    server = await EmbeddedServer.start()
    process = psutil.Process(server.pid)
    async with server, await nats.connect(server.url) as client:
        assert (await client.jetstream().account_info()).api is not None
        assert server.alive
        assert server.log_path.is_file()
    assert _gone(process)
    assert not server.store_dir.exists()
    await server.stop()  # a second time is harmless


async def test_two_servers_at_once_have_ports_of_their_own() -> None:
    """Free ports are chosen by the kernel, so any number of servers run side by side."""
    async with await EmbeddedServer.start() as one, await EmbeddedServer.start() as other:
        assert one.port != other.port
        assert one.store_dir != other.store_dir


async def test_restart_after_kill_keeps_store_and_port(nats_server: EmbeddedServer) -> None:
    """A message that was acknowledged before kill -9 is there after the restart, at the same address."""
    async with await nats.connect(nats_server.url) as client:
        await client.jetstream().add_stream(name="KEEP", subjects=["keep.>"])
        await client.jetstream().publish("keep.1", b"one")
    url, pid = nats_server.url, nats_server.pid
    nats_server.kill()
    assert await nats_server.wait() == 128 + signal.SIGKILL
    assert not nats_server.alive
    await nats_server.restart()
    assert nats_server.url == url
    assert nats_server.pid != pid
    assert await _publish(nats_server, "keep.2", b"two") == 2


async def test_restart_of_a_running_server(nats_server: EmbeddedServer) -> None:
    """Restart stops a live server in order first: the old process is gone, and the new one answers."""
    old = psutil.Process(nats_server.pid)
    await nats_server.restart()
    assert _gone(old)
    assert await read_info("127.0.0.1", nats_server.port) is not None


async def test_a_client_follows_a_restart(nats_server: EmbeddedServer) -> None:
    """A client that keeps trying is connected again after kill and restart."""

    async def ignore(_: Exception) -> None:
        pass

    client = await nats.connect(nats_server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05, error_cb=ignore)
    nats_server.kill()
    await nats_server.restart()
    await wait_until(lambda: client.is_connected)
    await client.flush()
    await client.close()


async def test_a_kept_server_comes_back(tmp_path: Path) -> None:
    """It is started again each time that it ends, after what was wrong is mended too, and stopped at the end."""
    told: list[str] = []
    server = await EmbeddedServer.start(store_dir=tmp_path)
    async with kept(server, told.append):
        server.kill()
        await wait_until(lambda: len(told) == 2, 60)
        config, server._config = server._config, "nonsense {"
        server.kill()
        await wait_until(lambda: any("ended while starting" in words for words in told), 60)
        server._config = config
        await wait_until(lambda: "started again)" in told[-1], 60)
        assert await read_info(server.host, server.port) is not None
    assert not server.alive and (tmp_path / "jetstream").is_dir()


@given(st.lists(st.floats(0, 100), min_size=1))
def test_a_server_that_keeps_ending_is_given_time(ran_s: list[float]) -> None:
    """Waits grow up to a limit while it ends soon, and one that ran steadily is started at once."""
    waited_s = 0.0
    for each_s in ran_s:
        last_s, waited_s = waited_s, next_wait_s(waited_s, each_s)
        assert (
            waited_s == 0 if each_s >= STEADY_S else last_s < waited_s <= LONGEST_WAIT_S or waited_s == LONGEST_WAIT_S
        )


async def test_works_across_event_loops(tmp_path: Path) -> None:
    """A server started in one event loop, in a thread that has ended, is used and stopped in another."""
    server = await asyncio.to_thread(lambda: asyncio.run(EmbeddedServer.start()))
    assert await read_info("127.0.0.1", server.port) is not None
    await server.restart()
    await asyncio.to_thread(lambda: asyncio.run(server.stop()))
    assert not server.alive


async def test_stops_a_server_that_hangs(nats_server: EmbeddedServer) -> None:
    """A process stopped by SIGSTOP is woken to shut down, so stop does not have to wait for force."""
    process = psutil.Process(nats_server.pid)
    process.suspend()
    await nats_server.stop()
    assert _gone(process)


# ---- configuration


async def test_full_disk_is_simulated_by_a_limit() -> None:
    """Extra configuration merges with ours: a small store refuses more with a JetStream error, and stays up."""
    async with (
        await EmbeddedServer.start(config="jetstream { max_file_store: 1MB }") as server,
        await nats.connect(server.url) as client,
    ):
        js = client.jetstream()
        await js.add_stream(name="FULL", subjects=["full.>"])
        with pytest.raises(APIError) as caught:
            for n in range(20):
                await js.publish(f"full.{n}", bytes(200_000))
        assert caught.value.err_code in (10047, 10077, 10023)
        assert server.alive


async def test_without_jetstream() -> None:
    """A server can be started without JetStream, as bad ground for others to stand on."""
    async with await EmbeddedServer.start(jetstream=False) as server:
        info = await read_info("127.0.0.1", server.port)
        assert info is not None
        assert not info.jetstream


async def test_bad_configuration_is_quoted_from_the_log(tmp_path: Path) -> None:
    """A server that refuses its configuration makes start fail with the server's own words."""
    with pytest.raises(ServerFailed, match="no_such_setting"):
        await EmbeddedServer.start(store_dir=tmp_path, config="no_such_setting { x: 1 }")


async def test_a_taken_port_fails_at_start(nats_server: EmbeddedServer) -> None:
    """Start on a port in use says so, instead of waiting for it."""
    with pytest.raises(PortTaken, match="address already in use"):
        await EmbeddedServer.start(port=nats_server.port)


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.02, 0.03, 0.04, 0.06])
async def test_cancelled_start_leaves_nothing(tmp_path: Path, after_s: float) -> None:
    """A start that is cancelled, at whatever moment, leaves neither server nor lock behind."""
    before = set(psutil.Process().children(recursive=True))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(after_s):
            await (await EmbeddedServer.start(store_dir=tmp_path)).stop()
    async with await EmbeddedServer.start(store_dir=tmp_path):
        pass
    assert not [
        child for child in psutil.Process().children(recursive=True) if child not in before and not _gone(child)
    ]


async def test_two_servers_cannot_share_a_store(tmp_path: Path) -> None:
    """The second server on one store is refused with the address and pid of the first; later the store is free."""
    async with await EmbeddedServer.start(store_dir=tmp_path) as server:
        with pytest.raises(StoreLocked, match=f"{server.url}.*pid {server.pid}"):
            await EmbeddedServer.start(store_dir=tmp_path)
        assert await read_info("127.0.0.1", server.port) is not None
    async with await EmbeddedServer.start(store_dir=tmp_path):
        pass
    assert tmp_path.exists()  # a store that was given is never removed


async def test_a_store_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    """A keeper that fails before it starts the server makes start fail with its last words."""
    (tmp_path / "server.lock").mkdir()
    with pytest.raises(ServerFailed, match=r"(?s)keeper exited with 1.*server\.lock"):
        await EmbeddedServer.start(store_dir=tmp_path)


async def test_missing_binary_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a nats-server the error says what to install."""
    monkeypatch.setattr(embedded.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(embedded.sysconfig, "get_path", lambda _: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"pip install 'callboard\[embedded\]'"):
        await EmbeddedServer.start()


# ---- no orphans


async def test_owner_killed_server_goes_with_its_store(owner: Owner) -> None:
    """kill -9 of the owner ends server and leash, and removes the temporary store."""
    owner.process.kill()
    await wait_until(lambda: _gone(owner.server) and _gone(owner.leash))
    await wait_until(lambda: not owner.store.exists())


async def test_owner_killed_given_store_stays(tmp_path: Path) -> None:
    """kill -9 of the owner ends the server in order and leaves a store that was given, ready for the next."""
    owner = Owner(str(tmp_path))
    owner.process.kill()
    owner.process.wait()
    await wait_until(lambda: _gone(owner.server) and _gone(owner.leash))
    assert "Server Exiting" in (tmp_path / "nats-server.log").read_text()
    async with await EmbeddedServer.start(store_dir=tmp_path):
        pass


# Only Linux kills a child with its parent; elsewhere the owner alone stands against an orphan.
@pytest.mark.parametrize("order", ["leash", "leash, owner", "owner, leash"] if sys.platform == "linux" else ["owner"])
async def test_leash_killed_server_goes(owner: Owner, order: str) -> None:
    """kill -9 of the leash, alone or together with the owner, leaves no server behind."""
    pids = {"leash": owner.leash.pid, "owner": owner.process.pid}
    for name in order.split(", "):
        os.kill(pids[name], signal.SIGKILL)
    await wait_until(lambda: _gone(owner.server))


async def test_terminal_signals_do_not_reach_the_server(owner: Owner) -> None:
    """Server and leash are in a session of their own, so Ctrl-C reaches the owner alone, who stops them last."""
    assert os.getsid(owner.server.pid) == os.getsid(owner.leash.pid) == owner.leash.pid
    owner.process.send_signal(signal.SIGINT)
    owner.process.wait()
    await wait_until(lambda: _gone(owner.server))


async def test_owner_gone_while_a_copy_of_it_holds_the_pipe(tmp_path: Path) -> None:
    """A forked copy of the owner keeps the pipe open; the leash sees by its new parent that the owner is gone."""
    script = OWNER.replace(
        "    await asyncio.Event", "    import os, time\n    if os.fork() == 0: time.sleep(60)\n    await asyncio.Event"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as said:
        server = psutil.Process(int(said.readline().split()[0]))
    copy = await wait_until(
        lambda: [p for p in psutil.Process(process.pid).children() if "leash.py" not in " ".join(p.cmdline())]
    )
    process.kill()
    process.wait()
    await wait_until(lambda: _gone(server))
    copy[0].kill()


# ---- the server of `callboard up`


async def _free_port() -> int:
    async with await EmbeddedServer.start(jetstream=False) as server:
        return server.port


async def test_local_server_starts_then_adopts(tmp_path: Path) -> None:
    """The first call starts a server on the user's store; the second uses it, and stopping that one leaves it alone."""
    port = await _free_port()
    async with await local_server(tmp_path, port) as first:
        assert isinstance(first, EmbeddedServer)
        assert first.store_dir == tmp_path / "nats"
        async with await local_server(tmp_path, port) as second:
            assert isinstance(second, Adopted)
            assert (second.url, second.pid) == (first.url, first.pid)
        assert await read_info("127.0.0.1", port) is not None


async def test_local_server_twice_at_once(tmp_path: Path) -> None:
    """Of two calls at the same moment one starts the server and the other adopts it."""
    port = await _free_port()
    servers = await asyncio.gather(local_server(tmp_path, port), local_server(tmp_path, port))
    assert sorted(type(server).__name__ for server in servers) == ["Adopted", "EmbeddedServer"]
    for server in servers:
        await server.stop()


async def test_local_server_adopts_a_foreign_nats_server(tmp_path: Path, nats_server: EmbeddedServer) -> None:
    """A NATS server that callboard did not start here is used as well; a stale state file does not name its pid."""
    async with await EmbeddedServer.start(store_dir=tmp_path / "nats"):
        pass
    adopted = await local_server(tmp_path, nats_server.port)
    assert isinstance(adopted, Adopted)
    assert (adopted.url, adopted.pid) == (nats_server.url, None)


async def test_local_server_after_kill_of_owner(tmp_path: Path) -> None:
    """A stale state file and lock file of a dead server hinder nobody."""
    port = await _free_port()
    first = await local_server(tmp_path, port)
    assert isinstance(first, EmbeddedServer)
    first.kill()
    await first.wait()
    async with await local_server(tmp_path, port) as second:
        assert isinstance(second, EmbeddedServer)
        state = read_state(second.store_dir)
        assert state is not None
        assert state.pid == second.pid
    await first.stop()


async def test_port_of_a_stranger(tmp_path: Path, stranger: int) -> None:
    """A port held by something that is not NATS is refused with a way out, and nothing is started."""
    with pytest.raises(UsageError, match=f"port {stranger} .* no NATS server .*--port {stranger + 1}"):
        await local_server(tmp_path, stranger)
    assert not (tmp_path / "nats").exists()


async def test_adopting_needs_jetstream(tmp_path: Path) -> None:
    """A running server without JetStream is refused with what to do about it."""
    async with await EmbeddedServer.start(jetstream=False) as server:
        with pytest.raises(ServerUnsuitable, match="without JetStream"):
            await local_server(tmp_path, server.port)


async def test_store_in_use_at_another_port(tmp_path: Path) -> None:
    """One user store serves one port at a time; the error names the server that has it."""
    async with await local_server(tmp_path, await _free_port()) as first:
        with pytest.raises(StoreLocked, match=f"{first.url}.*CALLBOARD_DATA_DIR"):
            await local_server(tmp_path, await _free_port())


# ---- who listens, and where files lie


async def test_nobody_listens() -> None:
    """A closed port raises, so that it is not mistaken for a stranger."""
    with pytest.raises(OSError, match="onnect"):
        await read_info("127.0.0.1", await _free_port())


@pytest.mark.parametrize("greeting", [b"", b"INFO nonsense\r\n", b"INFO {\r\n", b"INFO", b"x" * 600_000])
async def test_odd_greetings_are_no_nats_server(greeting: bytes) -> None:
    """Silence, half a line, garbage and floods all count as something that is not NATS."""

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as listener:
        assert await read_info("127.0.0.1", listener.sockets[0].getsockname()[1], timeout_s=1) is None


def test_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The data directory follows CALLBOARD_DATA_DIR, then XDG, then the platform's habit."""
    monkeypatch.setattr(sys, "platform", "linux")
    assert data_dir({"CALLBOARD_DATA_DIR": "/x/y", "XDG_DATA_HOME": "/d"}) == Path("/x/y")
    assert data_dir({"XDG_DATA_HOME": "/d", "HOME": "/h"}) == Path("/d/callboard")
    assert data_dir({"XDG_DATA_HOME": "relative", "HOME": "/h"}) == Path("/h/.local/share/callboard")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert data_dir({"HOME": "/h"}) == Path("/h/Library/Application Support/callboard")
    assert nats_config_dir({"HOME": "/h"}) == Path("/h/.config/nats")
