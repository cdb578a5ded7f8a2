"""The command line as a user sees it: output, exit codes and errors, with a real node behind it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import cli
from actors.command_bodies.arguments import json_hint
from bus.embedded import EmbeddedServer, read_state
from bus.paths import DATA_DIR_VARIABLE
from tests.command_line import callboard
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
LIMIT_S = 30


def environment(url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of a user who has this server in NATS_URL."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("NATS_", "CALLBOARD_"))},
        "NATS_URL": url,
        "XDG_CONFIG_HOME": str(tmp_path / "config"),
        DATA_DIR_VARIABLE: str(tmp_path / "data"),
        "CALLBOARD_TEST_LEDGER": str(tmp_path / "ledger"),
        "PYTHONPATH": str(ROOT),
    }


class Shell:
    """Runs ``callboard`` commands against one server."""

    def __init__(self, url: str, tmp_path: Path) -> None:
        self.env = environment(url, tmp_path)

    def __call__(self, *arguments: str, env: dict[str, str] | None = None, stdin: str = "") -> tuple[int, str, str]:
        """(exit code, standard output, standard error). With an ``env`` of its own it is started anew."""
        command = [*callboard()] if env is None else [sys.executable, "-m", "cli"]
        done = subprocess.run(
            [*command, *arguments], cwd=ROOT, env=self.env | (env or {}), input=stdin, capture_output=True, text=True,
            timeout=LIMIT_S, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def json(self, *arguments: str) -> Any:
        """What a successful command prints, decoded."""
        code, out, err = self(*arguments)
        assert code == 0, err
        return json.loads(out)


@pytest.fixture(scope="module")
def shell(server: EmbeddedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """A shell with a node of ``tests.apps.five`` running."""
    tmp_path = tmp_path_factory.mktemp("cli")
    run = Shell(server.url, tmp_path)
    command = [sys.executable, "-m", "cli", "node", "tests.apps.five:app", "--name", "cli1"]
    with (tmp_path / "node.log").open("w") as log:
        node = subprocess.Popen(command, cwd=ROOT, env=run.env, stdout=log, stderr=log)
        try:
            _wait_for_node(run, tmp_path / "node.log")
            yield run
        finally:
            node.send_signal(signal.SIGTERM)
            assert node.wait(timeout=LIMIT_S) == 0, (tmp_path / "node.log").read_text()


def _wait_for_node(run: Shell, log: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline:
        code, out, _ = run("components", "five", "--json")
        if code == 0 and json.loads(out)[0]["replicas"].get("cli1"):
            return
    raise AssertionError(f"the node did not come up: {log.read_text()}")


def test_submit_prints_the_id_and_result_prints_the_output(shell: Shell) -> None:
    """A piped submit gives JSON with the job's id; result --wait gives what the job returned."""
    answer = shell.json("submit", "five", "start:=1", "--job-id", "cli-first")
    assert answer == {"job": "cli-first", "workspace": "default", "workflow": "five"}
    assert shell.json("result", "cli-first", "--wait", "--timeout", "20") == 216


def test_a_job_is_drawn(shell: Shell) -> None:
    """A job's picture has its calls, with what became of them; a job that there is not is told."""
    code, out, _ = shell("workflow", "graph", "cli-first", "--format", "svg")
    assert code == 0 and "five 1.0.0, job cli-first" in out and "completed" in out
    code, _, err = shell("workflow", "graph", "cli-none")
    assert code == 2 and "cli-none" in err


def test_submit_and_wait(shell: Shell) -> None:
    """--wait prints the result alone on standard output, so that it can be piped on."""
    code, out, _ = shell("submit", "five", "start:=2", "--wait", "--timeout", "20")
    assert (code, json.loads(out)) == (0, 217)


@pytest.mark.parametrize(
    ("arguments", "stdin"),
    [
        (("--input", '{"start": 3}'), ""),
        (("--input", "-"), '{"start": 3}'),
        (("--input", '{"start": 0}', "start:=3"), ""),
    ],
)
def test_ways_to_give_the_input(shell: Shell, arguments: tuple[str, ...], stdin: str) -> None:
    """JSON as an option, from standard input, and with a pair that overrides it."""
    code, out, err = shell("submit", "five", *arguments, "--wait", "--timeout", "20", stdin=stdin)
    assert (code, out.strip()) == (0, "218"), err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("submit", "fife", "start:=1"), "did you mean five"),
        (("submit", "five", "start=one"), "$.start"),
        (("submit", "five", "start:=1", "extra:=1"), "extra"),
        (("submit", "five", "start"), "name=text or name:=JSON"),
        (("submit", "five", "start:={"), "start is not JSON"),
        (("submit", "five", "--input", "{"), "--input is not JSON"),
        (("submit", "five", "start:=1", "--workspace", "a b"), "workspace 'a b'"),
        (("doctor", "--workspace", "a.b"), "workspace 'a.b'"),
        (("show", "five", "--workspace", "*"), "workspace '*'"),
        (("result", "no-such-job", "--wait", "--timeout", "0.2"), "has no job no-such-job"),
        (("up", "tests.apps.five:app", "--port", "99999"), "65535"),
        (("--workspace", "w", "ps"), "'ps' has no option --workspace"),
        (("submit", "five", "start:=1", "--job-id", "a.b"), "'.'"),
        (("submit", "five", "start:=1", "--priority", "urgent"), "high, normal, low"),
        (("submit", "five", "--input", "@/nowhere.json"), "/nowhere.json"),
        (("show", "no-such-job"), "no-such-job"),
        (("components", "fife"), "did you mean five"),
        (("tail", "--kind", "nonsense"), "nonsense"),
        (("node", "tests.apps.nowhere:app"), "nowhere"),
        (("node", "tests.apps.five:app", "--only", "stepp"), "did you mean 'step'"),
        (("node", "tests.apps.five:app", "--name", "a.b"), "name of the node"),
        (("ps", "--context", "nobody"), "nobody"),
    ],
)
def test_wrong_use_exits_with_2_and_says_what_would_be_right(
    shell: Shell, arguments: tuple[str, ...], said: str
) -> None:
    """One clear line, no traceback, exit code 2."""
    code, out, err = shell(*arguments)
    assert (code, out) == (2, ""), err
    assert said in err
    assert "Traceback" not in err


def test_unreachable_bus_exits_with_3(shell: Shell) -> None:
    """No server: the address, the reason, and what to do."""
    code, _, err = shell("ps", "--nats", "nats://127.0.0.1:9")
    assert code == 3
    assert "127.0.0.1:9" in err
    assert "callboard up" in err


def test_failed_job_exits_with_1_and_shows_where(shell: Shell) -> None:
    """The exit code of a failed job is 1; show has the remote traceback."""
    shell.json("submit", "waiter", "name=never", "--job-id", "cli-cancelled")
    assert shell.json("cancel", "cli-cancelled", "--reason", "enough")["signal"] == "cancel"
    code, _, err = shell("result", "cli-cancelled", "--wait", "--timeout", "20")
    assert code == 1
    assert "job cli-cancelled was cancelled" in err and err.endswith(": enough\n")
    code, out, _ = shell("show", "cli-cancelled")
    assert code == 0
    assert re.search(r"cancelled +waiter", out)


def test_signal_and_show(shell: Shell) -> None:
    """A job that waits goes on with the signal's data, and the timeline has its calls."""
    shell.json("submit", "waiter", "name=go", "--job-id", "cli-waiter")
    shell.json("signal", "cli-waiter", "go", '{"by": "ann"}')
    assert shell.json("result", "cli-waiter", "--wait", "--timeout", "20") == "2 {'by': 'ann'}"
    view = shell.json("show", "cli-waiter", "--json")
    assert [call["kind"] for call in view["calls"]] == ["tool", "signal"]


def test_result_of_a_job_that_goes_on(shell: Shell) -> None:
    """Without --wait the answer is at once, and the exit code 4 says that the job is not over."""
    shell.json("submit", "waiter", "name=later", "--job-id", "cli-later")
    code, _, err = shell("result", "cli-later", "--wait", "--timeout", "0.5")
    assert code == 4
    assert "goes on" in err
    shell.json("signal", "cli-later", "later")


def test_tail_is_complete_and_stops_quietly_on_interrupt(shell: Shell) -> None:
    """History first; JSON lines with sequence, kind and body; Ctrl-C leaves with 130 and no traceback."""
    shell.json("submit", "five", "start:=5", "--job-id", "cli-tail")
    shell.json("result", "cli-tail", "--wait", "--timeout", "20")
    command = [sys.executable, "-m", "cli", "tail", "cli-tail", "--json"]
    tail = subprocess.Popen(command, cwd=ROOT, env=shell.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert tail.stdout is not None
    lines = []
    for text in tail.stdout:
        lines.append(json.loads(text))
        if lines[-1]["type"] == "job.completed":
            break
    tail.send_signal(signal.SIGINT)
    _, err = tail.communicate(timeout=LIMIT_S)
    assert tail.returncode == 130, err
    assert "Traceback" not in err
    sequences = [line["sequence"] for line in lines]
    assert sequences == sorted(set(sequences))
    assert lines[0]["type"] == "job.submitted"
    assert sum(line["type"] == "call.tool" for line in lines) == 5


def test_a_closed_pipe_is_no_error(shell: Shell) -> None:
    """``callboard components | head -1`` ends quietly."""
    command = f"{sys.executable} -m cli components | head -1"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, env=shell.env, capture_output=True, text=True, timeout=LIMIT_S, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_ps_lists_nodes_and_their_actors(shell: Shell) -> None:
    """Each actor has a pid that lives."""
    node = next(n for n in shell.json("ps", "--json") if n["node"] == "cli1")
    assert {actor["name"] for actor in node["actors"]} == {"step-1", "host-1", "gateway"}
    for actor in node["actors"]:
        os.kill(actor["pid"], 0)


def test_doctor_finds_nothing_wrong(shell: Shell) -> None:
    """A healthy server passes, and each finding has a level."""
    findings = shell.json("doctor", "--json")
    assert {finding["level"] for finding in findings} <= {"ok", "warn"}


def test_help_teaches(shell: Shell) -> None:
    """Help lists every command, and the commands have examples."""
    code, out, _ = shell("--help")
    assert code == 0
    for command in ("up", "node", "submit", "tail", "show", "ps", "components", "signal", "cancel", "result", "doctor"):
        assert re.search(rf"^  {command} +\S", out, re.MULTILINE), command
    assert "Example: callboard submit order" in shell("submit", "--help")[1]


def test_every_command_has_an_example() -> None:
    """The help of a command shows a line that can be typed."""
    group: Any = typer.main.get_command(cli.app)
    texts = {name: command.help for name, command in group.commands.items() if name != "version"}
    assert not [name for name, text in texts.items() if f"Example: callboard {name}" not in text]


def test_node_runs_an_app_unless_the_first_word_is_a_command() -> None:
    """``node TARGET`` and ``node drain NAME`` both work, and the help of ``node`` explains both."""
    runner, command = CliRunner(), cli.app
    text = runner.invoke(command, ["node", "--help"]).output
    for words in ("TARGET | drain NAME", "--replicas NAME=N", "The app: module:app", "drain  Hand everything back",
                  "Example: callboard node shop:app", "Example: callboard node drain n1"):  # fmt: skip
        assert words in text, words
    assert "--timeout SECONDS" in runner.invoke(command, ["node", "drain", "--help"]).output
    for arguments in (["a.b:c", "--nme", "x"], ["--nme", "x", "a.b:c"], ["run", "a.b:c", "--nme", "x"]):
        said = runner.invoke(command, ["node", *arguments])
        assert (said.exit_code, "No such option: --nme" in said.output) == (2, True), said.output


def test_commands_within_commands_have_an_example() -> None:
    """Nobody has to guess how an order to an actor is written."""
    group: Any = typer.main.get_command(cli.app)
    inner = {f"{name} {sub}": each.help for name, command in group.commands.items()
             for sub, each in getattr(command, "commands", {}).items() if not each.hidden}  # fmt: skip
    assert "supervise restart" in inner
    assert not [name for name, text in inner.items() if f"Example: callboard {name}" not in text]


def test_options_before_the_command(shell: Shell) -> None:
    """Options before the command weigh more than the environment, and less than those after it."""
    shell.json("--workspace", "other", "submit", "five", "start:=1", "--job-id", "cli-before")
    url = shell.env["NATS_URL"]
    elsewhere = {"NATS_URL": "nats://127.0.0.1:9", "CALLBOARD_WORKSPACE": "third"}
    arguments = ("--nats", url, "--workspace", "other", "result", "cli-before", "--wait", "--timeout", "20")
    assert shell(*arguments, env=elsewhere)[:2] == (0, "216\n")
    assert shell("--nats", "nats://127.0.0.1:9", "--workspace", "other", "show", "cli-before", "--nats", url)[0] == 0
    assert shell("--workspace", "other", "show", "cli-before", "--workspace", "default")[0] == 2


@pytest.mark.parametrize("by", ["Ctrl-C", "drain"])
async def test_up_runs_all_on_one_machine(tmp_path: Path, by: str) -> None:
    """Server, node and actors start with one command; Ctrl-C and a drain end them all, and leave only the data."""
    port, data = _free_port(), tmp_path / "store"
    run = Shell(f"nats://127.0.0.1:{port}", tmp_path)
    command = [sys.executable, "-m", "cli", "up", "tests.apps.five:app", "--port", str(port), "--data-dir", str(data)]
    with (tmp_path / "up.log").open("w") as log:
        up = subprocess.Popen([*command, "--name", "cli1"], cwd=ROOT, env=run.env, stdout=log, stderr=log)
        try:
            _wait_for_node(run, tmp_path / "up.log")
            assert run.json("submit", "five", "start:=1", "--wait", "--timeout", "20") == 216
            pids = [actor["pid"] for actor in run.json("ps", "--json")[0]["actors"]]
            server = read_state(data / "nats")
            assert server is not None
            os.kill(server.pid, signal.SIGKILL)
            await wait_until(lambda: "(started again)" in (tmp_path / "up.log").read_text(), LIMIT_S)
            again = ("submit", "five", "start:=2", "--job-id", "again")  # once the gateway has found the server
            await wait_until(lambda: run(*again)[0] == 0, LIMIT_S)
            assert run.json("result", "again", "--wait", "--timeout", "20") == 217
            if by == "drain":  # the server goes with the node, in the middle of the command
                assert run.json("node", "drain", "cli1", "--json") == {"node": "cli1", "drained": True}
            else:
                up.send_signal(signal.SIGINT)
            assert up.wait(timeout=LIMIT_S) == 0, (tmp_path / "up.log").read_text()
        finally:
            up.kill()
            up.wait()
    assert (data / "nats" / "jetstream").is_dir()
    await wait_until(lambda: not [pid for pid in pids if _is_alive(pid)])
    assert run("ps")[0] == 3


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_completion_can_be_shown(shell: Shell) -> None:
    """Shell completion is generated for bash."""
    code, out, _ = shell("--show-completion", "bash")
    assert code == 0
    assert "complete" in out


def test_completion_knows_the_workflows(shell: Shell) -> None:
    """Names of workflows are completed from the bus, and without a bus there are none and no error."""
    typed = {"_CALLBOARD_COMPLETE": "complete_bash", "COMP_WORDS": "callboard submit fi", "COMP_CWORD": "2"}
    assert shell(env=typed)[:2] == (0, "five\n")
    assert shell(env=typed | {"NATS_URL": "nats://127.0.0.1:9"}) == (0, "\n", "")


def test_components_before_any_node(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """On a server that no node has seen there are no components, which is said with what to do."""
    run = Shell(nats_server.url, tmp_path)
    assert run.json("components", "--json") == []
    assert (run("ps")[0], run("ps", "--check")[0]) == (0, 1), "no node is not a healthy one"
    code, _, err = run("components", "five")
    assert code == 2
    assert "callboard up" in err


def test_import_of_the_command_line_is_light() -> None:
    """``callboard --help`` stays quick since neither nats, rich nor jsonschema is imported for it."""
    code = "import sys, cli; print([m for m in ('nats', 'rich.console', 'jsonschema', 'uvloop') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("pair", "path", "hint"),
    [
        ("qty=3", "$.qty", "qty=3 is text; write qty:=3 for JSON"),
        ("qty=three", "$.qty", ""),
        ("qty:=3", "$.qty", ""),
        ("qty=3", "$.sku", ""),
    ],
)
def test_text_that_was_meant_as_json(pair: str, path: str, hint: str) -> None:
    """An input of the wrong type that was given as text says how JSON is written."""
    assert json_hint([pair], path) == hint
