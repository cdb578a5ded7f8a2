"""The demo of agents: a team answers a question over real figures, and its analyst is killed in the middle.

    make demo-agents                                          the models play a script, no key is needed
    make demo-agents ARGS='--model anthropic:claude-sonnet-5' a real model (the default if ANTHROPIC_API_KEY is set)
    make demo-agents ARGS='--out report --question "..."'     where the report goes; another question, for real models

Exit codes: 0 all is well, 1 something is not as it has to be, 2 wrong use, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from actors import Client, TeamResult
from actors.agents.trace import trace_of
from actors.console.page import Gap, Page, Span, facts, line
from bus.embedded import EmbeddedServer
from bus.errors import CallboardError
from bus.messages import CallAgent, CallTool, Ended, JobCompleted, JobFailed, JobOwned, ReplyCompleted
from bus.system_events import ActorStarted
from examples.agents import desk
from examples.demo import NODE, ROOT, DemoFailed, Show, cancel_on_signals, running_node, until_ready
from store.log import read_job
from store.tail import Followed, TailItem, live_filter, tail

SCRIPTED_LIMIT_S, REAL_LIMIT_S = 120.0, 1200.0
VICTIM = "analyst-1"
# What is shown of the log while the team works: who is given what, and what the team says.
_SHOWN = ("call.agent", "call.tool", "emit.", "job.completed", "actor.exited", "actor.started")


@dataclass
class Story:
    """What happened. ``analyst_jobs`` are the analyst's, in the order in which the team began them."""

    is_scripted: bool
    began_s: float = field(default_factory=time.monotonic)
    analyst_jobs: list[str] = field(default_factory=list)
    killed_pid: int = 0
    killed_in: str = ""
    new_pid: int = 0
    is_done: bool = False


# ---- the play


async def play(show: Show, arguments: argparse.Namespace, scratch: Path, out: Path) -> None:
    """Everything in order. Raises: DemoFailed, CallboardError."""
    story, ledger = Story(is_scripted=not arguments.model), scratch / "asked"
    surroundings = {"TEAM_LEDGER": str(ledger), "TEAM_MODEL": arguments.model}
    target = "examples.agents.desk:app"
    async with await EmbeddedServer.start() as server, running_node(server.url, scratch, target, surroundings) as node:
        show.say(f"nats-server {server.url} and node {NODE} start; the models: {arguments.model or 'a script'}")
        async with Client.connect(server.url) as client:
            status = await until_ready(client, node, scratch)
            show.say("each actor is a process: " + ", ".join(f"{a.name} {a.pid}" for a in status.actors))
            pid = next(actor.pid for actor in status.actors if actor.name == VICTIM and actor.pid)
            handle = await client.submit(desk.team.job, task=arguments.question)
            show.say(f"job {handle.id}: {arguments.question}")
            await _watch(client, show, story, handle.id, pid)
            result = await handle.result(timeout_s=10)
            show.say("the report")
            show.screen.show([Gap(), *(line(text) for text in result.report.splitlines()), Gap()])
            show.say(f"the trace: callboard trace {handle.id}")
            await _command(server.url, scratch, "trace", handle.id)
            show.say(f"all files that tools made: callboard artifacts {handle.id}")
            await _command(server.url, scratch, "artifacts", handle.id)
            files = {each.name: await client.blobs.get(each.sha256) for each in result.artifacts}
            saved = _write(out, {"report.md": f"{result.report}\n".encode(), **files})
            told = await _verify(client, story, handle.id, ledger)
        show.screen.show([Gap(), *_what_happened(story, result, told, saved)])


async def _watch(client: Client, show: Show, story: Story, job: str, victim: int) -> None:
    """Show the log until the job has ended and the killed process is back."""
    source = cast("AsyncGenerator[TailItem, None]", tail(client.bus, client.blobs, live_filter()))
    async with contextlib.aclosing(source) as items:
        async for item in items:
            if not isinstance(item, Followed):
                continue
            if item.event.kind.startswith(_SHOWN):
                show.event(item)
            if _is_the_moment(story, item, job):
                story.killed_pid, story.killed_in = victim, item.event.job
                os.kill(victim, signal.SIGKILL)
                show.say(f"kill -9 {victim} ({VICTIM}), in the middle of job {item.event.job}")
            if story.is_done and (story.new_pid or not story.killed_pid):
                return


def _write(out: Path, files: Mapping[str, bytes]) -> list[Path]:
    """The report and the files that it shows, as they were in the end."""
    out.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        (out / name).write_bytes(data)
    return [out / name for name in files]


def _is_the_moment(story: Story, item: Followed, job: str) -> bool:
    """Whether the analyst has just asked for a tool, so that none of its calls of the model is under way.

    The script sends its work back: then it works on that alone. Raises: DemoFailed.
    """
    match item.event:
        case CallAgent(job=by, name="analyst", child=child) if by == job:
            story.analyst_jobs.append(child)
        case CallTool(job=by, name=tool) if by in story.analyst_jobs and not story.killed_pid:
            return not story.is_scripted or (tool == "chart" and by in story.analyst_jobs[2:])
        case ActorStarted(actor=actor, pid=pid) if actor == VICTIM and story.killed_pid not in (0, pid):
            story.new_pid = pid
        case JobCompleted(job=ended) if ended == job:
            story.is_done = True
        case event if event.job == job and isinstance(event, Ended):
            why = event.failure.message if isinstance(event, JobFailed) else event.kind
            raise DemoFailed(f"the job did not complete: {why}")
    return False


async def _command(url: str, scratch: Path, *words: str) -> None:
    """Run a command as anybody would."""
    env = {**os.environ, "CALLBOARD_DATA_DIR": str(scratch), "NATS_URL": url}
    sys.stdout.flush()
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "cli", *words, cwd=ROOT, env=env)
    if await process.wait():
        raise DemoFailed(f"callboard {' '.join(words)} ended with code {process.returncode}")


# ---- was it right?


@dataclass(frozen=True)
class Counted:
    """``steps`` are the answers of models on record, ``asked`` how often models were asked (None: nobody counted)."""

    jobs: int
    steps: int
    tools: int
    asked: int | None
    owners: int


async def _verify(client: Client, story: Story, job: str, ledger: Path) -> Counted:
    """Look into the logs of the team and of all who worked for it. Raises: DemoFailed."""
    jobs = await _tree(client, job)
    steps, tools, owners, twice = 0, 0, 0, list[str]()
    for each in jobs:
        steps += sum(len(run.turns) for run in trace_of(await client.get(each)).runs)
        log = [recorded.event for recorded in await read_job(client.bus, client.blobs, client.workspace, each)]
        calls = Counter(event.call for event in log if isinstance(event, CallTool))
        answers = Counter(event.call for event in log if isinstance(event, ReplyCompleted))
        twice += [f"{each} {call}" for call in calls | answers if answers[call] != 1 or calls[call] > 1]
        tools += len(calls)
        owners += sum(isinstance(event, JobOwned) for event in log) if each == story.killed_in else 0
    asked = _lines(ledger) if story.is_scripted else None
    if twice:
        raise DemoFailed(f"done twice, or never answered: {', '.join(twice)}")
    if asked is not None and asked != steps:
        raise DemoFailed(f"models were asked {asked} times, and {steps} answers are on record")
    if story.killed_in and owners < 2:
        raise DemoFailed(f"{VICTIM} was killed, and nobody took over job {story.killed_in}")
    return Counted(len(jobs), steps, tools, asked, owners)


def _lines(ledger: Path) -> int:
    return len(ledger.read_text().splitlines())


async def _tree(client: Client, job: str) -> list[str]:
    """The job and all that were begun for it."""
    found = [job]
    for call in (await client.get(job)).calls:
        found += await _tree(client, call.child) if call.child else []
    return found


def _what_happened(story: Story, result: TeamResult, counted: Counted, saved: list[Path]) -> Page:
    again = ", ".join(f"{task.id} in {task.rounds} rounds" for task in result.tasks if task.rounds > 1) or "none"
    asked = f", {counted.asked} asked for: none twice" if counted.asked is not None else ""
    killed = f"{VICTIM}, pid {story.killed_pid}; pid {story.new_pid} went on with job {story.killed_in}"
    return [
        line(Span("What happened", "strong")),
        facts([
            ("plan", f"{len(result.tasks)} tasks for {', '.join(sorted({task.role for task in result.tasks}))}"),
            ("sent back", f"{again}; accepted in the end: {'yes' if result.accepted else 'no'}"),
            ("killed", killed if story.killed_pid else "nobody: no tool was asked for"),
            ("models", f"{counted.steps} answers on record in {counted.jobs} jobs{asked}"),
            ("tools", f"{counted.tools} calls, each in the log once and answered once"),
            ("report", f"{len(result.statements)} statements on {len(result.sources)} sources"),
            *(("saved", str(file)) for file in saved),
            ("in all", f"{time.monotonic() - story.began_s:.1f} s"),
        ]),
    ]  # fmt: skip


# ---- the program


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    default = "anthropic:claude-sonnet-5" if os.environ.get("ANTHROPIC_API_KEY") else ""
    parser = argparse.ArgumentParser(prog="python -m examples.agents.demo")
    which = "a real model; '' for the script [default: Claude if ANTHROPIC_API_KEY is set]"
    parser.add_argument("--model", default=default, metavar="REF", help=which)
    parser.add_argument("--question", default=desk.QUESTION, help="another question, for real models")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where report and files go [default: a new folder]")
    return parser.parse_args(argv)


async def _perform(show: Show, arguments: argparse.Namespace) -> None:
    cancel_on_signals()
    out = arguments.out or Path(tempfile.mkdtemp(prefix="callboard-report-"))
    with tempfile.TemporaryDirectory(prefix="callboard-demo-") as scratch:
        async with asyncio.timeout(REAL_LIMIT_S if arguments.model else SCRIPTED_LIMIT_S):
            await play(show, arguments, Path(scratch), out)


def main(argv: list[str] | None = None) -> int:
    """Run the demo; the exit code."""
    try:
        asyncio.run(_perform(Show(), _arguments(argv)))
    except TimeoutError:
        return _failed("not done in time")
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
