"""Files of documents that commands are given the names of, and those that they extend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from actors.workflow.extension import Bases
from actors.workflow.source import Source, read_source
from bus.errors import UsageError

ENDINGS = (".yaml", ".yml", ".json", ".toml")
_EDITOR_SCHEMA = ".schema.json"


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


def read_sources(paths: Iterable[Path]) -> list[Source]:
    """The documents in files and folders, each once. Raises: UsageError as ``read_file``, or if a folder has none."""
    files = dict.fromkeys(file for path in paths for file in _files(path))
    return [read_source(str(file), read_file(file)) for file in files]


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    found = [file for file in sorted(path.rglob("*")) if _is_document(file.relative_to(path)) and file.is_file()]
    if not found:
        hint = f"files that end in {', '.join(ENDINGS)}"
        raise UsageError(f"{path} holds no document", code="no_file", path=str(path), hint=hint)
    yield from found


def _is_document(file: Path) -> bool:
    """Not what is hidden, and not the schema that editors use."""
    is_hidden = any(part.startswith(".") for part in file.parts)
    return file.suffix in ENDINGS and not is_hidden and not file.name.endswith(_EDITOR_SCHEMA)
