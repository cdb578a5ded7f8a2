"""``callboard workflow``: documents that define workflows are checked, described to editors, and drawn.

What concerns published ones is in ``workflow_registry``.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, make_session, run

if TYPE_CHECKING:
    from actors.commands.session import Session
    from actors.workflow.component_rules import Catalogue

app = typer.Typer(
    help=(
        "Check, draw and publish documents that define workflows.\n\n"
        "Example: callboard workflow validate --offline order.yaml"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Drawing(StrEnum):
    """What a picture is written in."""

    mermaid = "mermaid"
    dot = "dot"
    svg = "svg"


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Documents: .yaml, .yml, .json or .toml.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the registry: components and their inputs are not checked.")
    ] = False,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Check documents and print all findings at once. Exit code 1 if there are any.

    Example: callboard workflow validate --offline order.yaml
    """
    run(_validate(make_session(nats, context, "default", as_json, no_color), files, offline=offline))


@app.command()
def schema() -> None:
    """Print the JSON Schema of documents, for editors.

    Example: callboard workflow schema > workflow.schema.json
    """
    run(_schema(make_session(None, None)))


@app.command()
def graph(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A document.")],
    format_: Annotated[Drawing, typer.Option("--format", help="What the picture is written in.")] = Drawing.mermaid,
) -> None:
    """Print a picture of a document's steps: Mermaid, DOT or SVG. Exit code 1 if the document has faults.

    Example: callboard workflow graph order.yaml --format svg > order.svg
    """
    run(_graph(make_session(None, None), file, format_))


async def _validate(session: Session, files: list[Path], *, offline: bool) -> int:
    from actors.console.workflow_page import workflow_page
    from actors.workflow.validation import validate as check

    texts = {str(file): _read(file) for file in files}
    catalogue = None if offline else await _catalogue(session)
    findings = [finding for file, raw in texts.items() for finding in check(file, raw, catalogue=catalogue)]
    screen = session.screen()
    if session.json:
        screen.show_json(findings)
    else:
        screen.show(workflow_page(findings, len(texts)))
    return 1 if findings else 0


async def _catalogue(session: Session) -> Catalogue:
    """What the registry holds; nothing if no node has ever been there. Raises: BusUnreachable, BusError."""
    from actors.components.registry import Registry
    from actors.workflow.component_rules import Catalogue
    from bus.streams import REGISTRY, stream_info

    async with await session.client() as client:
        if await stream_info(client.bus, REGISTRY) is None:
            return Catalogue([])
        registry = Registry(client.bus)
        await registry.start()
        try:
            return Catalogue(registry.all())
        finally:
            await registry.stop()


async def _schema(session: Session) -> int:
    from actors.workflow.document import document_schema

    session.screen().show_json(document_schema())
    return 0


async def _graph(session: Session, file: Path, drawing: Drawing) -> int:
    import sys

    from actors.console.workflow_page import workflow_page
    from actors.pictures.document_drawing import draw_document
    from actors.pictures.picture import picture
    from actors.workflow.source import read_source
    from actors.workflow.validation import check_source

    document, findings = check_source(read_source(str(file), _read(file)))
    if document is None or findings:
        session.notes().show(workflow_page(findings, 1))
        return 1
    sys.stdout.write(picture(draw_document(document), drawing.value))
    sys.stdout.flush()
    return 0


def _read(file: Path) -> bytes:
    """Raises: UsageError if there is no such file, or it cannot be read."""
    from bus.errors import UsageError

    try:
        return file.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "name the files in it" if file.is_dir() else ""
        raise UsageError(f"{file} cannot be read: {reason}", code="no_file", hint=hint) from error
