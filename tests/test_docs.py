"""The documentation is true: its code runs, its links lead somewhere, and its references name all that there is.

What a fenced block is follows from its language:

- ``python``: run, page by page in one namespace. A first line ``# hello.py`` makes it that file (``, continued`` adds
  to it) in the page's directory, where commands find it.
- ``console``: the lines after ``$`` are run in a shell, on a server of the page's own; lines below are its output,
  where ``...`` stands for anything. Followers (up, node, tail, ``nats sub``) run in the background until the page ends.
- ``markdown``: a first line ``<!-- clerk.md -->`` says which file it is, and is no part of it.
- ``yaml``: a first line ``# order.yaml`` makes it that file, as for Python; it parses.
- ``json`` parses, ``conf`` is a configuration that nats-server takes, ``sh`` only shows what to type on a machine.
- ``text`` and ``mermaid`` are for the eye.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import importlib
import inspect
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec
import pytest
import typer
import yaml

import actors
from actors import ToolContext
from actors.clients.client import Client
from actors.clients.handle import JobHandle
from actors.components.app import App
from actors.operations.job import Job
from actors.threads.thread import Sealed, Thread
from bus import headers, messages
from bus.approval_events import ApprovalAnswered
from bus.connection import Bus
from bus.embedded import EmbeddedServer
from bus.errors import PermissionRefused
from bus.kv import Kv
from bus.objects import Blobs
from bus.options import ConnectOptions
from bus.streams import Limits, ensure_streams, wanted
from examples import shop
from store.log import append_unfenced
from store.tail import Followed
from supervisor.node import node_statuses
from supervisor.retry import Retry
from tests.command_line import callboard_script
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
TYPED = {"", "#", "make", "pip", "git", "cd", "docker", "systemctl", "install", "python", "nats"}
# Public for the library itself, not for its users.
INTERNAL = {"`client.wait_for_end", "`ctx.cancel"}
LANGUAGES = {"python", "console", "yaml", "json", "conf", "sh", "text", "mermaid", "markdown"}
NO_CLI = "the stock nats CLI is not on PATH"
START_S = 30.0
COMMAND_S = 40.0

_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w/]+\.(?:py|json|yaml))(, continued)?\n")
_MARKDOWN_FILE = re.compile(r"<!-- (\w+\.md) -->\n")
_FOLLOWER = re.compile(r"(callboard (up|node(?! drain)|tail(?!.*--stream))|nats sub(?!.*--count))\b")
_PROOF = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Block(NamedTuple):
    """A fenced block: its language, its text, and the line at which the text begins."""

    language: str
    text: str
    line: int


def blocks(page: Path, *languages: str) -> list[Block]:
    """The page's blocks in these languages (none: all)."""
    text = page.read_text()
    found = [Block(m[1].strip(), m[2], text.count("\n", 0, m.start(2)) + 1) for m in _BLOCK.finditer(text)]
    return [block for block in found if not languages or block.language in languages]


def name_of(page: Path) -> str:
    """The page's path from the root, for test ids and errors."""
    return str(page.relative_to(ROOT))


# ---- every page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_has_a_language_that_says_what_it_is(page: Path) -> None:
    """A block in an unknown language would be checked by nobody."""
    assert not [(block.language, block.line) for block in blocks(page) if block.language not in LANGUAGES]
    assert page.read_text().count("\n```") % 2 == 0


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Files and headings that a page links to exist."""
    broken = []
    for target in _LINK.findall(_BLOCK.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    assert not broken


def anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_json_parses_and_shell_lines_are_known(page: Path) -> None:
    """JSON is JSON, and what a reader types on a machine is a target of make or an ordinary tool."""
    for block in blocks(page, "json"):
        json.loads(block.text)
    for block in blocks(page, "yaml"):
        assert _FILE.match(block.text) and yaml.safe_load(block.text), block.line
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in "".join(block.text for block in blocks(page, "sh")).splitlines():
        command, *rest = line.removeprefix("sudo ").split() or [""]
        assert command in TYPED, line
        assert command != "make" or rest[0] in targets, line


def test_configurations_are_taken_by_the_server(tmp_path: Path) -> None:
    """Each piece of server configuration in the docs, and each file in deploy, passes ``nats-server -t``."""
    texts = [block.text for page in PAGES for block in blocks(page, "conf")]
    texts += [file.read_text() for file in sorted((ROOT / "deploy").glob("*.conf"))]
    assert texts
    for number, text in enumerate(texts):
        file = tmp_path / f"{number}.conf"
        file.write_text(text.replace("/data", str(tmp_path)))
        command = [binary("nats-server"), "-t", "-c", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **PASSWORDS})
        assert done.returncode == 0, done.stderr


def binary(name: str) -> str:
    """A program beside this interpreter or on PATH."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name) or name


# ---- pages that run


class Stage:
    """One page as it runs: its directory, its server, what its commands left running."""

    def __init__(self, page: Path, directory: Path) -> None:
        self.page = page
        self.directory = directory
        self.namespace: dict[str, Any] = {"__name__": f"page_{page.stem}"}
        self.followers: list[subprocess.Popen[bytes]] = []
        self.node: subprocess.Popen[bytes] | None = None
        self.left_out = 0
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self._log = (directory / "followers.log").open("wb")

    def environment(self) -> dict[str, str]:
        """Everything of the reader's machine that the commands may see is the page's own."""
        (self.directory / "bin").mkdir()
        command = self.directory / "bin" / "callboard"
        command.write_text(callboard_script())
        command.chmod(0o755)
        (self.directory / "bin" / "python").symlink_to(sys.executable)
        path = [str(command.parent), str(Path(sys.executable).parent), os.environ["PATH"]]
        return {
            "PATH": os.pathsep.join(path), "PYTHONPATH": os.pathsep.join([str(ROOT), str(self.directory)]),
            "NATS_URL": self.url, "CALLBOARD_DATA_DIR": str(self.directory / "data"), "NO_COLOR": "1",
            "XDG_CONFIG_HOME": str(self.directory / "config"), "HOME": str(self.directory),
        }  # fmt: skip

    def run(self, block: Block) -> None:
        """Run one block."""
        where = f"{name_of(self.page)}:{block.line}"
        uses_cli = re.search(r"^\$ nats ", block.text, re.MULTILINE)
        if block.language == "console" and uses_cli and not shutil.which("nats"):
            self.left_out += 1
        elif block.language == "console":
            for command, expected in commands(block.text):
                self._command(command, expected, where)
        elif block.language == "markdown":
            found = _MARKDOWN_FILE.match(block.text)
            assert found, where
            self._write(found[1], block.text[found.end() :], more=False)
        elif found := _FILE.match(block.text):
            self._write(found[1], block.text, more=bool(found[2]))
        else:
            code = compile("\n" * (block.line - 1) + block.text, str(self.page), "exec")
            exec(code, self.namespace)

    def _write(self, name: str, text: str, *, more: bool) -> None:
        file = self.directory / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(file.read_text() + "\n\n" + text if more else text)
        if name.endswith(".py"):
            ast.parse(file.read_text(), name)
            sys.modules.pop(file.stem, None)
            importlib.invalidate_caches()

    # ---- commands

    def _command(self, command: str, expected: list[str], where: str) -> None:
        command = re.sub(r"nats://[\w.-]+:4222", self.url, command)
        if found := re.search(r"# the pid of (\S+)", command):
            command = re.sub(r"\d+(?=\s+#)", str(self._pid(found[1])), command)
        if _FOLLOWER.match(command):
            self._follow(command, where)
            return
        done = subprocess.run(
            ["/bin/bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=COMMAND_S,
            check=False,
        )  # fmt: skip
        said = done.stdout + done.stderr
        fails = any(line.startswith("error:") for line in expected)
        assert (done.returncode != 0) == fails, f"{where} $ {command}\n{said}"
        missing = first_missing(expected, said.splitlines())
        assert missing is None, f"{where} $ {command}\nsaid\n{said}\nbut not\n{missing}"
        if drained := re.match(r"callboard node drain (\S+)", command):
            self._ended_by_itself(drained[1], where)

    def _ended_by_itself(self, node: str, where: str) -> None:
        process = next(each for each in self.followers if f"--name {node}" in str(each.args))
        self.followers.remove(process)
        assert process.wait(COMMAND_S) == 0, f"{where}: {node} ended with {process.returncode}"

    def _follow(self, command: str, where: str) -> None:
        is_node = command.startswith(("callboard up", "callboard node"))
        if command.startswith("callboard up"):
            self._stop_node(where)
            command += f" --port {self.port}"
        process = subprocess.Popen(["/bin/bash", "-c", f"exec {command}"], stdout=self._log, stderr=self._log)
        self.followers.append(process)
        if not is_node:
            return
        if command.startswith("callboard up"):
            self.node = process
        self._wait(process, f"{where} $ {command}")

    def _wait(self, process: subprocess.Popen[bytes], what: str) -> None:
        """Until every actor of every node has said what it is at, the node that was just started among them."""
        deadline = time.monotonic() + START_S
        while not asyncio.run(_all_serve(self.url, process.pid)):
            assert process.poll() is None and time.monotonic() < deadline, f"{what}\n{self.log()}"
            time.sleep(0.05)

    def _pid(self, actor: str) -> int:
        statuses = asyncio.run(_statuses(self.url))
        return next(a.pid for node in statuses for a in node.actors if a.name == actor)

    def log(self) -> str:
        """What the followers have printed."""
        return (self.directory / "followers.log").read_text(errors="replace")

    # ---- end

    def _stop_node(self, where: str) -> None:
        if self.node is not None:
            self.followers.remove(self.node)
            end(self.node)
            assert self.node.returncode == 0, f"{where}: the node before ended with {self.node.returncode}"
            self.node = None

    def close(self) -> None:
        """End what still runs; each follower has to be alive until now, and to end in order."""
        codes = [(process.args, process.poll()) for process in self.followers]
        for process in reversed(self.followers):
            end(process)
        self._log.close()
        assert all(code is None for _, code in codes), f"{codes}\n{self.log()}"
        ends = [(process.args, process.returncode) for process in self.followers]
        assert all(code in (0, 130) for args, code in ends if "callboard" in str(args)), f"{ends}\n{self.log()}"


def end(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C, and more if that is not heeded."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def _statuses(url: str) -> list[Any]:
    try:
        async with await Bus.connect(ConnectOptions(servers=[url]), timeout_s=1) as bus:
            return await node_statuses(bus, wait_s=0.1)
    except actors.CallboardError:
        return []


async def _all_serve(url: str, pid: int) -> bool:
    statuses = await _statuses(url)
    return any(node.pid == pid for node in statuses) and all(a.doing for node in statuses for a in node.actors)


def commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of a console block with the lines of output below it; a backslash at the end joins lines."""
    command: str | None = None
    expected: list[str] = []
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            if command is not None:
                yield command, expected
            command, expected = line[2:], []
        elif line.strip():
            assert command is not None, f"output without a command: {line}"
            expected.append(line)
    if command is not None:
        yield command, expected


def first_missing(expected: list[str], said: list[str]) -> str | None:
    """The first expected line that does not come, in order; blanks count once and ``...`` is anything."""
    rest = iter(" ".join(line.split()) for line in said)
    for line in expected:
        words = re.sub(r"(\\ )?\\\.\\\.\\\.(\\ )?", ".*", re.escape(" ".join(line.split())))
        if words != ".*" and not any(re.fullmatch(words, actual) for actual in rest):
            return line
    return None


RUNNING = [page for page in PAGES if blocks(page, "python", "console")]


@pytest.fixture
def page_stage(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    """The page's directory as the working directory, and a server unless the page starts one itself."""
    stage = Stage(request.param, tmp_path)
    for variable in [v for v in os.environ if v.startswith(("NATS_", "CALLBOARD_"))]:
        monkeypatch.delenv(variable)
    for variable, value in stage.environment().items():
        monkeypatch.setenv(variable, value)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    known = set(sys.modules)
    server = None
    if "$ callboard up" not in stage.page.read_text():
        server = asyncio.run(EmbeddedServer.start(port=stage.port))
    try:
        yield stage
    finally:
        for module in set(sys.modules) - known:
            if str(tmp_path) in str(getattr(sys.modules[module], "__file__", "")):
                del sys.modules[module]
        if server:
            asyncio.run(server.stop())


@pytest.mark.timeout(300)  # a page is as long as its reader needs it; a machine may be busy
@pytest.mark.parametrize("page_stage", RUNNING, ids=name_of, indirect=True)
def test_page_runs(page_stage: Stage) -> None:
    """Every block of the page does what it says, in the order in which a reader meets it."""
    try:
        for block in blocks(page_stage.page, "python", "console", "yaml", "markdown"):
            page_stage.run(block)
    finally:
        page_stage.close()
    if page_stage.left_out:
        pytest.skip(NO_CLI)


def test_what_is_expected_is_looked_for_in_order() -> None:
    """The comparison of outputs finds what is there, takes ``...`` for anything, and minds the order."""
    assert first_missing(["a  ...", "c"], ["a b", "x", "c"]) is None
    assert first_missing(["c", "a ..."], ["a b", "x", "c"]) == "a ..."
    assert list(commands("$ one \\\n two\nout\n$ three\n")) == [("one   two", ["out"]), ("three", [])]


# ---- references


def section(page: Path, heading: str) -> str:
    """The text below a heading, up to the next one of its level or higher."""
    found = re.search(rf"^(#+) {re.escape(heading)}$", page.read_text(), re.MULTILINE)
    assert found, f"{name_of(page)} has no heading {heading!r}"
    rest = page.read_text()[found.end() :]
    following = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
    return rest[: following.start()] if following else rest


EVENTS_PAGE = DOCS / "reference-events.md"


@pytest.mark.parametrize("event_type", get_args(messages.Event), ids=lambda t: str(t.__struct_config__.tag))
def test_event_is_documented(event_type: Any) -> None:
    """Each kind has a heading, a row for each field, and a sample that reads back as that event and nothing else."""
    tag = str(event_type.__struct_config__.tag)
    text = section(EVENTS_PAGE, f"`{tag}`")
    rows = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    assert rows == set(event_type.__struct_fields__) - {"job", "at", "blob"}
    sample = _BLOCK.search(text)
    assert sample and sample[1] == "json"
    event = messages.decode(sample[2].encode())
    assert type(event) is event_type
    assert json.loads(messages.encode(event)) == json.loads(sample[2])


def test_failure_is_documented() -> None:
    """Every field of a failure has its row."""
    rows = set(re.findall(r"^\| `(\w+)` \|", section(EVENTS_PAGE, "Failure"), re.MULTILINE))
    assert rows == set(actors.Failure.__struct_fields__)


def _leaf_commands(group: Any = None, prefix: str = "") -> dict[str, Any]:
    """Every command by its words. A group is one too, if it does something by itself or stands for a hidden default."""
    group = group or typer.main.get_command(importlib.import_module("cli").app)
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner = getattr(command, "commands", {})
        default = next((each for each in inner.values() if each.hidden), None)
        if not command.hidden and (not inner or command.invoke_without_command or default):
            found[f"{prefix}{name}"] = default or command
        found |= _leaf_commands(command, f"{prefix}{name} ") if inner else {}
    return found


def test_every_command_and_option_is_documented() -> None:
    """The page has a heading for each command with all its arguments and options, and for nothing else."""
    page = DOCS / "reference-cli.md"
    headings = set(re.findall(r"^### `callboard ([\w -]+)`$", page.read_text(), re.MULTILINE))
    assert headings == set(_leaf_commands())
    missing = []
    for name, command in _leaf_commands().items():
        text = section(page, f"`callboard {name}`")
        for parameter in command.params:
            options = [option for option in parameter.opts if option.startswith("--")]
            words = options or [parameter.metavar or parameter.name.upper()]
            missing += [(name, word) for word in words if f"`{word}" not in text]
    assert not missing


def test_options_of_all_commands_are_documented() -> None:
    """What may stand before a command is on the page."""
    group: Any = typer.main.get_command(importlib.import_module("cli").app)
    text = section(DOCS / "reference-cli.md", "In all commands") + (DOCS / "reference-cli.md").read_text()[:500]
    options = [option for p in group.params for option in p.opts if option.startswith("--")]
    assert not [option for option in options if f"{option}" not in text and option != "--show-completion"]


def test_every_decision_is_listed() -> None:
    """The index of decisions has each of them."""
    index = (DOCS / "adr" / "README.md").read_text()
    assert not [file.name for file in (DOCS / "adr").glob("[0-9]*.md") if f"({file.name})" not in index]


def _members(cls: type) -> list[tuple[str, Any]]:
    """What a class and our classes below it define."""
    return [each for base in cls.__mro__ if base.__module__.startswith("actors") for each in vars(base).items()]


def test_python_reference_names_everything() -> None:
    """What ``actors`` exports, and every public method of what users hold in hand, is on the page."""
    text = (DOCS / "reference-python.md").read_text()
    assert not [name for name in actors.__all__ if f"`{name}" not in text]
    members = [
        f"`{prefix}.{name}"
        for prefix, cls in (("app", App), ("job", Job), ("ctx", ToolContext), ("client", Client), ("handle", JobHandle))
        for name, member in _members(cls)
        if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property | classmethod))
    ]
    assert not [member for member in members if member not in text and member not in INTERNAL]
    assert not [field for field in Retry.__struct_fields__ if f"`{field}`" not in text]


def test_subjects_reference_names_every_header_stream_and_kind() -> None:
    """No header, stream or kind that is on the wire is missing."""
    text = (DOCS / "reference-subjects.md").read_text()
    names = [value for name, value in vars(headers).items() if isinstance(value, str) and name.isupper()]
    names += headers.OF_READING
    names += [stream["name"] for stream in wanted(Limits())]
    names += [subject for stream in wanted(Limits()) for subject in stream["subjects"]]
    names += [str(event.__struct_config__.tag) for event in get_args(messages.Event)]
    assert not [name for name in names if f"`{name}" not in text]


def test_operations_page_is_backed_by_tests_and_code() -> None:
    """Each fault names a test, each test that is named exists, and each variable that is read is on the page."""
    text = (DOCS / "operations.md").read_text()
    table = re.findall(r"^\| (.+) \|$", section(DOCS / "operations.md", "What happens when X dies"), re.MULTILINE)
    faults = [[cell.strip() for cell in row.split("|")] for row in table if not row.startswith(("**", "X |"))]
    assert len(faults) > 40
    assert not [fault for fault in faults if len(fault) != 6 or not _PROOF.search(fault[5])]
    assert not [(f, t) for f, t in _PROOF.findall(text) if f"def {t}(" not in (ROOT / "tests" / f).read_text()]
    code = "".join(f.read_text() for p in ("actors", "bus", "store", "supervisor") for f in (ROOT / p).rglob("*.py"))
    code += (ROOT / "cli.py").read_text()
    assert not set(re.findall(r"\"(CALLBOARD_[A-Z_]+)\"", code)) - set(re.findall(r"CALLBOARD_[A-Z_]+", text))


def test_every_metric_is_documented() -> None:
    """No metric of a node is missing."""
    code = (ROOT / "supervisor" / "metrics.py").read_text()
    named = re.findall(r'yield _(gauge|counter)\("(\w+)"', code)
    assert len(named) > 5
    metrics = [f"callboard_{name}{'_total' if kind == 'counter' else ''}" for kind, name in named]
    assert not [name for name in metrics if f"`{name}`" not in (DOCS / "operations.md").read_text()]


def test_benchmarks_are_quoted_from_one_place() -> None:
    """Speeds in the README are those of docs/benchmarks.md."""
    measured = (DOCS / "benchmarks.md").read_text()
    quoted = re.findall(r"[\d,]+ (?:jobs|steps)/s|[\d.]+ ms p50", (ROOT / "README.md").read_text())
    assert not [figure for figure in quoted if figure.split()[0] not in measured]


# ---- deploy


_AT = datetime(2026, 11, 21, tzinfo=UTC)
# Of what is sealed nothing is there: who forgets a thread that was forgotten halfway does not mind.
THREAD = Thread(
    name="t",
    began_at=_AT,
    last_at=_AT,
    last_agent="a",
    last_id="",
    sealed=(Sealed("0" * 64, exchanges=1, size_bytes=9),),
)
PASSWORDS = {"ADMIN_PASSWORD": "admin-secret", "NODE_PASSWORD": "node-secret", "CLIENT_PASSWORD": "client-secret",
             "TOOLS_PASSWORD": "tools-secret"}  # fmt: skip


async def test_permissions_of_the_example_are_enough_and_not_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With deploy/nats.conf a node runs jobs, a client submits, follows and signals, and cannot forge a job's log."""
    for variable, value in PASSWORDS.items():
        monkeypatch.setenv(variable, value)
    config = re.sub(
        r"^ *(port|http|store_dir):.*$", "", (ROOT / "deploy" / "nats.conf").read_text(), flags=re.MULTILINE
    )
    async with await EmbeddedServer.start(config=config) as server:
        async with await Bus.connect(_user(server, "admin", "admin-secret")) as admin:
            await ensure_streams(admin)
            await Blobs(admin).put(b"makes the bucket")
        node = _node(server, tmp_path)
        try:
            client_options = _user(server, "shop", "client-secret", inbox_prefix="_INBOX.shop")
            async with Client(await Bus.connect(client_options), "shop", owns_bus=True) as client:
                await _use_everything(client, node)
        finally:
            await asyncio.to_thread(end, node)
    said = (tmp_path / "node.log").read_text()
    assert "ermission" not in said, said


def _user(server: EmbeddedServer, user: str, password: str, **more: Any) -> ConnectOptions:
    return ConnectOptions(servers=[server.url], user=user, password=password, **more)


def _node(server: EmbeddedServer, directory: Path) -> subprocess.Popen[bytes]:
    """A node named n1, as the systemd unit starts it."""
    surroundings = {"NATS_URL": server.url, "NATS_USER": "n1", "NATS_PASSWORD": "node-secret", "PYTHONPATH": str(ROOT),
                    "CALLBOARD_DATA_DIR": str(directory / "data")}  # fmt: skip
    command = [sys.executable, "-m", "cli", "node", "examples.shop:app", "--name", "n1"]
    with (directory / "node.log").open("wb") as log:
        return subprocess.Popen(command, env={**os.environ, **surroundings}, cwd=directory, stdout=log, stderr=log)


async def _use_everything(client: Client, node: subprocess.Popen[bytes]) -> None:
    """What a client may do works, by name, by component and with a big input; what it may not is refused."""

    async def is_up() -> bool:
        assert node.poll() is None
        statuses = await node_statuses(client.bus, wait_s=0.2)
        return bool(statuses) and all(actor.doing for actor in statuses[0].actors)

    await wait_until(is_up, START_S)
    by_name = await client.submit("order", sku="A1", packing_s=0)
    assert (await by_name.result(20))["total"] == 19.5
    big = await client.submit(shop.order, sku="B2", qty=9, job_id="big")
    await big.signal("approve", "x" * 300_000)
    assert (await big.result(20)).total == 1080.0
    async with contextlib.aclosing(big.follow()) as items:
        first = await anext(items)
    assert isinstance(first, Followed) and isinstance(first.event, messages.JobSubmitted)
    await append_unfenced(
        client.bus, client.blobs, "shop", ApprovalAnswered(job="big", call="approval:1", approved=True)
    )
    await Kv(client.bus, "threads").put("shop.t", msgspec.json.encode(THREAD))
    assert await client.threads.forget("t") == THREAD and not await client.threads.list()
    for subject in (
        "log.shop.big.approval.asked",
        "log.shop.big.job.completed",
        "log.shop.big.reply.completed",
        "jobs.other.order",
        "$KV.threads.other.t",
    ):
        with pytest.raises(PermissionRefused):
            await client.bus.append(subject, b"{}")
