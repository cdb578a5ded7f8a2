"""Artifacts as files in a folder: never over another file, never outside of it, whatever their names say."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bus.errors import UsageError
from store.artifact import Artifact

if TYPE_CHECKING:
    from bus.objects import Blobs


async def write_artifacts(
    blobs: Blobs, folder: Path, artifacts: Iterable[Artifact]
) -> AsyncIterator[tuple[Artifact, Path]]:
    """Write them one by one, and say where each lies. A file that has the same content already is left as it is.

    Raises: UsageError if the folder cannot be written to; BlobMissing, BusError, also for damaged content.
    """
    taken: set[Path] = set()
    for artifact in artifacts:
        data = await blobs.get(artifact.sha256)
        path = await asyncio.to_thread(_write, folder, artifact, data, taken)
        taken.add(path)
        yield artifact, path


def places(folder: Path, artifact: Artifact) -> Iterator[Path]:
    """Where it may be written, the best place first. Pure."""
    # Whoever sent the name may have put a path into it, of this system or of another one.
    name = Path(artifact.name.replace("\0", "").replace("\\", "/")).name
    plain = folder / (artifact.sha256 if name in ("", "..") else name)
    yield plain
    for number in itertools.count(2):
        yield plain.with_stem(f"{plain.stem}-{number}")


def _write(folder: Path, artifact: Artifact, data: bytes, taken: set[Path]) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in places(folder, artifact):
            if path in taken:
                continue
            if _create(path, data) or _holds(path, artifact):
                return path
    except OSError as error:
        message = f"cannot write {error.filename or folder}: {error.strerror or error}"
        raise UsageError(message, code="no_file", path="--save", hint="a folder that can be written to") from error
    raise AssertionError("there is always one more name")


def _create(path: Path, data: bytes) -> bool:
    """False if something has that name, be it a link that leads elsewhere."""
    try:
        with path.open("xb") as file:
            file.write(data)
    except FileExistsError:
        return False
    return True


def _holds(path: Path, artifact: Artifact) -> bool:
    if path.is_symlink() or not path.is_file() or path.stat().st_size != artifact.size_bytes:
        return False
    return hashlib.sha256(path.read_bytes()).hexdigest() == artifact.sha256
