"""Publishing many documents at once: which files are meant, what is wrong with them, and how it goes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from actors.command_bodies.arguments import parse_inputs
from actors.command_bodies.jobs import user_name
from actors.command_bodies.session import EXIT_DONE, EXIT_JOB_FAILED, Session
from actors.console.amount import plural
from actors.console.page import line
from actors.console.workflow_page import workflow_page
from actors.listings.definition_page import published_page
from actors.workflow.document import Document
from actors.workflow.document_file import DOCUMENT_SUFFIXES, bases_beside, is_file, read_file
from actors.workflow.source import Source, read_source
from actors.workflow_rules.validation import check
from bus.errors import UsageError

if TYPE_CHECKING:
    from actors.clients.client import Client
    from actors.workflow.finding import Finding
    from actors.workflow_versions.batch import Batch
    from actors.workflow_versions.publishing import Published

PROGRESS_EVERY = 25
_EDITOR_SCHEMA = ".schema.json"


async def publish_files(session: Session, paths: list[Path], params: list[str], force: bool, dry_run: bool) -> int:
    """Publish all of them, or with one finding none; 1 if there are findings."""
    sources, values = read_sources(paths), parse_inputs(params)
    async with await session.client() as client:
        batch = await client.workflows.prepare(sources, values, force=force, read=bases_beside().read)
        if batch.findings:
            _tell(session, batch.findings, len(sources))
            return EXIT_JOB_FAILED
        done = batch.published if dry_run else await _publish(session, client, batch, force=force)
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json({"dry_run": dry_run, "published": done, "findings": []})
    else:
        screen.show(published_page(done, dry_run=dry_run))
    return EXIT_DONE


def _tell(session: Session, findings: list[Finding], files: int) -> None:
    if session.json:
        session.screen().show_json({"dry_run": True, "published": [], "findings": findings})
    else:
        session.notes().show([*workflow_page(findings, files), line("nothing was published")])


async def _publish(session: Session, client: Client, batch: Batch, *, force: bool) -> list[Published]:
    """Each by itself: a run that was cut short is done again, and goes on where it ended."""
    notes = session.notes()
    done: list[Published] = []
    for _, document in batch.ready:
        done.append(await client.workflows.publish_checked(document, by=user_name(), force=force))
        if notes.is_tty and len(done) % PROGRESS_EVERY == 0:
            notes.show([line(f"published {len(done)} of {plural(len(batch.ready), 'workflow')}")])
    return done


def read_sources(paths: list[Path]) -> list[Source]:
    """The documents that files and folders hold. Raises: UsageError if there is no such file, or a folder has none."""
    files = list(dict.fromkeys(file for path in paths for file in _files(path)))
    return [read_source(str(file), read_file(file)) for file in files]


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = [file for file in sorted(path.rglob("*")) if _is_document(file.relative_to(path)) and file.is_file()]
    if not found:
        hint = f"files that end in {', '.join(DOCUMENT_SUFFIXES)}"
        raise UsageError(f"{path} holds no document", code="no_file", path=str(path), hint=hint)
    yield from found


def _is_document(file: Path) -> bool:
    """Not what is hidden, and not the schema that editors use."""
    hidden = any(part.startswith(".") for part in file.parts)
    return file.suffix in DOCUMENT_SUFFIXES and not hidden and not file.name.endswith(_EDITOR_SCHEMA)


def make_folder(folder: Path) -> None:
    """Raises: UsageError if it cannot be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{folder} cannot be made: {reason}", code="no_file", path=str(folder)) from error


# ---- two versions


async def read_both(session: Session, old: str, new: str) -> tuple[Document, Document]:
    """Two documents, each in a file or published; for two files no server is asked. Raises: UsageError, BusError."""
    from actors.workflow_versions.definition import parse_reference

    async with contextlib.AsyncExitStack() as stack:
        client: Any = None
        documents = []
        for which in (old, new):
            if is_file(which):
                documents.append(_document(which))
                continue
            client = client or await stack.enter_async_context(await session.client())
            documents.append((await client.workflows.get(*parse_reference(which))).read())
        return documents[0], documents[1]


def _document(file: str) -> Document:
    checked = check(read_source(file, read_file(Path(file))), bases=bases_beside())
    if checked.document is None or checked.findings:
        more = f" and {len(checked.findings) - 1} more" if len(checked.findings) > 1 else ""
        hint = f"callboard workflow validate {file}"
        raise UsageError(f"{checked.findings[0]}{more}", code="bad_workflow", path=file, hint=hint)
    return checked.document
