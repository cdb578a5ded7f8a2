"""The demo: a server, a node, a real job, and a process that is killed in the middle of it.

    make demo                              survey Python's standard library
    make demo ARGS=path/to/your/code       survey that directory
    make demo ARGS=--fast                  survey one small package
    make demo ARGS='--snapshot job.json'   keep the job's log, for callboard replay --file job.json

It ends with the job's result, compared with a count of the demo's own, and leaves no process behind. Exit codes: 0 all
is well, 1 something is not as it has to be, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec

from actors import Client
from actors.clients.handle import JobHandle
from actors.console.event_line import event_line
from actors.console.page import Gap, Line, Page, Span, cut, facts, line
from actors.console.result_page import result_page
from actors.console.screen import Screen
from bus.embedded import EmbeddedServer
from bus.errors import CallboardError, UsageError
from bus.messages import CallTool, Ended, JobCompleted, ReplyCompleted, ReplyProgress
from bus.paths import DATA_DIR_VARIABLE
from bus.system_events import ActorStarted
from examples import survey
from store.log import read_job
from store.snapshot import Snapshot, encode_snapshot, take_snapshot
from store.tail import Followed, TailItem, live_filter, tail
from supervisor.node import NodeStatus, node_statuses

ROOT = Path(__file__).parent.parent
NODE, VICTIM = "demo", "parse_files-1"
LIMIT_S = 60.0
STOP_LIMIT_S = 15.0
CALLS = 24  # as many as a kill in the middle needs
STDLIB = Path(sysconfig.get_path("stdlib"))


class DemoFailed(Exception):
    """Something is not as it has to be."""


class Plan:
    """What is surveyed: ``path`` as the job takes it, and what the report has to say in the end."""

    def __init__(self, directory: Path | None, snapshot: Path | None = None) -> None:
        self.snapshot = snapshot
        self.path = str(directory.resolve()) if directory else ""
        skipped = survey.FOREIGN if directory else survey.FOREIGN | survey.TESTS
        sources = [_content(file) for file in survey.walk(Path(self.path or STDLIB), skipped)]
        self.files = len(sources)
        self.size_bytes = sum(map(len, sources))
        self.lines = sum(len(source.splitlines()) for source in sources)
        self.batch = max(1, min(40, self.files // CALLS))
        if not sources:
            raise UsageError(f"there are no Python files below {directory}", code="nothing_to_do", path=self.path)


def _content(file: Path) -> bytes:
    with contextlib.suppress(OSError):  # the survey counts a file that it may not read, too
        return file.read_bytes()
    return b""


@dataclass
class Story:
    """What happened, and when: seconds since the start of the demo."""

    began_s: float = field(default_factory=time.monotonic)
    at_s: dict[str, float] = field(default_factory=dict)
    killed_pid: int = 0
    new_pid: int = 0
    replies: int = 0
    is_in_the_middle: bool = False
    replies_before_kill: int = 0
    run_again: set[str] = field(default_factory=set)
    pids: set[int] = field(default_factory=set)

    def mark(self, moment: str) -> None:
        """Remember when ``moment`` came, the first time."""
        self.at_s.setdefault(moment, time.monotonic() - self.began_s)

    def between(self, first: str, second: str) -> str:
        """The time between two moments."""
        return f"{self.at_s[second] - self.at_s[first]:.2f} s"


# ---- what is shown


class Show:
    """Prints our own lines and the events between them, one line each, cut to the width of the terminal."""

    def __init__(self) -> None:
        self.screen = Screen()
        self._width = shutil.get_terminal_size((120, 24)).columns
        self._mark = "> " if self.screen.ascii_only else "▶ "

    def say(self, text: str) -> None:
        """What we do now."""
        self.screen.show([line(Span(self._mark, "busy"), Span(text, "strong"))])

    def event(self, item: TailItem) -> None:
        """An event of the log; progress is left out."""
        if not (isinstance(item, Followed) and isinstance(item.event, ReplyProgress)):
            self.screen.show([_cut(event_line(item, workspace="default"), self._width)])


def _cut(whole: Line, width: int) -> Line:
    spans, left = [], width
    for span in whole.spans:
        spans.append(span._replace(text=cut(span.text, left)))
        left -= len(spans[-1].text)
        if left <= 0:
            break
    return Line(tuple(spans))


# ---- what runs beside us


@contextlib.asynccontextmanager
async def running_node(
    url: str, scratch: Path, target: str = "examples.survey:app", more: Mapping[str, str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A node with all actors of the app, started as anybody would, and stopped in order."""
    argv = ("-m", "cli", "node", target, "--name", NODE, "--nats", url)
    env = {**os.environ, DATA_DIR_VARIABLE: str(scratch), **(more or {})}
    with (scratch / "node.log").open("wb") as log:
        # A session of its own: Ctrl-C comes to us alone, and we stop the node in order.
        node = await asyncio.create_subprocess_exec(
            sys.executable, *argv, cwd=ROOT, env=env, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
            start_new_session=True,
        )  # fmt: skip
    try:
        yield node
    finally:
        await _stop(node)


async def _stop(node: asyncio.subprocess.Process) -> None:
    try:
        await _ask_to_end(node, STOP_LIMIT_S)
    finally:  # it took too long, or we are interrupted once more
        if node.returncode is None:
            await _force(node)


async def _ask_to_end(node: asyncio.subprocess.Process, limit_s: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        node.terminate()
    async with asyncio.timeout(limit_s):
        await node.wait()


async def _force(node: asyncio.subprocess.Process) -> None:
    try:
        await _ask_to_end(node, 3)  # at a second word the node kills its actors and ends at once
    except TimeoutError:
        node.kill()  # its actors end when they see it gone
        await node.wait()


async def until_ready(client: Client, node: asyncio.subprocess.Process, scratch: Path) -> NodeStatus:
    """The node's status, once each of its actors has reported for work."""
    while node.returncode is None:
        for status in await node_statuses(client.bus, wait_s=0.2):
            if status.node == NODE and all(actor.pid and actor.doing for actor in status.actors):
                return status
    said = (scratch / "node.log").read_text(errors="replace")
    raise DemoFailed(f"the node ended with exit code {node.returncode} and said:\n{said[-2000:]}")


# ---- the play


async def play(show: Show, story: Story, plan: Plan, scratch: Path) -> None:
    """Everything in order. Raises: DemoFailed, CallboardError."""
    async with await EmbeddedServer.start() as server, running_node(server.url, scratch) as node:
        show.say(f"nats-server {server.url} (pid {server.pid}) and node {NODE} (pid {node.pid}) start")
        async with Client.connect(server.url) as client:
            status = await until_ready(client, node, scratch)
            story.mark("ready")
            story.pids |= {server.pid, node.pid, *(actor.pid for actor in status.actors if actor.pid)}
            show.say("each actor is a process: " + ", ".join(f"{a.name} {a.pid}" for a in status.actors))
            handle = await client.submit(survey.survey, path=plan.path, batch=plan.batch)
            story.mark("submitted")
            show.say(
                f"job {handle.id}: survey path={plan.path or STDLIB} ({plan.files:,} files); the log from its start:"
            )
            await _watch(client, show, story, handle.id, _pid(status))
            report = await handle.result(timeout_s=5)
            await _verify(client, story, plan, handle, report)
            if plan.snapshot:
                _keep(plan.snapshot, await take_snapshot(client.bus, client.blobs, client.workspace, handle.id))
        show.screen.show([Gap(), *result_page(msgspec.to_builtins(report)), Gap()])
        show.say("stopping")
    if left := sorted(pid for pid in story.pids if _is_alive(pid)):
        raise DemoFailed(f"processes are left behind: {left}")
    story.mark("stopped")


def _keep(file: Path, snapshot: Snapshot) -> None:
    try:
        file.write_bytes(encode_snapshot(snapshot))
    except OSError as error:
        raise DemoFailed(f"cannot write {file}: {error.strerror}") from error


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _pid(status: NodeStatus) -> int:
    return next(actor.pid for actor in status.actors if actor.name == VICTIM and actor.pid)


async def _watch(client: Client, show: Show, story: Story, job: str, victim_pid: int) -> None:
    """Show the log until the job has ended and the killed process is back; kill it in the middle of a call."""
    source = cast("AsyncGenerator[TailItem, None]", tail(client.bus, client.blobs, live_filter()))
    async with contextlib.aclosing(source) as items:
        async for item in items:
            show.event(item)
            if isinstance(item, Followed):
                _follow(story, item, job)
            if story.is_in_the_middle and not story.killed_pid:
                _kill(show, story, victim_pid)
            if story.new_pid and "completed" in story.at_s:
                return


def _follow(story: Story, item: Followed, job: str) -> None:
    """What this event means for the story. Raises: DemoFailed."""
    match item.event:
        case ActorStarted(actor=actor, pid=pid) if actor == VICTIM and story.killed_pid not in (0, pid):
            story.new_pid = pid
            story.pids.add(pid)
            story.mark("restarted")
        case ReplyCompleted() as reply if reply.job == job and "parse_files" in reply.call:
            story.replies += 1
            # When the other process has a result, the victim is at work. Right after a result of its own it may be
            # between two calls; one that was sent to it and that it has not seen is given up by the server after 10 s.
            story.is_in_the_middle |= reply.actor != f"{NODE}/{VICTIM}"
            if reply.attempt > 1:
                story.run_again.add(reply.call)
        case JobCompleted() as event if event.job == job:
            story.mark("completed")
            story.is_in_the_middle = True  # so few files that the other process had none
        case event if event.job == job and isinstance(event, Ended):
            raise DemoFailed(f"the job did not complete, it ended with {event.kind}")


def _kill(show: Show, story: Story, pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    story.killed_pid, story.replies_before_kill = pid, story.replies
    story.mark("killed")
    show.say(f"kill -9 {pid} ({VICTIM})")


# ---- was it right?


async def _verify(
    client: Client, story: Story, plan: Plan, handle: JobHandle[survey.Report], report: survey.Report
) -> None:
    """Compare the report with our own count, and look for what was recorded twice. Raises: DemoFailed."""
    wrong = [
        f"the report says {told:,} {what}, and {counted:,} were counted before (was the directory edited meanwhile?)"
        for what, told, counted in (
            ("files", report.files, plan.files),
            ("lines", report.lines, plan.lines),
            ("bytes", report.size_bytes, plan.size_bytes),
        )
        if told != counted
    ]
    log = [r.event for r in await read_job(client.bus, client.blobs, client.workspace, handle.id)]
    calls = Counter(event.call for event in log if isinstance(event, CallTool))
    replies = Counter(event.call for event in log if isinstance(event, ReplyCompleted))
    wrong += [f"call {call} is in the log {n} times" for call, n in calls.items() if n > 1]
    wrong += [f"call {call} has {replies[call]} results" for call in calls if replies[call] != 1]
    if wrong:
        raise DemoFailed("; ".join(wrong))
    story.mark("verified")


def _what_happened(story: Story, plan: Plan) -> Page:
    again = f"{len(story.run_again)} cut off by the kill and run again; " if story.run_again else ""
    return [
        line(Span("What happened", "strong")),
        facts([
            ("started", f"server, node and actors in {story.at_s['ready']:.2f} s"),
            ("killed", f"{VICTIM}, pid {story.killed_pid}, {story.replies_before_kill} of {story.replies} calls done"),
            ("restarted", f"as pid {story.new_pid}, {story.between('killed', 'restarted')} after the kill"),
            ("calls", f"{again}each is in the log once and has one result"),
            ("job", f"completed in {story.between('submitted', 'completed')}"),
            ("checked", f"{plan.files:,} files, {plan.lines:,} lines, {plan.size_bytes:,} bytes: as counted before"),
            ("in all", f"{story.at_s['stopped']:.1f} s, no process left behind"),
        ]),
        Gap(),
        line(Span("Try next", "strong"), Span("  (after: source .venv/bin/activate)", "dim")),
        line("callboard up examples.survey:app          # server and node on this machine, until Ctrl-C"),
        line("callboard submit survey path=. --wait     # your own code; in another terminal, like the rest"),
        line("callboard tail                            # every event, from the first; or: nats sub 'events.>'"),
        line("callboard ps                              # pick a pid, kill -9 it while a job runs, look again"),
    ]  # fmt: skip


# ---- the program


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("directory", nargs="?", type=Path, help="what to survey [default: Python's standard library]")
    parser.add_argument("--fast", action="store_true", help="survey one small package, asyncio")
    parser.add_argument("--snapshot", type=Path, metavar="FILE", help="keep the job's log there")
    return parser.parse_args(argv)


async def _perform(show: Show, plan: Plan) -> None:
    cancel_on_signals()
    story = Story()
    with tempfile.TemporaryDirectory(prefix="callboard-demo-") as scratch:
        async with asyncio.timeout(LIMIT_S):
            await play(show, story, plan, Path(scratch))
    show.screen.show([Gap(), *_what_happened(story, plan)])


def cancel_on_signals() -> None:
    """Ctrl-C ends the play in order, a second one by force; further ones cannot keep us from cleaning up."""
    task, presses = asyncio.current_task(), iter(range(2))

    def cancel() -> None:
        if task and next(presses, None) is not None:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, cancel)


def main(argv: list[str] | None = None) -> int:
    """Run the demo; the exit code."""
    arguments = _arguments(argv)
    directory = STDLIB / "asyncio" if arguments.fast and not arguments.directory else arguments.directory
    try:
        asyncio.run(_perform(Show(), Plan(directory, arguments.snapshot)))
    except UsageError as error:
        return _failed(str(error), 2)
    except TimeoutError:
        return _failed(f"not done within {LIMIT_S:g} s")
    except (DemoFailed, CallboardError) as error:
        return _failed(str(error))
    except (asyncio.CancelledError, KeyboardInterrupt):
        return _failed("interrupted; everything is stopped", 130)
    return 0


def _failed(text: str, code: int = 1) -> int:
    sys.stderr.write(f"demo: {text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
