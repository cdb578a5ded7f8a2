"""What a reviewer gives: which work has to be done again, and why. Pure data."""

from __future__ import annotations

import msgspec


class Returned(msgspec.Struct, frozen=True):
    """Work that goes back to the role that did it: ``task`` is its id, ``reason`` what has to be better."""

    task: str
    reason: str


class Verdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """Nothing ``returned``: all of it is accepted. ``comment`` is for who reads the result."""

    returned: tuple[Returned, ...]  # has to be said: silence must not pass for consent
    comment: str = ""

    @property
    def is_accepted(self) -> bool:
        """Whether nothing goes back."""
        return not self.returned
