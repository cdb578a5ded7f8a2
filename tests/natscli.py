"""The stock ``nats`` CLI, as a newcomer uses it: found on PATH or named by ``CALLBOARD_NATS_CLI``."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

COMMAND_LIMIT_S = 20
NOT_THERE = "the stock nats CLI is not on PATH"


def find_nats_cli() -> str:
    """Where it is; skips the test if it is nowhere."""
    found = shutil.which(os.environ.get("CALLBOARD_NATS_CLI") or "nats")
    if found is None:
        pytest.skip(NOT_THERE)
    return found


class NatsCli:
    """Runs commands against one server, with a home of its own: the user's contexts play no part."""

    def __init__(self, binary: str, url: str, home: Path) -> None:
        self._argv = (binary, "--server", url)
        unset = ("NATS_URL", "NATS_CONTEXT", "NATS_CREDS", "NATS_NKEY", "NATS_USER", "NATS_PASSWORD")
        env = {name: value for name, value in os.environ.items() if name not in unset}
        self._env = {**env, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "NO_COLOR": "1"}

    def run(self, *arguments: str) -> str:
        """What the command prints, both streams. Fails the test if it ends with another exit code than 0."""
        code, printed = self.attempt(*arguments)
        assert code == 0, f"nats {' '.join(arguments)} exited with {code}: {printed}"
        return printed

    def attempt(self, *arguments: str) -> tuple[int, str]:
        """The command's exit code, and what it prints."""
        done = subprocess.run(
            (*self._argv, *arguments), env=self._env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=COMMAND_LIMIT_S, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout

    def run_in_terminal(self, *arguments: str) -> str:
        """What a command prints that insists on a terminal; it gets one that answers nothing."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen((*self._argv, *arguments), env=self._env, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        try:
            printed = _read_terminal(ours)
            process.wait(COMMAND_LIMIT_S)
        finally:
            os.close(ours)
            process.kill()
            process.wait()
        return printed

    def json(self, *arguments: str) -> Any:
        """The command's output, decoded."""
        return msgspec.json.decode(self.run(*arguments))

    @contextlib.contextmanager
    def subscribe(self, subject: str, output: Path) -> Iterator[Subscriber]:
        """``nats sub`` in the background; it has its subscription when this enters."""
        with output.open("wb") as out:
            process = subprocess.Popen(
                (*self._argv, "sub", subject), env=self._env, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        try:
            subscriber = Subscriber(process, output)
            self._confirm(subscriber, subject.replace("*", "probe").replace(">", "probe"))
            yield subscriber
        finally:
            process.terminate()
            process.wait(COMMAND_LIMIT_S)

    def _confirm(self, subscriber: Subscriber, probe: str) -> None:
        """Publish until it shows: the CLI says that it subscribes before the server knows of it."""
        deadline = time.monotonic() + COMMAND_LIMIT_S
        while f'"{probe}"' not in subscriber.text:
            assert time.monotonic() < deadline, f"nats sub shows nothing: {subscriber.text}"
            self.run("pub", probe, "probe")


def _read_terminal(fd: int) -> str:
    """All that is printed until the other side closes, which Linux reports as an error."""
    chunks = []
    with contextlib.suppress(OSError):
        while chunk := os.read(fd, 65536):
            chunks.append(chunk)
    return b"".join(chunks).decode(errors="replace").replace("\r\n", "\n")


class Subscriber:
    """A running ``nats sub``."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output

    @property
    def text(self) -> str:
        """What it has printed by now."""
        return self._output.read_text(errors="replace")
