"""The process that watches over the program: starts it, holds it to its time and memory, ends what it left, answers.

It runs under the same confinement as the program, so a program that gets the better of it has won nothing.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import time
from collections.abc import Iterator

from actors.toolbox.python.jail import kernel
from actors.toolbox.python.jail.order import Order, unpack_input, write_all
from actors.toolbox.python.jail.program import run_program
from actors.toolbox.python.jail.refusal import refusing, write_answer
from actors.toolbox.python.jail.yield_files import Mark, changed_files, put_files

_LOOK_S = 0.05
_REPORT_LIMIT_BYTES = 65_536  # of a pipe: the program never waits for us to read
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def serve(order: Order) -> None:
    """Run what standard input holds, answer, and end."""
    with refusing(order.answer_fd):
        kernel.no_new_privileges()
        kernel.hide_memory()
        kernel.adopt_orphans()
        code, files = unpack_input(sys.stdin.buffer)
        os.chdir(order.work)
        marks = put_files(files)
        report, child = _start(order, code)
        outcome, status = _watch(order, child)
        end_all(order, child)
    if _asked_to_end:  # nobody reads an answer any more, and whoever made the folder may be gone
        shutil.rmtree(order.work, ignore_errors=True)
        os._exit(1)
    _answer(order, {"outcome": outcome, "status": status, "report": _read_report(report)}, marks)
    os._exit(0)


def _start(order: Order, code: str) -> tuple[int, int]:
    """Start the program. What wakes the warden up is a pipe, so that no signal can come between a look and a sleep."""
    wake_up, waker = os.pipe()
    os.set_blocking(waker, False)
    os.set_blocking(wake_up, False)
    report, reporter = os.pipe()
    child = os.fork()
    if not child:
        run_program(order, code, reporter)
    os.close(reporter)
    _wake_ups.append(wake_up)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, _note)
    return report, child


_wake_ups: list[int] = []
_asked_to_end: list[int] = []


def _note(number: int, _frame: object) -> None:
    if number == signal.SIGTERM:
        _asked_to_end.append(number)


def _watch(order: Order, child: int) -> tuple[str, int]:
    """How the program ended: an outcome of ours (empty if it ended by itself), and its exit code."""
    until = time.monotonic() + order.ceilings.timeout_s
    outcome = ""
    while True:
        status = _reap(child)
        if status is not None:
            return outcome, status
        if not outcome:
            outcome = _reason_to_end(order, child, until)
        if outcome:
            os.kill(child, signal.SIGKILL)
        select.select(_wake_ups, [], [], _LOOK_S)
        while _wake_ups and select.select(_wake_ups, [], [], 0)[0]:
            os.read(_wake_ups[0], 4096)


def _reason_to_end(order: Order, child: int, until: float) -> str:
    if _asked_to_end:
        return "killed"
    if time.monotonic() > until:
        return "timeout"
    return "memory" if _resident_bytes(order, child) > order.ceilings.memory_bytes else ""


def _reap(child: int) -> int | None:
    """Take in all that has ended; the exit code of ``child`` if it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if not pid:
            return found
        if pid == child:
            found = os.waitstatus_to_exitcode(status)


def end_all(order: Order, child: int) -> None:
    """Kill every process of the program, also those that have left its group and its session."""
    if order.level in ("bubblewrap", "namespaces"):
        _kill(-1)
    elif not kernel.LINUX:
        _kill(-child)  # its group; who left that is not found
    else:
        for _ in range(1000):  # those that a dying parent leaves behind become ours, and are there at the next look
            left = list(_descendants(os.getpid()))
            if not left:
                break
            for pid in left:
                _kill(pid)
            _reap(0)
    while _reap(0) is not None:
        continue


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def _descendants(pid: int) -> Iterator[int]:
    for thread in _listing(f"/proc/{pid}/task"):
        for child in map(int, _words(f"/proc/{pid}/task/{thread}/children")):
            yield child
            yield from _descendants(child)


def _resident_bytes(order: Order, child: int) -> int:
    """What all processes of the program hold in memory; pages of files that they share are left out."""
    if order.level in ("bubblewrap", "namespaces"):
        pids = [int(name) for name in _listing("/proc") if name.isdigit() and int(name) not in (1, os.getpid())]
    else:
        pids = [child, *_descendants(child)]
    return sum(map(_resident, pids))


def _listing(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _resident(pid: int) -> int:
    words = _words(f"/proc/{pid}/statm")
    return (int(words[1]) - int(words[2])) * _PAGE_BYTES if words else 0


def _words(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:  # it has ended meanwhile
        return []


def _read_report(report: int) -> str:
    os.set_blocking(report, False)
    try:
        return os.read(report, _REPORT_LIMIT_BYTES).decode("utf-8", "replace")
    except BlockingIOError:
        return ""


def _answer(order: Order, answer: dict[str, object], marks: dict[str, Mark]) -> None:
    kept, left_out = changed_files(marks, order.ceilings.files, order.ceilings.file_bytes)
    files = [[name, len(data)] for name, data in kept]
    write_answer(order.answer_fd, {**answer, "files": files, "left_out": left_out})
    for _, data in kept:
        write_all(order.answer_fd, data)
