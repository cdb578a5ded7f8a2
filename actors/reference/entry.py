"""What reference pages are written of, and how they link to each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from actors.components.component import ComponentInfo
from actors.components.version import parse_version
from actors.reference.markdown import cell, code
from actors.workflow.document import CallStep, Document
from actors.workflow.outline import outline
from actors.workflow_rules.component_rules import Catalogue
from bus.subjects import CallKind

# The first line of every page: what has it may be written over, and deleted when it is not needed any more.
MARK = "<!-- Written by 'callboard workflow docs': changes made here are lost. -->"


@dataclass(frozen=True, slots=True)
class Workflow:
    """A document; ``deprecated`` is the warning to who uses it, ``others`` are its other versions."""

    document: Document
    deprecated: str = ""
    others: tuple[str, ...] = ()


@dataclass
class Library:
    """All that there is, each in one order. Of a workflow in several versions the newest has the page."""

    workflows: Sequence[Workflow]
    components: Sequence[ComponentInfo]
    users: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.workflows = sorted(_newest(self.workflows), key=lambda workflow: workflow.document.name)
        documents = {(one.document.name, one.document.version) for one in self.workflows}
        # A published workflow may be registered as a job too: its page says more.
        found = [info for info in self.components if info.kind != "job" or (info.name, info.version) not in documents]
        newest_first = sorted(found, key=lambda info: parse_version(info.version, "version"), reverse=True)
        self.components = sorted(newest_first, key=lambda info: (info.kind, info.name, info.app))
        self._catalogue = Catalogue(self.components)
        self._names = {workflow.document.name for workflow in self.workflows}
        for workflow in self.workflows:
            for kind, ref in sorted(_runs(workflow.document)):
                info = self._catalogue.find(kind, ref)
                if isinstance(info, ComponentInfo):
                    self.users.setdefault((info.kind, info.name), []).append(workflow.document.name)

    def link(self, kind: CallKind, ref: str) -> str:
        """A reference of a step, from a page of a workflow; a link if what it names has a page."""
        info = self._catalogue.find(kind, ref)
        if isinstance(info, ComponentInfo):
            return f"[{code(ref)}](../{component_file(info.kind, info.name)})"
        name = ref.partition("@")[0]
        return f"[{code(ref)}](../{workflow_file(name)})" if kind == "job" and name in self._names else code(ref)


def workflow_file(name: str) -> str:
    """Where the page of a workflow is, from the index."""
    return f"workflows/{name}.md"


def component_file(kind: str, name: str) -> str:
    """Where the page of a component is, from the index."""
    return f"components/{kind}-{name}.md"


def first_sentence(text: str) -> str:
    """What a description says first, for a table."""
    return cell(text.strip().partition("\n\n")[0])


def _newest(workflows: Sequence[Workflow]) -> list[Workflow]:
    named: dict[str, list[Workflow]] = {}
    for workflow in workflows:
        named.setdefault(workflow.document.name, []).append(workflow)
    return [_with_others(versions) for versions in named.values()]


def _with_others(versions: list[Workflow]) -> Workflow:
    *rest, newest = sorted(versions, key=lambda one: parse_version(one.document.version, "version"))
    others = {other for one in versions for other in (one.document.version, *one.others)} - {newest.document.version}
    order = sorted(others, key=lambda version: parse_version(version, "version"), reverse=True)
    return Workflow(newest.document, newest.deprecated, tuple(order)) if rest or others else newest


def _runs(document: Document) -> set[tuple[CallKind, str]]:
    found: set[tuple[CallKind, str]] = set()
    for entry in outline(document).entries:
        step = entry.step
        if isinstance(step, CallStep):
            kind = str(step.__struct_config__.tag)
            found.add(("agent" if kind == "agent" else "job" if kind == "job" else "tool", step.run))
        if step.compensate is not None:
            found.add(("tool", step.compensate.tool))
    return found
