"""``callboard artifacts``: the files of a job and of the jobs below it, listed, saved and opened."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from actors.command_bodies.artifact_files import write_artifacts
from actors.command_bodies.session import EXIT_DONE, Session
from actors.jobs.signals import unknown_job
from actors.listings.artifact_page import ArtifactRow, artifact_page
from bus.errors import UsageError
from bus.subjects import check_job_id
from store.artifact import Artifact
from store.family import read_family
from store.job_artifacts import MadeArtifact, made_in

if TYPE_CHECKING:
    from actors.clients.client import Client

OPEN_LIMIT = 10


async def artifacts(session: Session, job: str, *, folder: str, name: str, opens: bool) -> int:
    """List what there is; write it to ``folder``, open it. Raises: UsageError, BusError."""
    check_job_id(job)
    opener = _opener(os.environ) if opens else ""
    screen = session.screen()
    async with await session.client() as client:
        made = _chosen(await _made(client, job), name)
        if opens and len(made) > OPEN_LIMIT:
            raise UsageError(f"{len(made)} artifacts are too many to open, {OPEN_LIMIT} at most", code="bad_usage",
                             path="--open", hint="choose some with --name, such as --name '*.html'")  # fmt: skip
        paths = await _saved(client, made, folder, opens=opens)
    rows = [_row(job, one, paths.get(one.artifact)) for one in made]
    if session.json:
        screen.show_json(rows)
    else:
        screen.show(artifact_page(rows))
    for path in paths.values() if opens else ():
        _open(opener, path)
    return EXIT_DONE


async def _made(client: Client, job: str) -> list[MadeArtifact]:
    """Of the job and all below it. Raises: UsageError (``unknown_job``), BusError."""
    family = await read_family(client.bus, client.blobs, client.workspace, job, lambda _, events: events)
    if job not in family:
        raise unknown_job(client.workspace, job)
    return made_in(job, lambda each: family[each].found if each in family else ())


def _chosen(made: list[MadeArtifact], name: str) -> list[MadeArtifact]:
    if not name:
        return made
    chosen = [one for one in made if one.artifact.name == name or fnmatchcase(one.artifact.name, name)]
    if not chosen:
        there = ", ".join(dict.fromkeys(one.artifact.name for one in made)) or "none"
        raise UsageError(f"no artifact is named {name!r}", code="unknown_artifact", path="--name",
                         hint=f"there are: {there}")  # fmt: skip
    return chosen


async def _saved(client: Client, made: list[MadeArtifact], folder: str, *, opens: bool) -> dict[Artifact, Path]:
    if not made or not (folder or opens):
        return {}
    place = Path(folder) if folder else Path(tempfile.mkdtemp(prefix="callboard-"))
    return {
        artifact: path async for artifact, path in write_artifacts(client.blobs, place, [one.artifact for one in made])
    }


def _row(job: str, made: MadeArtifact, path: Path | None) -> ArtifactRow:
    artifact = made.artifact
    return ArtifactRow(
        name=artifact.name, media_type=artifact.media_type, size_bytes=artifact.size_bytes, sha256=artifact.sha256,
        job=made.job, call=made.call, of_child=made.job != job, path=str(path) if path else "",
    )  # fmt: skip


# ---- the desktop


def _opener(environ: Mapping[str, str]) -> str:
    """The program that opens a file as the desktop would. Raises: UsageError if there is none."""
    has_desktop = sys.platform == "darwin" or environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    program = shutil.which("open" if sys.platform == "darwin" else "xdg-open", path=environ.get("PATH"))
    if not (has_desktop and program):
        raise UsageError("there is no desktop here to open files with", code="no_desktop", path="--open",
                         hint="write them with --save DIR")  # fmt: skip
    return program


def _open(opener: str, path: Path) -> None:
    nothing = subprocess.DEVNULL
    subprocess.Popen(
        [opener, str(path.resolve())], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
    )
