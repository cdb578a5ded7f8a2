"""All that is wrong with a document, and with those that it extends, at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from actors.components.version import parse_version
from actors.workflow.document import Document
from actors.workflow.extension import NO_BASES, Bases
from actors.workflow.finding import Fault, Finding, clip, path_text
from actors.workflow.layer import Spotted
from actors.workflow.merged import Merged, merge
from actors.workflow.outline import Outline, outline
from actors.workflow.shape import Shaped, shape
from actors.workflow.source import Format, Source, read_source
from actors.workflow_rules.call_rules import call_faults
from actors.workflow_rules.component_rules import Catalogue, component_faults
from actors.workflow_rules.expression_sites import Site, sites
from actors.workflow_rules.order_rules import order_faults
from actors.workflow_rules.reference_rules import reference_faults
from actors.workflow_rules.removal_rules import removal_faults
from actors.workflow_rules.schema_rules import schema_faults
from actors.workflow_rules.type_rules import type_faults
from bus.errors import UsageError


@dataclass(frozen=True)
class Checked:
    """``document`` and ``value`` (the same as plain values) are None if none can be made of the source."""

    document: Document | None
    value: Any
    findings: list[Finding]


def validate(
    file: str,
    raw: bytes,
    *,
    catalogue: Catalogue | None = None,
    format_: Format | None = None,
    bases: Bases = NO_BASES,
    params: Mapping[str, Any] | None = None,
    is_final: bool = False,
) -> list[Finding]:
    """Check a file's content; the findings in the order of their places, none if all is right.

    Nothing is raised, whatever ``raw`` is. See :func:`check`.
    """
    return check(read_source(file, raw, format_), catalogue, bases=bases, params=params, is_final=is_final).findings


def check(
    source: Source,
    catalogue: Catalogue | None = None,
    *,
    bases: Bases = NO_BASES,
    params: Mapping[str, Any] | None = None,
    is_final: bool = False,
) -> Checked:
    """The document, with what it extends, as far as one can be made of the source, and all findings.

    ``catalogue`` None leaves out what only the running system knows. ``params`` are values for its parameters; with
    ``is_final`` each parameter has to have one, as for a document that is to be published or run.
    """
    return check_merged(merge(source, bases, params), catalogue, is_final=is_final)


def check_merged(merged: Merged, catalogue: Catalogue | None = None, *, is_final: bool = False) -> Checked:
    """The same of a value whose parts have places of their own."""
    if not merged.is_whole:
        return Checked(None, None, _findings(merged.faults))
    shaped = shape(merged.value)
    told = {spot for spot, _ in merged.faults}
    spotted = [Spotted(spot, fault) for fault in shaped.faults if (spot := merged.spot(fault)) not in told]
    if shaped.document is not None:
        spotted += _rules(shaped, shaped.document, merged, catalogue)
        spotted += [Spotted(merged.spot(fault), fault) for fault in _params(shaped.document) if is_final]
    return Checked(shaped.document, merged.value, _findings([*merged.faults, *spotted]))


def check_source(source: Source, catalogue: Catalogue | None = None) -> tuple[Document | None, list[Finding]]:
    """The document of a source that extends nothing, as far as one can be made of it, and all findings."""
    checked = check(source, catalogue)
    return checked.document, checked.findings


def _rules(shaped: Shaped, document: Document, merged: Merged, catalogue: Catalogue | None) -> Iterator[Spotted]:
    lines = outline(document)
    expressions = list(sites(document, lines))
    lost = shaped.lost | merged.removed.keys()
    for fault in _faults(document, lines, expressions, lost, catalogue):
        yield Spotted(merged.spot(fault), fault)
    yield from removal_faults(lines, expressions, merged.removed)


def _faults(
    document: Document, lines: Outline, expressions: list[Site], lost: set[str], catalogue: Catalogue | None
) -> Iterator[Fault]:
    yield from _version(document)
    yield from order_faults(lines, lost)
    yield from call_faults(lines)
    yield from reference_faults(document, lines, expressions, lost)
    yield from schema_faults(document, lines)
    yield from component_faults(lines, catalogue)
    yield from type_faults(document, lines, expressions, catalogue)


def _version(document: Document) -> Iterator[Fault]:
    try:
        parse_version(document.version, "version")
    except UsageError as error:
        yield Fault("bad_version", ("version",), clip(error.args[0]), error.hint)


def _params(document: Document) -> Iterator[Fault]:
    for name, param in document.params.items():
        if param.default is msgspec.UNSET:
            hint = f"give it one: a default, 'params' of what extends this, or --param {name}=..."
            yield Fault("missing_param", ("params", name), f"the parameter {name!r} has no value", hint)


def _findings(spotted: list[Spotted]) -> list[Finding]:
    return sorted({_finding(*each) for each in spotted})


def _finding(spot: tuple[Source, tuple[str | int, ...]], fault: Fault) -> Finding:
    source, path = spot
    line, column = source.fault_place if fault is source.fault else source.place(path)
    return Finding(
        file=source.file, line=line, column=column, path=path_text(path), code=fault.code,
        message=clip(fault.message), hint=clip(fault.hint),
    )  # fmt: skip
