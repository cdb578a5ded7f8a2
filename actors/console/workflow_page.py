"""What ``callboard workflow validate`` found, in the form in which editors and terminals make links of places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from actors.console.amount import plural
from actors.console.page import Gap, Page, Span, line, one_line


class FindingLike(Protocol):
    """What is shown of a finding (``actors.workflow.finding.Finding``)."""

    @property
    def file(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...
    @property
    def path(self) -> str: ...
    @property
    def code(self) -> str: ...
    @property
    def message(self) -> str: ...
    @property
    def hint(self) -> str: ...


def workflow_page(findings: Sequence[FindingLike], files: int) -> Page:
    """Two or three lines for each finding, and the sum."""
    page: Page = []
    for finding in findings:
        place = Span(f"{one_line(finding.file, 500)}:{finding.line}:{finding.column}", "strong")
        page.append(line(place, ": ", one_line(finding.message, 500), " ", Span(f"[{finding.code}]", "dim")))
        page.append(line(Span(f"at {one_line(finding.path, 500)}", "dim"), indent=6))
        if finding.hint:
            page.append(line(f"-> {one_line(finding.hint, 500)}", indent=6))
    checked = f"{plural(files, 'file')} checked"
    if not findings:
        return [line(Span(f"{checked}, all is well", "good"))]
    return [*page, Gap(), line(f"{checked}, ", Span(plural(len(findings), "finding"), "bad"))]
