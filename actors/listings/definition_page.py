"""Published workflows: ``callboard workflow list``, what publishing did, and what differs between two versions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from actors.console.amount import plural
from actors.console.page import Column, Gap, Line, Page, SheetBuilder, Span, Style, line, one_line
from actors.workflow_versions.compatibility import Change
from actors.workflow_versions.definition import Deprecation, Listed
from actors.workflow_versions.publishing import Published


def definitions_page(found: Sequence[Listed]) -> Page:
    """A row for each version."""
    if not found:
        return [
            line(Span("no such workflow is published", "warn")),
            line(Span("next: ", "dim"), "callboard workflow publish FILE"),
        ]
    columns = ("name", "version", "category", "labels", "published", "by", "description")
    builder = SheetBuilder([Column(title, shrink=title in ("labels", "description")) for title in columns])
    for each in found:
        builder.add(
            Span(one_line(each.name), "name"),
            _version(each),
            one_line(each.category),
            one_line(", ".join(f"{key}={value}" for key, value in each.labels.items())),
            f"{each.published_at.astimezone(UTC):%Y-%m-%d}",
            one_line(each.by or each.app),
            Span(one_line(each.description.partition("\n")[0]), "dim"),
        )
    page: Page = [builder.sheet(plural(len(found), "workflow"))]
    for each in found:
        if each.deprecated:
            page.append(deprecation_line(each.deprecated, each.name, each.version))
    return page


def _version(each: Listed) -> Span:
    if each.deprecated is None:
        return Span(each.version)
    return Span(f"{each.version} deprecated", "bad" if each.deprecated.is_over(datetime.now(UTC)) else "warn")


def deprecation_line(deprecation: Deprecation, name: str, version: str) -> Line:
    """The word, on a line."""
    return line(Span(one_line(deprecation.warning(name, version), 400), "warn"))


def published_page(done: Sequence[Published], *, dry_run: bool) -> Page:
    """A line for each document."""
    page: Page = []
    for each in done:
        word, style = _done(each, dry_run)
        page.append(line(Span(word, style), f" {each.name} {each.version}"))
        page += [line(Span(one_line(f"breaks: {change}", 400), "warn"), indent=6) for change in each.changes]
    new = sum(not each.existing for each in done)
    what = "would be published" if dry_run else "published"
    return [*page, Gap(), line(f"{plural(new, 'workflow')} {what}, {len(done) - new} there before")]


def _done(each: Published, dry_run: bool) -> tuple[str, Style]:
    if each.existing:
        return "is there  ", "dim"
    return ("publishable", "good") if dry_run else ("published ", "good")


def changes_page(changes: Sequence[Change]) -> Page:
    """What breaks, then what does not."""
    page: Page = []
    for change in changes:
        word = Span("breaking  ", "bad") if change.breaking else Span("fits      ", "good")
        page.append(line(word, f" {one_line(change.path, 200)} {one_line(change.what, 300)}"))
        page.append(line(Span(one_line(change.why, 200), "dim"), indent=11))
    broken = sum(change.breaking for change in changes)
    if not changes:
        return [line(Span("nothing differs that matters to anybody", "good"))]
    style: Style = "bad" if broken else "good"
    words = f"{broken} of {plural(len(changes), 'change')} {'breaks' if broken == 1 else 'break'} who uses it"
    return [*page, Gap(), line(Span(words if broken else f"{plural(len(changes), 'change')}, none breaks", style))]
