"""What of this machine a program may read: the interpreter, its libraries, and the installed packages."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

_SYSTEM = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/etc/fonts",
           "/etc/localtime", "/usr/share/fonts", "/usr/share/zoneinfo")  # fmt: skip


@cache
def python() -> str:
    """The interpreter itself: that of a virtual environment is only a link to it."""
    return str(Path(sys.executable).resolve())


@cache
def packages() -> tuple[str, ...]:
    """The folders that packages are installed in; a source tree that is on the path is not one of them."""
    found = [Path(entry).resolve() for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    return tuple(dict.fromkeys(str(folder) for folder in found if folder.is_dir()))


@cache
def readable() -> tuple[str, ...]:
    """All that is shown inside, read-only, none within another one. A link is shown as a link."""
    base = Path(sys.base_prefix).resolve()
    wanted = [*_SYSTEM, str(base / "lib"), str(base / "lib64"), python(), *packages()]
    there = sorted({path for path in wanted if Path(path).exists()})
    return tuple(path for path in there if not any(_within(path, other) for other in there))


def _within(path: str, other: str) -> bool:
    return path != other and not Path(other).is_symlink() and Path(path).is_relative_to(other)
