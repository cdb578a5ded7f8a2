"""``callboard workflow``: documents that define workflows are checked, described to editors, and drawn."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.graph import graph
from actors.commands.options import AsJson, Context, Nats, NoColor, make_session, run

if TYPE_CHECKING:
    from actors.commands.session import Session
    from actors.workflow.component_rules import Catalogue
    from actors.workflow.finding import Finding

app = typer.Typer(
    help=(
        "Check and draw documents that define workflows.\n\n"
        "Documents can be written and checked; running them comes next.\n\n"
        "Example: callboard workflow validate --offline order.yaml"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)


Params = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=TEXT", help="A parameter's value, also as NAME:=JSON; may be repeated."),
]


class Form(StrEnum):
    """What a document is written in."""

    yaml = "yaml"
    json = "json"


@app.command()
def validate(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Documents: .yaml, .yml, .json or .toml.")],
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not ask the registry: components and their inputs are not checked.")
    ] = False,
    param: Params = None,
    final: Annotated[bool, typer.Option("--final", help="Every parameter must have a value, as for a run.")] = False,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Check documents, with those that they extend, and print all findings at once. Exit code 1 if there are any.

    Example: callboard workflow validate --offline order.yaml
    """
    session = make_session(nats, context, "default", as_json, no_color)
    run(_validate(session, files, param or [], offline=offline, is_final=final))


@app.command()
def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A document.")],
    merged: Annotated[bool, typer.Option("--merged", help="As one document, with all that it extends.")] = False,
    param: Params = None,
    format_: Annotated[Form, typer.Option("--format", help="What it is written in.")] = Form.yaml,
) -> None:
    """Print a document in a plain form, without comments. Exit code 1 if it has faults.

    Example: callboard workflow show --merged order.yaml --param limit:=50
    """
    run(_show(make_session(None, None), file, param or [], format_, is_merged=merged))


@app.command()
def schema() -> None:
    """Print the JSON Schema of documents, for editors.

    Example: callboard workflow schema > workflow.schema.json
    """
    run(_schema(make_session(None, None)))


app.command()(graph)


async def _validate(session: Session, files: list[Path], params: list[str], *, offline: bool, is_final: bool) -> int:
    from actors.commands.arguments import parse_inputs
    from actors.commands.document_file import bases_beside, read_file
    from actors.console.workflow_page import workflow_page
    from actors.workflow.source import read_source
    from actors.workflow.validation import check

    sources = [read_source(str(file), read_file(file)) for file in files]
    texts, given, bases = {source.file for source in sources}, parse_inputs(params), bases_beside()
    catalogue = None if offline else await _catalogue(session)
    found = [check(source, catalogue, bases=bases, params=given, is_final=is_final) for source in sources]
    findings = list(dict.fromkeys(finding for checked in found for finding in checked.findings))
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
    from actors.workflow.editor_schema import document_schema

    session.screen().show_json(document_schema())
    return 0


async def _show(session: Session, file: Path, params: list[str], form: Form, *, is_merged: bool) -> int:
    from actors.commands.arguments import parse_inputs
    from actors.commands.document_file import bases_beside, read_file
    from actors.workflow.source import read_source
    from actors.workflow.validation import check
    from actors.workflow.writing import by_rank, to_json, to_yaml

    source = read_source(str(file), read_file(file))
    checked = check(source, bases=bases_beside(), params=parse_inputs(params))
    if checked.findings:
        return _refuse(session, checked.findings)
    value = by_rank(checked.value if is_merged else source.value)
    _print(to_yaml(value) if form is Form.yaml else to_json(value))
    return 0


def _refuse(session: Session, findings: list[Finding]) -> int:
    from actors.console.workflow_page import workflow_page

    session.notes().show(workflow_page(findings, 1))
    return 1


def _print(text: str) -> None:
    import sys

    sys.stdout.write(text)
    sys.stdout.flush()
