"""Apps that cannot run, nodes that contradict each other, and messages in the log that nobody can read."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors.node.process import EXIT_CONFIG, EXIT_IMPORT
from bus import headers as h
from bus.embedded import EmbeddedServer
from bus.messages import CallTool, JobCompleted, JobRejected, ReplyCompleted, ReplyFailed, encode
from bus.options import ConnectOptions
from bus.reader import read_all
from bus.streams import EVENTS
from store.log import append_unfenced
from supervisor.child import ChildSpec
from supervisor.restart import Group
from supervisor.tree import GroupGivenUp, SupervisionEvent, Supervisor
from tests.actor_process import run_actor
from tests.stage import Stage, stage
from tests.waiting import wait_until

BAD = "tests.apps.bad:app"


def options(server: EmbeddedServer) -> ConnectOptions:
    """How to connect."""
    return ConnectOptions(servers=[server.url])


# ---- apps that cannot be loaded

BROKEN = {
    "missing import": ("import no_such_module_anywhere", "No module named 'no_such_module_anywhere'"),
    "syntax": ("def f(:\n    pass", "SyntaxError"),
    "raises": ("raise RuntimeError('no database')", "RuntimeError: no database"),
    "exits": ("import sys\nsys.exit('not today')", "it called sys.exit('not today')"),
    "no app": ("answer = 42", "holds no App"),
    "bad tool": (
        "from actors import App\napp = App('x', version='1.0.0')\n@app.tool\ndef t(a: 'Nowhere') -> int: ...",
        "Nowhere",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("role", ["describe", "tool"])
async def test_module_that_does_not_import(tmp_path: Path, case: str, role: str) -> None:
    """One line that says where and why, without a server; exit code 78 if another try would end the same way."""
    code_text, words = BROKEN[case]
    module = tmp_path / "broken.py"
    module.write_text(code_text)
    rest = ("t", "1") if role == "tool" else ()
    code, err = await run_actor(ConnectOptions(servers=["nats://127.0.0.1:1"]), tmp_path, role, str(module), *rest)
    assert code == (EXIT_IMPORT if case in ("raises", "exits") else EXIT_CONFIG)
    assert err.startswith("error: ")
    assert words in err
    assert "Traceback" not in err


async def test_component_that_the_app_does_not_have(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The roster and the code may differ after an upgrade: said, and exit code 78."""
    code, err = await run_actor(options(nats_server), tmp_path, "tool", BAD, "nothing", "1")
    assert (code, "app 'bad' has no tool nothing@1" in err) == (EXIT_CONFIG, True), err


# ---- two nodes, one version, different schemas

QUOTE = (
    "from actors import App\napp = App('shop', version='1.0.0')\n@app.tool\nasync def quote({}) -> int:\n    return 1\n"
)


def quote_app(tmp_path: Path, name: str, parameters: str) -> str:
    """A module with the tool ``quote``; returns its target."""
    file = tmp_path / f"{name}.py"
    file.write_text(QUOTE.format(parameters))
    return str(file)


async def test_other_schema_under_a_version_that_runs(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """The second node's process ends with code 78 and says what differs and where; the first goes on."""
    one, two = quote_app(tmp_path, "shop_one", "sku: str"), quote_app(tmp_path, "shop_two", "sku: str, qty: int")
    async with stage(nats_server.url, tmp_path, one, node="n1") as on:
        await until_announced(on, "quote")
        code, err = await run_actor(options(nats_server), tmp_path, "tool", two, "quote", "1", node="n2")
        assert code == EXIT_CONFIG
        assert "error: tool quote 1.0.0 runs with another schema on n1" in err
        assert "qty" in err
        assert "give this one another version" in err
        assert all(status.restarts == 0 for status in on.supervisor.statuses())


async def test_two_schemas_at_the_same_moment(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Of two nodes that start together exactly one serves."""
    targets = [quote_app(tmp_path, "same_one", "sku: str"), quote_app(tmp_path, "same_two", "sku: int")]
    ended: list[str] = []

    def note(event: SupervisionEvent) -> None:
        if isinstance(event, GroupGivenUp):
            ended.append(event.reason)

    async with stage(nats_server.url, tmp_path, BAD, only=("act",)) as on:
        specs = [
            ChildSpec(name=f"node-{i}", argv=spec.argv, env={**spec.env, "CALLBOARD_NODE": f"n{i}"}, group=f"node-{i}")
            for i, target in enumerate(targets)
            for spec in [tool_spec(on, target)]
        ]
        supervisor = Supervisor(specs, default=Group(max_restarts=1, period_s=60), on_event=note)
        await supervisor.start()
        try:
            await wait_until(lambda: ended, deadline_s=30)
            assert "exit code 78" in ended[0] or "78" in ended[0]
            assert sorted(status.state for status in supervisor.statuses()) == ["given_up", "running"]
        finally:
            await supervisor.stop(limit_s=5)


def tool_spec(on: Stage, target: str) -> ChildSpec:
    """How the stage would start the tool ``quote`` of ``target``."""
    model = on.supervisor._groups["act"].seats["act-1"].spec
    argv = (*model.argv[: model.argv.index("tool")], "tool", target, "quote", "1")
    return msgspec.structs.replace(model, argv=argv)


async def until_announced(on: Stage, name: str) -> None:
    """Wait until the component answers as a micro service."""

    async def answers() -> bool:
        found = await on.bus.gather(f"$SRV.PING.{name}", done=lambda m: False, timeout_s=0.1, strict=False)
        return any(not m.headers for m in found)

    await wait_until(answers)


# ---- what nobody can read

GARBAGE: dict[str, tuple[bytes, str, str]] = {
    "bytes": (b"\xff\xfe\x00", "", "invalid"),
    "text": (b"hello", "", "malformed"),
    "deep": (b'{"type":"call.tool","input":' + b"[" * 100_000, "", "recursion"),
    "no type": (b'{"job":"odd","call":"act:1"}', "act:1", "missing required field `type`"),
    "unknown type": (b'{"type":"call.rocket","job":"odd","call":"act:1"}', "act:1", "Invalid value 'call.rocket'"),
    "other type": (
        b'{"type":"job.completed","job":"odd","at":"2026-01-01T00:00:00Z","call":"act:1"}',
        "act:1", "the body is a job.completed, not a call of a tool",
    ),
    "other job": (encode(CallTool(job="other", call="act:1", name="act", version=1)), "act:1", "of job 'other'"),
    "other tool": (encode(CallTool(job="odd", call="x:1", name="x", version=1)), "x:1", "the body is call.tool.x.v1"),
    "lost blob": (
        b'{"type":"call.tool","job":"lost","call":"act:1","name":"act","version":1,"at":"2026-01-01T00:00:00Z",'
        b'"blob":{"sha256":"' + b"0" * 64 + b'","size_bytes":9}}', "act:1", "is not in the object store",
    ),
}  # fmt: skip


async def consumer_is_idle(on: Stage, name: str) -> bool:
    """Nothing waits, nothing is held."""
    info = await on.bus.api(f"CONSUMER.INFO.{EVENTS}.{name}")
    return (info["num_pending"], info["num_ack_pending"]) == (0, 0)


async def check_serves(on: Stage) -> None:
    """A good job after the bad ones completes; nothing bad is left in the queue, and no process has died."""
    await on.submit("ask", "good", {"tool": "act", "mode": "ok"})
    assert isinstance(await on.end("good"), JobCompleted)
    await wait_until(lambda: consumer_is_idle(on, "tool-act-v1"), deadline_s=30)
    assert all(status.restarts == 0 for status in on.supervisor.statuses())


async def test_unreadable_commands(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Each leaves a reply with code ``unreadable`` in the log where it stands, for its call if that can be told."""
    async with stage(nats_server.url, tmp_path, BAD, only=("act", "ask")) as on:
        for case, (body, _, _) in GARBAGE.items():
            job = "lost" if case == "lost blob" else "odd"
            await on.bus.append(f"log.default.{job}.call.tool.act.v1", body)
        await check_serves(on)
        stored = await read_all(on.bus, EVENTS, "log.*.*.reply.failed")
        replies = [msgspec.json.decode(s.body, type=ReplyFailed) for s in stored]
        assert {e.failure.code for e in replies} == {"unreadable"}
        for case, (_, call, words) in GARBAGE.items():
            assert any(e.call == call and words in e.failure.message for e in replies), (case, words)
        assert len(replies) == len(GARBAGE)
        assert on.effects() == ["good/act:1 1"]


async def test_command_of_the_future(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """Fields that are not known yet are ignored; input that the tool does not take fails the call, with the path."""
    async with stage(nats_server.url, tmp_path, BAD, only=("act", "ask")) as on:
        base: dict[str, Any] = {
            "type": "call.tool",
            "job": "new",
            "at": "2031-01-01T00:00:00Z",
            "name": "act",
            "version": 1,
        }
        for call, more in {
            "good": {"input": {"mode": "ok"}, "mood": {"of": ["the", 1]}, "retry": {"attempts": 2, "hope": True}},
            "odd retry": {"input": {"mode": "ok"}, "retry": {"attempts": -5}, "timeout_s": 1e300},
            "bad input": {"input": {"mode": 5}},
            "no input": {},
        }.items():
            body = msgspec.json.encode({**base, "call": call, **more})
            await on.bus.append("log.default.new.call.tool.act.v1", body)
        await check_serves(on)
        events = [r.event for r in await on.events("new")]
        assert {e.call for e in events if isinstance(e, ReplyCompleted)} == {"good", "odd retry"}
        failed = {e.call: (e.failure.code, e.failure.path) for e in events if isinstance(e, ReplyFailed)}
        assert failed == {"bad input": ("invalid_input", "$.mode"), "no input": ("invalid_input", "$")}


async def test_garbage_in_the_log_of_a_job(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A running job and the host that takes it over leave out what nobody can read."""
    async with stage(nats_server.url, tmp_path, BAD, only=("waiting", "act", "ask")) as on:
        await on.submit("ask", "job", {"tool": "waiting", "mode": "wait"})
        await wait_until(lambda: bool(on.effects()))
        for kind in ("reply.completed", "reply.failed", "signal.cancel", "signal.x", "job.waiting", "job.future", "x"):
            for body in (b"\x00", b"[]", b'{"type":"reply.imagined","job":"job"}', b"[" * 100_000):
                await on.bus.append(f"log.default.job.{kind}", body)
        os.kill(on.pid("host-1"), signal.SIGKILL)
        reply = ReplyCompleted(job="job", call="waiting:1", output=msgspec.Raw(b"7"))
        await append_unfenced(on.bus, on.blobs, "default", reply)
        end = await on.end("job")
        assert isinstance(end, JobCompleted)
        assert bytes(end.output) == b"7"
        await on.submit("ask", "good", {"tool": "act", "mode": "ok"})
        assert isinstance(await on.end("good"), JobCompleted)


async def test_id_whose_log_begins_with_garbage(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A request under it is refused with a trace after some tries, and not tried for ever."""
    async with stage(nats_server.url, tmp_path, BAD, only=("order",)) as on:
        await on.bus.append("log.default.odd.job.submitted", b"\xff")
        await on.submit("order", "odd", {"items": []})

        async def rejected() -> bool:
            return bool(await read_all(on.bus, EVENTS, "log.*.*.job.rejected"))

        await wait_until(rejected, deadline_s=60)
        stored = (await read_all(on.bus, EVENTS, "log.*.*.job.rejected"))[0]
        event = msgspec.json.decode(stored.body, type=JobRejected)
        assert event.requested_job == "odd"
        assert event.failure.code == "job_id_conflict"
        await on.submit("order", "good", {"items": []}, **{h.TRACEPARENT: "\u20ac"})
        assert isinstance(await on.end("good"), JobCompleted)


async def test_a_tool_that_the_machine_cannot_offer_is_not_served(nats_server: EmbeddedServer, tmp_path: Path) -> None:
    """A sandbox that is weaker than required ends the tool's process at once, as one that no restart can help."""
    settings = {"CALLBOARD_PYTHON_REQUIRE": "bubblewrap", "PATH": str(tmp_path)}  # where no bwrap is
    arguments = ("tool", "actors.toolbox.app:app", "python", "1")
    code, err = await run_actor(options(nats_server), tmp_path, *arguments, **settings)
    assert code == EXIT_CONFIG
    assert "error: this machine offers no sandbox of the isolation 'bubblewrap'" in err
