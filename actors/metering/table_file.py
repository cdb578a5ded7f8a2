"""A table that a user gives as a TOML or JSON file: one row for each model, or each provider."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import msgspec

from bus.errors import UsageError

Row = TypeVar("Row", bound=msgspec.Struct)


def read_table(file: Path, row: type[Row], *, what: str, code: str, variable: str, hint: str) -> dict[str, Row]:
    """The rows by name. ``what`` the table holds, for people; ``variable`` names the file in the environment.

    Raises: UsageError with ``code`` that says where it is wrong.
    """
    try:
        decode = msgspec.json.decode if file.suffix == ".json" else msgspec.toml.decode
        return decode(file.read_bytes(), type=dict[str, row])  # type: ignore[valid-type]
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise UsageError(f"{what} cannot be read from {file}: {error}", code=code, path=variable, hint=hint) from error
