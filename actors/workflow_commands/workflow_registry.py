"""``callboard workflow publish|list|search|show|export|import|deprecate|diff``: workflows that all nodes know."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from actors.commands.options import AsJson, Context, Nats, NoColor, make_session, run
from actors.workflow_commands.workflow import Params, print_text, refuse
from actors.workflow_commands.workflow_try import try_

if TYPE_CHECKING:
    from actors.command_bodies.session import Session


class Form(StrEnum):
    """What a document is written in."""

    yaml = "yaml"
    json = "json"


def _published(incomplete: str) -> list[str]:
    from actors.command_bodies.names import workflow_names

    return [name for name in workflow_names(with_versions="@" in incomplete) if name.startswith(incomplete)]


Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE|DIR...", help="Documents, or folders that hold .yaml, .yml, .json and .toml files."),
]
Force = Annotated[bool, typer.Option("--force", help="Although it breaks who uses the version before it.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, and publish nothing.")]
Category = Annotated[str, typer.Option("--category", metavar="NAME", help="Only of this category.")]
Labels = Annotated[
    list[str] | None, typer.Option("--label", metavar="NAME=TEXT", help="Only with this label; may be repeated.")
]
Every = Annotated[bool, typer.Option("--all-versions", help="Those too that new jobs do not take.")]
Workflow = Annotated[str, typer.Argument(metavar="NAME[@VERSION]", help="A workflow.", autocompletion=_published)]


def publish(
    files: Files,
    param: Params = None,
    force: Force = False,
    dry_run: DryRun = False,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Publish documents, so that all nodes know them. All are checked first; one finding, and none is published.

    The same again is nothing new. Exit code 1 if there are findings.

    Example: callboard workflow publish workflows/ --param limit:=50
    """
    from actors.command_bodies.workflow_publishing import publish_files

    run(publish_files(make_session(nats, context, "default", as_json, no_color), files, param or [], force, dry_run))


def import_(
    files: Files,
    force: Force = False,
    dry_run: DryRun = False,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Publish what export has written. The same as publish.

    Example: callboard workflow import backup/
    """
    from actors.command_bodies.workflow_publishing import publish_files

    run(publish_files(make_session(nats, context, "default", as_json, no_color), files, [], force, dry_run))


def list_published(
    category: Category = "",
    label: Labels = None,
    every: Every = False,
    deprecated: Annotated[bool, typer.Option("--deprecated", help="Only deprecated versions.")] = False,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """List published workflows: of each the version that new jobs take.

    Example: callboard workflow list --category shop --label team=sales
    """
    session = make_session(nats, context, "default", as_json, no_color)
    run(_list(session, "", category, label or [], every=every or deprecated, deprecated=deprecated))


def search(
    text: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Words of name, description or labels.")],
    category: Category = "",
    label: Labels = None,
    every: Every = False,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Find published workflows by words. Exit code 1 if there is none.

    Example: callboard workflow search refund
    """
    session = make_session(nats, context, "default", as_json, no_color)
    run(_list(session, " ".join(text), category, label or [], every=every, must_find=True))


def show(
    workflow: Annotated[
        str,
        typer.Argument(
            metavar="FILE|NAME[@VERSION]", help="A document, or a published one.", autocompletion=_published
        ),
    ],
    merged: Annotated[bool, typer.Option("--merged", help="As one document, with all that it extends.")] = False,
    param: Params = None,
    form: Annotated[Form, typer.Option("--format", help="What it is written in.")] = Form.yaml,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Print a document in a plain form, or a published workflow. Exit code 1 for a file that has faults.

    Of a published workflow it is the version that new jobs take, or the one that is named.

    Example: callboard workflow show order@1.2.0

    Example: callboard workflow show --merged order.yaml --param limit:=50
    """
    session = make_session(nats, context, "default", as_json, no_color)
    from actors.workflow.document_file import is_file

    if is_file(workflow):
        run(_show_file(session, Path(workflow), param or [], form, is_merged=merged))
    else:
        run(_show(session, workflow, param or [], form))


def export(
    names: Annotated[list[str], typer.Argument(metavar="[NAME...] DIR", help="Workflows (none: all), and the folder.")],
    form: Annotated[Form, typer.Option("--format", help="What they are written in.")] = Form.yaml,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Write workflows in all their versions into a folder, a file for each.

    Example: callboard workflow export order refund backup/
    """
    run(_export(make_session(nats, context, "default", as_json, no_color), names[:-1], Path(names[-1]), form))


def deprecate(
    workflow: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="A version.", autocompletion=_published)],
    message: Annotated[str, typer.Option("--message", metavar="TEXT", help="Why, and what to use instead.")] = "",
    on: Annotated[str, typer.Option("--on", metavar="DATE", help="New jobs are refused from this day (UTC).")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take the word back.")] = False,
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Say that a version shall not be used any more. Jobs that run on it go on to their end.

    Example: callboard workflow deprecate order@1.2.0 --message 'use 2' --on 2027-01-31
    """
    run(_deprecate(make_session(nats, context, "default", as_json, no_color), workflow, message, on, undo=undo))


def diff(
    old: Annotated[str, typer.Argument(metavar="A", help="A file, or NAME[@VERSION].", autocompletion=_published)],
    new: Annotated[str, typer.Argument(metavar="B", help="A file, or NAME[@VERSION].", autocompletion=_published)],
    nats: Nats = None,
    context: Context = None,
    as_json: AsJson = False,
    no_color: NoColor = False,
) -> None:
    """Tell what differs from A to B, and whether it breaks who uses A. Exit code 0 if it does not, 1 if it does.

    Example: callboard workflow diff order order.yaml
    """
    run(_diff(make_session(nats, context, "default", as_json, no_color), old, new))


def add_to(app: typer.Typer) -> None:
    """Make these commands of ``callboard workflow``."""
    for command in (publish, search, show, export, deprecate, diff):
        app.command()(command)
    app.command("list")(list_published)
    app.command("import")(import_)
    app.command("try")(try_)


# ---- what they do


async def _list(
    session: Session, text: str, category: str, labels: list[str], *, every: bool, deprecated: bool = False,
    must_find: bool = False,
) -> int:  # fmt: skip
    from actors.listings.definition_page import definitions_page

    wanted = _labels(labels)
    async with await session.client() as client:
        found = await client.workflows.list(text, category=category, labels=wanted)
    shown = [each for each in found if (each.newest or every) and (each.deprecated or not deprecated)]
    screen = session.screen()
    if session.json:
        screen.show_json(shown)
    else:
        screen.show(definitions_page(shown))
    return 1 if must_find and not shown else 0


def _labels(pairs: list[str]) -> dict[str, str]:
    """Raises: UsageError."""
    from bus.errors import UsageError

    for pair in pairs:
        if "=" not in pair:
            hint = "--label team=sales"
            raise UsageError(f"cannot read the label {pair!r}", code="bad_argument", path="--label", hint=hint)
    return {name: text for name, _, text in (pair.partition("=") for pair in pairs)}


async def _show_file(session: Session, file: Path, params: list[str], form: Form, *, is_merged: bool) -> int:
    from actors.command_bodies.arguments import parse_inputs
    from actors.workflow.document_file import bases_beside, read_file
    from actors.workflow.source import read_source
    from actors.workflow.writing import by_rank
    from actors.workflow_rules.validation import check

    source = read_source(str(file), read_file(file))
    given, bases = parse_inputs(params), bases_beside()
    checked = check(source, bases=bases, params=given)
    if any((finding.code, finding.path) == ("unknown_base", "$.extends") for finding in checked.findings):
        async with await session.client() as client:
            bases = await client.workflows.bases(bases.read)
        checked = check(source, bases=bases, params=given)
    if checked.findings:
        return refuse(session, checked.findings)
    _print_document(by_rank(checked.value if is_merged else source.value), Form.json if session.json else form)
    return 0


async def _show(session: Session, workflow: str, params: list[str], form: Form) -> int:
    from actors.workflow.writing import plain
    from actors.workflow_versions.definition import parse_reference
    from bus.errors import UsageError

    name, version = parse_reference(workflow)
    if params:
        hint = "name a file, or extend it"
        raise UsageError("what is published has its parameters", code="bad_argument", path="--param", hint=hint)
    async with await session.client() as client:
        definition = await client.workflows.get(name, version)
    if session.json:
        session.screen().show_json(definition)
        return 0
    _say_deprecated(session, definition.deprecated, definition.name, definition.version)
    _print_document(plain(definition.read()), form)
    return 0


def _print_document(value: dict[str, Any], form: Form) -> None:
    print_text(_written(value, form))


def _written(value: dict[str, Any], form: Form) -> str:
    from actors.workflow.writing import to_json, to_yaml

    return to_yaml(value) if form is Form.yaml else to_json(value)


def _say_deprecated(session: Session, deprecation: object, name: str, version: str) -> None:
    from actors.listings.definition_page import deprecation_line
    from actors.workflow_versions.definition import Deprecation

    if isinstance(deprecation, Deprecation):
        session.notes().show([deprecation_line(deprecation, name, version)])


async def _export(session: Session, names: list[str], folder: Path, form: Form) -> int:
    from actors.command_bodies.workflow_publishing import make_folder
    from actors.console.amount import plural
    from actors.console.page import line
    from actors.workflow.writing import plain

    async with await session.client() as client:
        definitions = await client.workflows.definitions()
        for name in names:
            definitions.named(name)  # raises for one that is not there
    found = [each for each in definitions.all() if not names or each.name in names]
    make_folder(folder)
    files = []
    for each in found:
        file = folder / f"{each.name}-{each.version}.{form.value}"
        file.write_text(_written(plain(each.read()), form), encoding="utf-8")
        files.append({"name": each.name, "version": each.version, "file": str(file)})
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json(files)
    else:
        screen.show([line(f"{plural(len(files), 'file')} written to {folder}")])
    return 0


async def _deprecate(session: Session, workflow: str, message: str, on: str, *, undo: bool) -> int:
    from actors.console.page import line
    from actors.workflow_versions.definition import parse_day, parse_reference
    from bus.errors import UsageError

    name, version = parse_reference(workflow)
    if not version:
        hint = f"callboard workflow list --all-versions, then {name}@VERSION"
        raise UsageError(f"which version of {name}?", code="bad_argument", path="NAME@VERSION", hint=hint)
    day = parse_day(on) if on else None
    async with await session.client() as client:
        if undo:
            marked = await client.workflows.undeprecate(name, version)
        else:
            marked = await client.workflows.deprecate(name, version, message, day)
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json({"name": name, "version": version, "deprecated": marked.deprecated})
    else:
        word = marked.deprecated.warning(name, version) if marked.deprecated else f"{name} {version} may be used"
        screen.show([line(word)])
    return 0


async def _diff(session: Session, old: str, new: str) -> int:
    from actors.command_bodies.workflow_publishing import read_both
    from actors.listings.definition_page import changes_page
    from actors.workflow_versions.compatibility import breaking, compare

    changes = compare(*await read_both(session, old, new))
    screen = session.screen()
    if session.json:
        screen.show_json({"compatible": not breaking(changes), "changes": changes})
    else:
        screen.show(changes_page(changes))
    return 1 if breaking(changes) else 0
