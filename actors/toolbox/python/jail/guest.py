"""Runs in a machine that is rented for one program: starts the launcher there, as the tool does on its own machine.

What comes of it is one file, since only files of that machine can be read from outside.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from typing import IO

from actors.toolbox.python.jail.order import Ceilings, Order, pack_input
from actors.toolbox.python.jail.tasks import tasks_of

ORDER, INPUT, OUTCOME = "order.json", "input", "outcome"
_GRACE_S = 15.0
_LAST_WORD_S = 2.0
_CHUNK_BYTES = 65_536


def main(folder: str) -> None:
    """Run what lies in ``folder``. Its file ``outcome`` is whole as soon as it is there."""
    with open(f"{folder}/{ORDER}") as file:
        wanted = json.load(file)
    began_s = time.monotonic()
    answer, streams = _run(folder, Ceilings(**wanted["ceilings"]), wanted)
    head = {name: size for name, (size, _) in streams.items()} | {"duration_s": time.monotonic() - began_s}
    parts = [(name, bytes(kept)) for name, (_, kept) in streams.items()]
    with open(f"{folder}/{OUTCOME}.part", "wb") as file:
        file.write(pack_input(json.dumps(head), [*parts, ("answer", answer)]))
    os.replace(f"{folder}/{OUTCOME}.part", f"{folder}/{OUTCOME}")


def _run(folder: str, ceilings: Ceilings, wanted: dict[str, object]) -> tuple[bytes, dict[str, tuple[int, bytearray]]]:
    limit_bytes = int(str(wanted["output_limit_bytes"]))
    streams: dict[str, tuple[int, bytearray]] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work, tempfile.TemporaryFile() as answer:
        process = _start(folder, work, answer.fileno(), ceilings, wanted)
        drains = [threading.Thread(target=_drain, args=(name, stream, limit_bytes, streams), daemon=True)
                  for name, stream in (("stdout", process.stdout), ("stderr", process.stderr))]  # fmt: skip
        for one in drains:
            one.start()
        _wait(process, ceilings.timeout_s + _GRACE_S)
        for one in drains:
            one.join(_LAST_WORD_S)
        answer.seek(0)
        return answer.read(), {name: streams.get(name, (0, bytearray())) for name in ("stdout", "stderr")}


def _start(folder: str, work: str, answer_fd: int, ceilings: Ceilings,
           wanted: dict[str, object]) -> subprocess.Popen[bytes]:  # fmt: skip
    boot = ["-I", "-S", "-c", str(wanted["boot"]), f"{folder}/jail"]
    order = Order(
        level="rlimits", ceilings=ceilings, readable=[], packages=_packages(), work=work, parent=os.getpid(),
        answer_fd=answer_fd, seccomp=False, tasks_before=tasks_of(os.geteuid()), python=sys.executable, boot=boot,
    )  # fmt: skip
    with open(f"{folder}/{INPUT}", "rb") as given:
        return subprocess.Popen(
            [sys.executable, *boot, json.dumps(asdict(order))], cwd="/", env=_environment(wanted["environment"]),
            stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=(answer_fd,), start_new_session=True,
        )  # fmt: skip


def _environment(given: object) -> dict[str, str]:
    own = {"LD_LIBRARY_PATH": os.environ["LD_LIBRARY_PATH"]} if "LD_LIBRARY_PATH" in os.environ else {}
    return own | given if isinstance(given, dict) else own


def _packages() -> list[str]:
    """Where this machine has its packages."""
    return [path for path in sys.path
            if os.path.basename(path) in ("site-packages", "dist-packages") and os.path.isdir(path)]  # fmt: skip


def _drain(name: str, stream: IO[bytes], limit_bytes: int, streams: dict[str, tuple[int, bytearray]]) -> None:
    """Read all of it, so that the program never waits for a reader."""
    kept, size_bytes = bytearray(), 0
    while data := os.read(stream.fileno(), _CHUNK_BYTES):
        size_bytes += len(data)
        kept += data[: limit_bytes - len(kept)]
        streams[name] = (size_bytes, kept)


def _wait(process: subprocess.Popen[bytes], limit_s: float) -> None:
    for send, wait_s in ((process.terminate, limit_s), (process.kill, _LAST_WORD_S)):
        try:
            process.wait(wait_s)
            return
        except subprocess.TimeoutExpired:
            send()
    process.wait()
