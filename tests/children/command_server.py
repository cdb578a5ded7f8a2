"""Runs ``callboard`` commands by forking itself: it has imported what they import, which is most of what they cost.

Each command is a process of its own, with the caller's arguments, environment, directory and open files, and its exit
code is the caller's. Callers are ``command_shim.py``; the end of standard input ends the server.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import pkgutil
import select
import signal
import socket
import sys

import actors.command_bodies
import actors.console
import actors.listings
import cli

FILES = 3
# What a command imports before its own body; typer's is pydantic, a third of all.
BEFORE = ("typer._adapters", "uvloop", "actors.clients.client")


def load() -> None:
    """Import what commands import when they run; an extra that is missing is for whoever needs it."""
    rooms = (actors.command_bodies, actors.console, actors.listings)
    bodies = [each.name for room in rooms for each in pkgutil.iter_modules(room.__path__, f"{room.__name__}.")]
    for name in (*BEFORE, *bodies):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def received(connection: socket.socket) -> tuple[str, list[str], dict[str, str], list[int]]:
    """Directory, arguments, environment and files of a command."""
    size, files, _, _ = socket.recv_fds(connection, 8, FILES)
    with connection.makefile("rb") as stream:
        said = os.fsdecode(stream.read(int.from_bytes(size, "big")))
    count, folder, *rest = said.split("\0")
    arguments, variables = rest[: int(count)], rest[int(count) :]
    return folder, arguments, dict(each.split("=", 1) for each in variables), files


def become(folder: str, arguments: list[str], environment: dict[str, str], files: list[int]) -> None:
    """Stand as a fresh interpreter that was started with ``-m cli``."""
    for place, file in enumerate(files):
        os.dup2(file, place)
        os.close(file)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["callboard", *arguments]
    sys.path[:0] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    importlib.invalidate_caches()


def run() -> int:
    """Run the command, to its exit code."""
    try:
        cli.main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def serve(listener: socket.socket) -> None:
    """Fork for each command until nobody is left to ask for one."""
    while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        listener.close()
        code = 70
        try:
            become(*received(connection))
            code = run()
            atexit._run_exitfuncs()
            sys.stdout.flush()
            connection.sendall(bytes([code]))
        finally:
            os._exit(code)


if __name__ == "__main__":
    load()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    serve(socket.socket(fileno=int(sys.argv[1])))
