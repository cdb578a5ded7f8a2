"""Files of documents that commands are given the names of, and those that they extend."""

from __future__ import annotations

from pathlib import Path

from actors.workflow.extension import Bases
from bus.errors import UsageError

DOCUMENT_SUFFIXES = (".yaml", ".yml", ".json", ".toml")


def is_file(which: str) -> bool:
    """What looks like a file is one, also if it is not there: that is then told."""
    return "/" in which or Path(which).suffix in DOCUMENT_SUFFIXES or Path(which).is_file()


def read_file(file: Path) -> bytes:
    """Raises: UsageError if there is no such file, or it cannot be read."""
    try:
        return file.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        hint = "name the files in it" if file.is_dir() else ""
        raise UsageError(f"{file} cannot be read: {reason}", code="no_file", hint=hint) from error


def bases_beside() -> Bases:
    """Where documents are found that others extend."""
    return Bases(read=lambda file: Path(file).read_bytes())
