"""The roles that come with Callboard: files to read, to use as they are, or to copy and edit."""

from __future__ import annotations

from pathlib import Path

from actors.workflow.finding import did_you_mean
from bus.errors import UsageError

_FOLDER = Path(__file__).parent / "shipped"
SUFFIX = ".md"


def shipped_names() -> list[str]:
    """Their names, in order."""
    return sorted(file.stem for file in _FOLDER.glob(f"*{SUFFIX}"))


def shipped_file(name: str) -> Path:
    """The file of one. Raises: UsageError."""
    names = shipped_names()
    if name not in names:
        raise UsageError(f"there is no role {name!r}", code="unknown_role", path=name, hint=did_you_mean(name, names))
    return _FOLDER / f"{name}{SUFFIX}"


def copy_to(folder: Path, names: list[str], *, force: bool) -> list[Path]:
    """Write the files of these roles (none: all) into ``folder``.

    Raises: UsageError for an unknown role, a file that is there already (unless ``force``), a folder that cannot be.
    """
    sources = [shipped_file(name) for name in names or shipped_names()]
    targets = [folder / source.name for source in sources]
    if there := [str(target) for target in targets if target.exists() and not force]:
        raise UsageError(f"there is {', '.join(there)} already", code="file_exists", path=there[0],
                         hint="--force writes over it")  # fmt: skip
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for source, target in zip(sources, targets, strict=True):
            target.write_bytes(source.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}", code="bad_folder", path=str(folder)) from None
    return targets
