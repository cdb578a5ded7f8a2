"""Documents that are published in one go: all are checked, with each other and with what there is, before any is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from actors.components.component import ComponentInfo
from actors.components.schema import digest
from actors.components.version import parse_version
from actors.workflow.document import Document
from actors.workflow.extension import NO_BASES, Bases
from actors.workflow.finding import Finding, Path, clip, did_you_mean
from actors.workflow.source import Source
from actors.workflow_rules.component_rules import Catalogue
from actors.workflow_rules.validation import check
from actors.workflow_versions.publishing import Published
from bus.errors import UsageError

# What publishing a document beside others would do. Raises: UsageError.
Judge = Callable[[Document, Sequence[Document]], Published]


@dataclass
class Batch:
    """``ready`` are the documents with the file of each, older versions first; of use only without ``findings``."""

    ready: list[tuple[str, Document]] = field(default_factory=list)
    published: list[Published] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def raise_findings(self) -> None:
        """Raises: UsageError ``bad_workflow`` that says all of them."""
        if self.findings:
            more = "" if len(self.findings) == 1 else f"{len(self.findings)} findings: "
            text = "; ".join(f"{found.path}: {found.message}" for found in self.findings)
            raise UsageError(
                f"{more}{clip(text)}", code=self.findings[0].code if len(self.findings) == 1 else "bad_workflow",
                path=self.findings[0].path, hint=self.findings[0].hint,
            )  # fmt: skip


def read_batch(
    sources: Sequence[Source],
    infos: Iterable[ComponentInfo],
    params: Mapping[str, Any],
    judge: Judge,
    bases: Bases = NO_BASES,
) -> Batch:
    """Check everything. ``infos`` are the components that there are; ``params`` go to those that have such parameters.

    Raises: UsageError ``unknown_param`` if none has.
    """
    batch, sketches = Batch(), [check(source, bases=bases).document for source in sources]
    _check_params(sketches, params)
    catalogue = together(sketches, infos)
    found: list[tuple[Source, Document]] = []
    for source, sketch in zip(sources, sketches, strict=True):
        own = {name: value for name, value in params.items() if sketch and name in sketch.params}
        checked = check(source, catalogue, bases=bases, params=own, is_final=True)
        batch.findings += checked.findings
        if checked.document is not None and not checked.findings:
            found.append((source, checked.document))
    _judge_all(batch, _without_doubles(batch, found), judge)
    return batch


def _judge_all(batch: Batch, found: list[tuple[Source, Document]], judge: Judge) -> None:
    for source, document in sorted(found, key=lambda pair: parse_version(pair[1].version, "version")):
        try:
            batch.published.append(judge(document, [other for _, other in batch.ready]))
        except UsageError as error:
            batch.findings.append(_finding(source, error))
        batch.ready.append((source.file, document))


def together(documents: Iterable[Document | None], infos: Iterable[ComponentInfo]) -> Catalogue:
    """What documents may run that are looked at in one go: what there is, each other, and themselves."""
    return Catalogue([*infos, *(described(each) for each in documents if each and _has_version(each))])


def described(document: Document, app: str = "") -> ComponentInfo:
    """The workflow as other workflows see it."""
    return ComponentInfo(
        kind="job", name=document.name, app=app, version=document.version, input_schema=document.input,
        output_schema=document.output, digest=digest(document.name, document.version, document.input, document.output),
    )  # fmt: skip


def _has_version(document: Document) -> bool:
    try:
        return parse_version(document.version, "version") is not None
    except UsageError:
        return False


def _check_params(documents: Sequence[Document | None], params: Mapping[str, Any]) -> None:
    known = {name for document in documents if document for name in document.params}
    for name in params:
        if name not in known and None not in documents:
            hint = did_you_mean(name, known, "there are none")
            raise UsageError(f"no document has the parameter {name!r}", code="unknown_param", path=name, hint=hint)


def _without_doubles(batch: Batch, found: list[tuple[Source, Document]]) -> list[tuple[Source, Document]]:
    """One version twice is once, if both say the same."""
    first: dict[tuple[str, str], tuple[Source, Document]] = {}
    for source, document in found:
        other, same = first.setdefault((document.name, document.version), (source, document))
        if same != document:
            message = f"{other.file} is {document.name} {document.version} too, with another content"
            batch.findings.append(_finding(source, UsageError(message, code="duplicate_version", path="$.version")))
    return list(first.values())


def _finding(source: Source, error: UsageError) -> Finding:
    line, column = source.place(_path(error.path))
    return Finding(
        file=source.file, line=line, column=column, path=error.path or "$", code=error.code,
        message=clip(str(error.args[0])), hint=clip(error.hint),
    )  # fmt: skip


def _path(text: str) -> Path:
    return tuple(text.removeprefix("$").strip(".").split(".")) if text.startswith("$.") else ()
