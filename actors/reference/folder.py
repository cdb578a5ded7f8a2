"""Reference pages on a disk. What is not ours is never touched: a page of ours has the mark as its first line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from actors.reference.entry import MARK
from bus.errors import UsageError


@dataclass(frozen=True, slots=True)
class Differences:
    """Paths of pages that are not there, are different, or are not of use any more; each in order."""

    missing: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.changed or self.stale)


def compare(folder: Path, pages: Mapping[str, str]) -> Differences:
    """What writing the pages would change. Raises: UsageError if a file that is not ours is in the way."""
    there = {path: _read(folder / path) for path in sorted(pages)}
    for path, text in there.items():
        if text is not None and not _is_ours(text):
            raise UsageError(f"{folder / path} was not written by this command", code="not_ours", path="--out",
                             hint="move it away, or choose another folder")  # fmt: skip
    return Differences(
        tuple(path for path, text in there.items() if text is None),
        tuple(path for path, text in there.items() if text is not None and text != pages[path]),
        tuple(path for path in _ours(folder) if path not in pages),
    )


def write(folder: Path, pages: Mapping[str, str], differences: Differences) -> None:
    """Make the folder as it should be. Raises: UsageError if it cannot be written."""
    try:
        for path in (*differences.missing, *differences.changed):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(pages[path], encoding="utf-8", newline="\n")
        for path in differences.stale:
            (folder / path).unlink()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(
            f"{error.filename or folder} cannot be written: {reason}", code="bad_file", path="--out"
        ) from error


def _ours(folder: Path) -> list[str]:
    found = [*folder.glob("*.md"), *folder.glob("workflows/*.md"), *folder.glob("components/*.md")]
    return sorted(file.relative_to(folder).as_posix() for file in found if _is_ours(_read(file) or ""))


def _is_ours(text: str) -> bool:
    return text.startswith(MARK)


def _read(file: Path) -> str | None:
    """Nothing if it is not there; what is no text is another's. Raises: UsageError if it cannot be read."""
    try:
        return file.read_bytes().decode(errors="replace").replace("\r\n", "\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{file} cannot be read: {reason}", code="bad_file", path="--out") from error
