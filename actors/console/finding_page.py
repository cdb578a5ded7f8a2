"""What ``callboard doctor`` found: what is wrong comes last, where the eye is, each with what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from actors.console.amount import plural
from actors.console.page import Gap, Line, Page, Span, Style, line, one_line

_ORDER = {"ok": 0, "warn": 1, "fail": 2}
_STYLES: dict[str, Style] = {"ok": "good", "warn": "warn", "fail": "bad"}


class FindingLike(Protocol):
    """What is shown of a finding (``actors.doctor.doctor.Finding``)."""

    @property
    def level(self) -> str: ...
    @property
    def what(self) -> str: ...
    @property
    def detail(self) -> str: ...
    @property
    def advice(self) -> str: ...


def finding_page(findings: Sequence[FindingLike]) -> Page:
    """A line for each finding, its advice below it, and the sum."""
    page: Page = []
    for finding in sorted(findings, key=lambda f: _ORDER.get(f.level, 3)):
        level = Span(finding.level.ljust(4), _STYLES.get(finding.level, ""))
        page.append(line(level, "  ", Span(one_line(finding.what), "strong"), ": ", one_line(finding.detail, 500)))
        if finding.advice:
            page.append(line(Span(f"-> {one_line(finding.advice, 500)}"), indent=6))
    return [*page, Gap(), _sum(findings)]


def _sum(findings: Sequence[FindingLike]) -> Line:
    failed, warned = (sum(finding.level == level for finding in findings) for level in ("fail", "warn"))
    if not failed and not warned:
        return line(Span("all is well", "good"))
    parts = [plural(failed, "failure")] if failed else []
    parts += [plural(warned, "warning")] if warned else []
    return line(Span(", ".join(parts), "bad" if failed else "warn"))
