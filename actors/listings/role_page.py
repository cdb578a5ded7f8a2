"""Roles that come with Callboard: ``callboard roles list``."""

from __future__ import annotations

from collections.abc import Sequence

from actors.console.amount import plural
from actors.console.page import Column, Page, SheetBuilder, Span, one_line
from actors.roles.role import Role


def role_page(roles: Sequence[Role]) -> Page:
    """A row for each role."""
    builder = SheetBuilder([Column("role"), Column("what it is for", shrink=True), Column("tools"), Column("gives")])
    for role in roles:
        builder.add(Span(role.name, "strong"), one_line(role.description), ", ".join(role.tools), role.output)
    return [builder.sheet(plural(len(roles), "role"))]
