"""What comes back from a sandbox: read with care, since the program may have written parts of it. Pure."""

from __future__ import annotations

import signal
from typing import Literal

import msgspec

from store.artifact import NAME_LIMIT_CHARS, Artifact

Outcome = Literal["ok", "exception", "timeout", "cpu", "memory", "killed"]


class PythonResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a program did.

    ``outcome`` is how it ended, ``error`` why (a traceback of the program's own lines), ``value`` the value of its
    last expression as text. ``files`` are those that it wrote to its working directory, ``left_out`` those that are not
    kept, with the reason. ``notices`` say what was cut. ``isolation`` is what was in force.
    """

    outcome: Outcome
    value: str = ""
    stdout: str = ""
    stderr: str = ""
    error: str = ""
    files: list[Artifact] = []
    left_out: list[str] = []
    notices: list[str] = []
    isolation: str
    duration_s: float = 0.0


class Report(msgspec.Struct, frozen=True):
    """What the program's own process says of it. Nothing in it is believed that the warden knows better."""

    outcome: str = ""
    value: str = ""
    error: str = ""
    figures: str = ""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the warden says. ``refused`` is why there was no sandbox."""

    refused: str = ""
    outcome: Literal["", "timeout", "memory", "killed"] = ""
    status: int = 0
    report: str = ""
    files: list[tuple[str, int]] = []
    left_out: list[str] = []


def read_report(text: str) -> Report:
    """The report in the warden's answer; an empty one if there is none that can be read."""
    try:
        return msgspec.json.decode(text, type=Report)
    except msgspec.DecodeError:
        return Report()


def judge(answer: Answer, report: Report) -> tuple[Outcome, str]:
    """How the program ended, and why."""
    if answer.outcome:
        return answer.outcome, _REASONS[answer.outcome]
    if answer.status == -signal.SIGXCPU:
        return "cpu", "the program used more CPU time than it may"
    if answer.status < 0:
        return "killed", f"the program was ended by signal {_signal_name(-answer.status)}"
    if report.outcome == "memory":
        return "memory", report.error
    if report.outcome == "exception" or answer.status:
        return "exception", report.error or f"the program ended with exit code {answer.status}"
    return "ok", ""


_REASONS = {
    "timeout": "the program took more time than it may",
    "memory": "the program's processes used more memory together than they may",
    "killed": "the program was ended from outside",
}


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def artifact_name(path: str) -> str:
    """The name under which a file is kept: its path with dashes, since an artifact has no folders."""
    name = "".join("-" if char in "/\\" or not char.isprintable() else char for char in path)
    return name[-NAME_LIMIT_CHARS:] if name not in ("", ".", "..") else f"file{name}"
