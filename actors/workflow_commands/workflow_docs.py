"""``callboard workflow docs``: reference pages of workflows and components, to be kept beside the code."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, make_session, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors.command_bodies.session import Session
    from actors.components.component import ComponentInfo
    from actors.console.page import Page
    from actors.reference.entry import Library, Workflow
    from actors.reference.folder import Differences
    from actors.workflow_versions.definitions import Definitions

FOLDER = "docs/reference"


def docs(
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE|DIR]...", help="Documents, or folders that hold some.")
    ] = None,
    apps: Annotated[
        list[str] | None, typer.Option("--app", metavar="APP", help="Components of this app: module:app. Repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder of the pages.")] = Path(FOLDER),
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit code 1 if a page would change.")] = False,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Write reference pages in Markdown: one for each workflow and component, and an index.

    Without FILE and --app they are of what the system knows; with one of them no server is asked.

    Example: callboard workflow docs workflows/ --app shop:app --out docs/reference

    Example: callboard workflow docs workflows/ --app shop:app --out docs/reference --check
    """
    run(_docs(make_session(nats, context, "default", as_json, no_color), paths or [], apps or [], out, is_check=check))


async def _docs(session: Session, paths: list[Path], apps: list[str], out: Path, *, is_check: bool) -> int:
    from actors.reference.book import book
    from actors.reference.entry import Library
    from actors.reference.folder import compare, write

    if paths or apps:
        workflows = _read(session, paths)
        if workflows is None:
            return 1
        library = Library(workflows, await _described(apps))
    else:
        library = await _known(session)
    pages = book(library)
    differences = compare(out, pages)
    if not is_check:
        write(out, pages, differences)
    screen = session.screen()
    if session.json:
        told = {"missing": differences.missing, "changed": differences.changed, "stale": differences.stale}
        screen.show_json({"folder": str(out), "pages": sorted(pages), "written": not is_check, **told})
    else:
        screen.show(_page(out, pages, differences, is_check=is_check))
    return 1 if is_check and differences else 0


def _read(session: Session, paths: list[Path]) -> list[Workflow] | None:
    """The documents, or nothing if there are findings, which are told then."""
    from actors.command_bodies.workflow_publishing import read_sources
    from actors.console.workflow_page import workflow_page
    from actors.reference.entry import Workflow
    from actors.workflow.document_file import bases_beside
    from actors.workflow_rules.validation import check

    checked = [check(source, bases=bases_beside()) for source in read_sources(paths)]
    findings = [finding for each in checked for finding in each.findings]
    if findings:
        session.notes().show(workflow_page(findings, len(checked)))
        return None
    return [Workflow(each.document) for each in checked if each.document is not None]


async def _described(apps: list[str]) -> list[ComponentInfo]:
    """Raises: UsageError with what the module of an app said."""
    from actors.command_bodies.describe import describe

    return [info for app in apps for info in (await describe(app)).components]


async def _known(session: Session) -> Library:
    """All that is published and registered. Raises: BusUnreachable, BusError."""
    from actors.reference.entry import Library

    async with await session.client() as client:
        definitions = await client.workflows.definitions()
        infos = await client.workflows.components()
    # A published workflow is a job to who runs it; its page is that of a workflow.
    others = [info for info in infos if info.kind != "job" or definitions.get(info.name, info.version) is None]
    return Library(_published(definitions), others)


def _published(definitions: Definitions) -> list[Workflow]:
    """Of each workflow the version that new jobs take, with the names of the others."""
    from actors.reference.entry import Workflow

    found: list[Workflow] = []
    for name in definitions.names():
        if (newest := definitions.newest(name)) is not None:
            versions = [each.version for each in definitions.all() if each.name == name]
            others = tuple(version for version in versions if version != newest.version)
            warning = newest.deprecated.warning(name, newest.version) if newest.deprecated else ""
            found.append(Workflow(newest.read(), warning, others))
    return found


def _page(out: Path, pages: dict[str, str], differences: Differences, *, is_check: bool) -> Page:
    from actors.console.amount import plural
    from actors.console.page import Gap, Span, line, one_line

    told: tuple[tuple[str, Sequence[str]], ...] = (
        ("is missing" if is_check else "is new", differences.missing),
        ("is out of date" if is_check else "has changed", differences.changed),
        ("is of no use any more" if is_check else "is gone", differences.stale),
    )
    page: Page = [
        line(Span(one_line(f"{out / path}", 500), "strong"), f" {what}") for what, some in told for path in some
    ]
    of = f"{plural(len(pages), 'page')} in {one_line(str(out), 500)}"
    if not differences:
        return [line(Span(f"{of}, all up to date", "good"))]
    total = len(differences.missing) + len(differences.changed) + len(differences.stale)
    what = f"{total} out of date" if is_check else f"{total} written"
    return [*page, Gap(), line(f"{of}, ", Span(what, "bad" if is_check else "good"))]
