"""``callboard artifacts``: what a job and its children made, found in their logs, written without doing harm."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from actors import App, Job, ToolContext
from actors.clients.client import Client
from actors.command_bodies import artifacts as command
from actors.command_bodies.session import Session
from actors.console.page import plain_lines
from actors.listings.artifact_page import artifact_page
from actors.toolbox import Chart, Sql
from bus.embedded import EmbeddedServer
from bus.errors import UsageError
from bus.messages import CallJob, Event, JobCompleted, ReplyCompleted
from store.artifact import Artifact, artifacts_in, describe
from store.job_artifacts import made_in
from tests.troupe import troupe


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def test_artifacts_of_a_tree_of_jobs() -> None:
    """Each artifact once, where it came from first; the first of two replies counts; a loop of ids ends."""
    one, two, three, late = (describe(name, name.encode()) for name in ("1.txt", "2.txt", "3.txt", "late.txt"))
    logs: dict[str, list[Event]] = {
        "top": [
            ReplyCompleted(job="top", call="draw:1", output=_raw({"files": [one]})),
            ReplyCompleted(job="top", call="draw:1", output=_raw(late)),
            CallJob(job="top", call="part:1", name="part", version=1, child="part"),
            ReplyCompleted(job="top", call="part:1", output=_raw([two])),
            JobCompleted(job="top", output=_raw({"all": [one, two], "last": three})),
        ],
        "part": [
            ReplyCompleted(job="part", call="write:1", output=_raw(two)),
            CallJob(job="part", call="again:1", name="top", version=1, child="top"),
            CallJob(job="part", call="gone:1", name="x", version=1, child="gone"),
        ],
    }
    found = [(made.artifact, made.job, made.call) for made in made_in("top", lambda job: logs.get(job, []))]
    assert found == [(one, "top", "draw:1"), (two, "part", "write:1"), (three, "top", "")]


def test_what_only_looks_like_an_artifact_is_none() -> None:
    """Data of the user's that says artifact stops nothing."""
    for value in ({"artifact": "file", "name": "x", "sha256": "y"}, {"artifact": "file"}, {"artifact": 1},
                  {"artifact": "file", "name": 1, "media_type": "a", "size_bytes": 1, "sha256": "y"}):  # fmt: skip
        assert list(artifacts_in([value])) == []
    artifact = describe("a", b"a")
    assert list(artifacts_in([msgspec.to_builtins(artifact)])) == [artifact]


async def _said(session: Session, job: str, capsys: pytest.CaptureFixture[str], **options: Any) -> list[Any]:
    capsys.readouterr()
    assert await command.artifacts(session, job, **{"folder": "", "name": "", "opens": False, **options}) == 0
    found: list[Any] = json.loads(capsys.readouterr().out)
    return found


def _desk(folder: Path) -> App:
    with contextlib.closing(sqlite3.connect(folder / "figures.db")) as db:
        db.executescript(
            "CREATE TABLE orders (day TEXT, pieces INTEGER); INSERT INTO orders VALUES ('d1', 1), ('d2', 2);"
        )
    app = App("desk")
    [sql, _], [chart] = app.use(Sql(f"sqlite:///{folder / 'figures.db'}")).tools, app.use(Chart()).tools

    @app.tool
    async def write(ctx: ToolContext, name: str, text: str) -> Artifact:
        return await ctx.artifact(name, text.encode())

    @app.job
    async def part(job: Job) -> Artifact:
        file: Artifact = await job.call(write, "note.txt", "of the child")
        return file

    @app.job
    async def report(job: Job) -> list[Artifact]:
        table = await job.call(sql, "SELECT day, pieces FROM orders")
        drawn = await job.call(chart, "bar", table, "day", "pieces", title="Pieces", formats=["html", "json"])
        note: Artifact = await job.call(write, "note.txt", "of the parent")
        await job.call(part)
        return [*drawn.files, note]

    return app


async def test_a_report_with_a_chart(
    nats_server: EmbeddedServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job asks a database and draws; its files and its child's are listed, written, and never over others."""
    app, out = _desk(tmp_path), tmp_path / "out"
    session = Session(nats_server.url, json=True)
    async with troupe(nats_server.url, app) as on, Client(on.bus) as client:
        handle = await client.submit(next(each for each in app.components if each.name == "report"))
        await handle.result(timeout_s=60)
        job = handle.id
        rows = await _said(session, job, capsys)
        assert [(row["name"], row["call"], row["of_child"]) for row in rows] == [
            ("pieces.html", "chart:1", False), ("pieces.json", "chart:1", False), ("note.txt", "write:1", False),
            ("note.txt", "write:1", True),
        ]  # fmt: skip
        out.mkdir()
        (out / "pieces.json").write_text("mine")
        secret = tmp_path / "elsewhere.txt"
        (out / "note.txt").symlink_to(secret)
        saved = await _said(session, job, capsys, folder=str(out))
        assert [Path(row["path"]).name for row in saved] == ["pieces.html", "pieces-2.json", "note-2.txt", "note-3.txt"]
        assert (out / "pieces.json").read_text() == "mine" and not secret.exists()
        assert (out / "note-2.txt").read_text() == "of the parent" and (
            out / "note-3.txt"
        ).read_text() == "of the child"
        assert [row["y"] for row in json.loads((out / "pieces-2.json").read_text())["data"]] == [[1, 2]]
        before = sorted(out.iterdir())
        assert await _said(session, job, capsys, folder=str(out)) == saved and sorted(out.iterdir()) == before
        assert [row["name"] for row in await _said(session, job, capsys, name="*.html")] == ["pieces.html"]
        await _checks_of_errors(session, job, tmp_path)
        await _checks_of_opening(session, job, tmp_path, capsys, monkeypatch)


async def _checks_of_errors(session: Session, job: str, tmp_path: Path) -> None:
    for options, words in (({"name": "x.png"}, "there are: pieces.html, pieces.json, note.txt"),
                           ({"folder": str(tmp_path / "figures.db")}, "a folder that can be written to")):  # fmt: skip
        with pytest.raises(UsageError) as caught:
            await command.artifacts(session, job, **{"folder": "", "name": "", "opens": False, **options})  # type: ignore[arg-type]
        assert words in str(caught.value)
    with pytest.raises(UsageError, match="nobody"):
        await command.artifacts(session, "nobody", folder="", name="", opens=False)


async def _checks_of_opening(
    session: Session, job: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(command, "_open", lambda _, path: opened.append(path))
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(command.sys, "platform", "linux")
    with pytest.raises(UsageError, match="--save DIR"):
        await command.artifacts(session, job, folder="", name="", opens=True)
    program = tmp_path / "bin" / "xdg-open"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("PATH", str(program.parent))
    await _said(session, job, capsys, name="note.txt", opens=True)
    assert [path.read_text() for path in opened] == ["of the parent", "of the child"]


def test_how_it_looks() -> None:
    """A table with who made what; names that would move the cursor are shown as what they are."""
    row = command._row(
        "top", command.MadeArtifact(artifact=describe("a\x1b[2J.txt", b"abc"), job="part", call="w:1"), None
    )
    text = "\n".join(plain_lines(artifact_page([row])))
    assert "\x1b" not in text and "w:1 of part" in text and row.sha256[:12] in text and "1 artifact" in text
    assert plain_lines(artifact_page([])) == ["the job has no artifacts"]
