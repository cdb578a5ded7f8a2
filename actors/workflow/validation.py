"""All that is wrong with a document, at once."""

from __future__ import annotations

from collections.abc import Iterator

from actors.components.version import parse_version
from actors.workflow.component_rules import Catalogue, component_faults
from actors.workflow.document import Document
from actors.workflow.finding import Fault, Finding, clip, path_text
from actors.workflow.order_rules import order_faults
from actors.workflow.outline import outline
from actors.workflow.reference_rules import reference_faults
from actors.workflow.schema_rules import schema_faults
from actors.workflow.shape import Shaped, shape
from actors.workflow.source import Format, Place, Source, read_source
from bus.errors import UsageError


def validate(
    file: str, raw: bytes, *, catalogue: Catalogue | None = None, format_: Format | None = None
) -> list[Finding]:
    """Check a file's content; the findings in the order of their places, none if all is right.

    Nothing is raised, whatever ``raw`` is. ``catalogue`` None leaves out what only the running system knows.
    """
    return check_source(read_source(file, raw, format_), catalogue)[1]


def check_source(source: Source, catalogue: Catalogue | None = None) -> tuple[Document | None, list[Finding]]:
    """The document, as far as one can be made of the source, and all findings."""
    if source.fault is not None:
        return None, [_finding(source, source.fault, source.fault_place)]
    shaped = shape(source.value)
    faults = [*source.doubtful, *shaped.faults, *_rules(shaped, catalogue)]
    return shaped.document, sorted({_finding(source, fault, source.place(fault.path)) for fault in faults})


def _rules(shaped: Shaped, catalogue: Catalogue | None) -> Iterator[Fault]:
    document = shaped.document
    if document is None:
        return
    yield from _version(document)
    lines = outline(document)
    yield from order_faults(lines, shaped.lost)
    yield from reference_faults(document, lines, shaped.lost)
    yield from schema_faults(document, lines)
    yield from component_faults(lines, catalogue)


def _version(document: Document) -> Iterator[Fault]:
    try:
        parse_version(document.version, "version")
    except UsageError as error:
        yield Fault("bad_version", ("version",), clip(error.args[0]), error.hint)


def _finding(source: Source, fault: Fault, place: Place) -> Finding:
    return Finding(
        file=source.file, line=place[0], column=place[1], path=path_text(fault.path), code=fault.code,
        message=clip(fault.message), hint=clip(fault.hint),
    )  # fmt: skip
