"""What one tool lets statements do; both walls go by it. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from actors.toolbox.sql.dialect import Dialect


@dataclass(frozen=True, slots=True)
class Rules:
    """What a statement may do. ``tables`` is the allowlist (None: all); ``with_files`` lets DuckDB read files."""

    dialect: Dialect
    read_only: bool = True
    tables: frozenset[str] | None = None
    with_files: bool = False

    @property
    def open_tables(self) -> str:
        """The allowlist for people."""
        return ", ".join(sorted(self.tables or ()))


def allowed_names(tables: Collection[str], dialect: Dialect) -> frozenset[str]:
    """An allowlist as statements are compared with it: ``public.orders`` and ``orders`` are the same."""
    folded = (table.rpartition(".") for table in tables)
    names = ((schema, name) for schema, _, name in folded)
    return frozenset(dialect.fold(name if schema.lower() in dialect.schemas else f"{schema}.{name}",
                                  is_quoted=dialect.has_exact_quotes) for schema, name in names)  # fmt: skip
