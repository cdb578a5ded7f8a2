"""The tool for commands: only those of the list, without a shell, in one folder, ended in any case."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.components.app import App
from actors.toolbox import Shell
from actors.toolbox.shelf import standard_app
from actors.toolbox.shell.command import leads_out, read_allowed, read_command
from actors.tools.run_here import HeldBlobs, run_here
from bus.errors import PeerError, UsageError
from bus.failure import TerminalError
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
LIST = [read_allowed(entry) for entry in ("git status", "ls", "make test-* $", "echo")]


async def _call(kit: Shell, **body: Any) -> Any:
    (tool,) = App("desk", version="1.0.0").use(kit).tools
    assert not tool.read_only
    return msgspec.json.decode(await run_here(tool, msgspec.json.encode(body), HeldBlobs()))


@pytest.mark.parametrize(
    ("command", "words"),
    [("git status", ["git", "status"]), ("git status --short 'a b'", ["git", "status", "--short", "a b"]),
     ("make test-unit", ["make", "test-unit"]), ("echo $HOME `id` *", ["echo", "$HOME", "`id`", "*"]),
     ("echo 'a|b' \"x;y\" # no comment", ["echo", "a|b", "x;y", "#", "no", "comment"])],
)  # fmt: skip
def test_commands_that_are_allowed(command: str, words: list[str]) -> None:
    """They are words, and stay what they are: nothing is put in for a variable or a pattern."""
    assert read_command(command, LIST) == words


@pytest.mark.parametrize(
    ("command", "reason"),
    [("git push", "'git push' is not allowed; allowed is what begins with git status, or ls"), ("git", "not allowed"),
     ("rm -rf .", "not allowed"), ("/bin/ls", "not allowed"), ("make test-unit -C x", "not allowed"),
     ("git -c core.pager=x status", "not allowed"), ("lsof", "not allowed"), ("ls | sh", "there is no shell"),
     ("ls; id", "there is no shell"), ("ls && id", "there is no shell"), ("ls > x", "there is no shell"),
     ("ls $(id)", "there is no shell"), ("ls &", "there is no shell"), ("ls 'x", "cannot be read"),
     ("", "give a command"), ("ls a\0b", "give a command"), ("ls /etc", "leads out of the folder"),
     ("ls ..", "leads out"), ("ls a/../../b", "leads out"), ("git status --git-dir=/x", "leads out"),
     ("ls ~root", "leads out"), ("ls -I/etc", "leads out")],
)  # fmt: skip
def test_commands_that_are_refused(command: str, reason: str) -> None:
    """The error says what would be right, for a model to mend."""
    with pytest.raises(TerminalError, match=reason.replace("(", r"\(")):
        read_command(command, LIST)


@given(st.lists(st.text(min_size=1), max_size=4))
def test_whatever_is_asked_begins_as_the_list_says(words: list[str]) -> None:
    """No text becomes a command that does not begin as an entry does."""
    for command in (" ".join(words), f"git status {' '.join(words)}"):
        try:
            found = read_command(command, LIST)
        except TerminalError:
            continue
        assert found[:2] == ["git", "status"] or found[0] in ("ls", "make", "echo")
        assert not any(leads_out(word) for word in found[2:])


@pytest.mark.parametrize("entry", ["", "'", "*", "ls | sh", "[a-z]* x"])
def test_a_list_that_cannot_be(entry: str) -> None:
    """An entry names a program and has no operator of a shell."""
    with pytest.raises(UsageError, match="allow"):
        Shell((entry,))


def test_it_is_off_unless_somebody_writes_a_list() -> None:
    """The standard toolbox has it with a list in the environment only, and a list that is a text is refused."""
    assert "shell" not in [tool.name for tool in standard_app({}).components]
    tools = standard_app({"CALLBOARD_SHELL_ALLOW": "git status,ls"}).components
    (shell,) = [tool for tool in tools if tool.name == "shell"]
    assert "git status; ls" in (shell.description or "")
    with pytest.raises(UsageError, match="needs a list"):
        Shell("git status")  # type: ignore[arg-type]


async def test_running(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its folder, with an environment of its own, and with all that the result says."""
    monkeypatch.setenv("CANARY", "sings")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "a.txt").write_text("x" * 100)
    (tmp_path / "out").symlink_to("/etc")
    kit = Shell(("ls", "env $", "cat", "sleep"), root=tmp_path, output_limit_chars=50, timeout_s=20.0)
    done = await _call(kit, command="ls", folder="below")
    assert {**done, "duration_s": 0} == {"outcome": "ok", "stdout": "a.txt\n", "duration_s": 0}
    assert "CANARY" not in (await _call(kit, command="env"))["stdout"]
    passing = Shell(("env",), root=tmp_path, pass_env=("CANARY", "NOT_SET"), output_limit_chars=1000)
    assert "CANARY=sings" in (await _call(passing, command="env"))["stdout"]
    cut = await _call(kit, command="cat a.txt", folder="below")
    assert cut["stdout"] == "x" * 50 and "100 bytes" in cut["notices"][0]
    failed = await _call(kit, command="cat nothing")
    assert (failed["outcome"], failed["exit_code"]) == ("failed", 1) and "nothing" in failed["stderr"]
    for folder in ("..", "out", "/etc"):
        with pytest.raises(PeerError, match="root"):
            await _call(kit, command="ls", folder=folder)
    with pytest.raises(PeerError, match="this node has no program 'no-such-program'"):
        await _call(Shell(("no-such-program",), root=tmp_path), command="no-such-program")


async def test_a_late_command_is_ended(tmp_path: Path) -> None:
    """With all that it started in its group, and what it said until then is there."""
    mark = f"30{secrets.randbelow(10**6):06}"
    (tmp_path / "slow").write_text(f"echo begun\nsleep {mark} &\nsleep {mark}\n")
    done = await _call(Shell(("sh slow $",), root=tmp_path, timeout_s=1.5), command="sh slow")
    assert (done["outcome"], done["stdout"]) == ("timeout", "begun\n")
    await wait_until(lambda: not _sleeping(mark), 30.0)


TOOL = """
import asyncio, sys
from actors.toolbox.shell.kit import Shell
asyncio.run(Shell(("sleep",), timeout_s=300.0)._serve(f"sleep {sys.argv[1]}", "."))
"""


async def test_a_command_ends_with_the_tool() -> None:
    """When the tool's process is killed its command does not go on."""
    mark = f"31{secrets.randbelow(10**6):06}"
    tool = subprocess.Popen([sys.executable, "-c", TOOL, mark], cwd=ROOT)
    try:
        await wait_until(lambda: _sleeping(mark), 30.0)
    finally:
        tool.kill()
        tool.wait()
    await wait_until(lambda: not _sleeping(mark), 30.0)


def _sleeping(mark: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == f"sleep\0{mark}\0".encode() and int(path.parent.name) != os.getpid():
                return True
        except OSError:  # it has ended meanwhile
            continue
    return False
