"""``callboard workflow``: documents that define workflows are checked, described to editors, and drawn.

What concerns published ones is in ``workflow_registry``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.graph import graph
from actors.commands.options import AsJson, Context, Nats, NoColor, make_session, run
from actors.workflow_commands.workflow_docs import docs

if TYPE_CHECKING:
    from actors.command_bodies.session import Session
    from actors.workflow.extension import Bases
    from actors.workflow.finding import Finding
    from actors.workflow.source import Source
    from actors.workflow_rules.component_rules import Catalogue

app = typer.Typer(
    help=(
        "Check, draw and publish documents that define workflows.\n\n"
        "Example: callboard workflow validate --offline order.yaml"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)


Params = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=TEXT", help="A parameter's value, also as NAME:=JSON; may be repeated."),
]


@app.command()
def validate(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE...", help="Documents: .yaml, .yml, .json or .toml, or folders.")
    ],
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
def schema() -> None:
    """Print the JSON Schema of documents, for editors.

    Example: callboard workflow schema > workflow.schema.json
    """
    run(_schema(make_session(None, None)))


app.command()(graph)
app.command()(docs)


async def _validate(session: Session, files: list[Path], params: list[str], *, offline: bool, is_final: bool) -> int:
    from actors.command_bodies.arguments import parse_inputs
    from actors.command_bodies.workflow_publishing import read_sources
    from actors.console.workflow_page import workflow_page
    from actors.workflow.document_file import bases_beside
    from actors.workflow_rules.validation import check

    sources, given = read_sources(files), parse_inputs(params)
    catalogue, bases = (None, bases_beside()) if offline else await _known(session, sources)
    found = [check(source, catalogue, bases=bases, params=given, is_final=is_final) for source in sources]
    findings = list(dict.fromkeys(finding for checked in found for finding in checked.findings))
    screen = session.screen()
    if session.json:
        screen.show_json(findings)
    else:
        screen.show(workflow_page(findings, len(sources)))
    return 1 if findings else 0


async def _known(session: Session, sources: list[Source]) -> tuple[Catalogue, Bases]:
    """What the registry holds, what is published, and these with it. Raises: BusUnreachable, BusError."""
    from actors.workflow.document_file import bases_beside
    from actors.workflow_rules.validation import check
    from actors.workflow_versions.batch import together

    async with await session.client() as client:
        infos, bases = await client.workflows.components(), await client.workflows.bases(bases_beside().read)
    return together([check(source, bases=bases).document for source in sources], infos), bases


async def _schema(session: Session) -> int:
    from actors.workflow.editor_schema import document_schema

    session.screen().show_json(document_schema())
    return 0


def refuse(session: Session, findings: list[Finding]) -> int:
    """Print what is wrong with a document; 1."""
    from actors.console.workflow_page import workflow_page

    session.notes().show(workflow_page(findings, 1))
    return 1


def print_text(text: str) -> None:
    """A document or picture, as it is."""
    import sys

    sys.stdout.write(text)
    sys.stdout.flush()
