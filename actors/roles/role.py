"""A role: an agent as it is written down, before an app gives it tools and takes it in."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from actors.roles.front_matter import FrontMatter
from bus.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actors.workflow.finding import Finding


class Role(FrontMatter, frozen=True, kw_only=True):
    """The settings at the top of a file, and its text: the instructions. ``app.role(...)`` makes an agent of it."""

    instructions: str = ""

    @staticmethod
    def load(path: str | Path) -> Role:
        """Read a file. Raises: UsageError that says all that is wrong with it, line by line."""
        from actors.roles.role_file import read_role

        file = Path(path)
        try:
            raw = file.read_bytes()
        except OSError as error:
            raise UsageError(f"cannot read {file}: {error.strerror}", code="no_file", path=str(file)) from None
        reading = read_role(str(file), raw)
        if reading.role is None:
            raise refusal(reading.findings)
        return reading.role

    @staticmethod
    def shipped(name: str) -> Role:
        """One of those that come with Callboard. Raises: UsageError for a name that none has."""
        from actors.roles.shelf import shipped_file

        return Role.load(shipped_file(name))


def refusal(findings: Sequence[Finding]) -> UsageError:
    """The error that says all that is wrong with a file."""
    return UsageError("\n".join(map(str, findings)), code="bad_agent_file", path=findings[0].file)
