"""What a role gives: its words, and what of its log they may rest on. Pure data."""

from __future__ import annotations

import msgspec

from store.artifact import Artifact


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call that gave something. ``call`` is its key in the log of the job that made it.

    ``asked`` is its input, ``excerpt`` the beginning of its output, both as JSON and cut; ``origins`` are the tables,
    addresses and files that it read, as far as they can be told: ``table orders``, ``https://...``, ``file a.csv``.
    """

    call: str
    tool: str
    asked: str = ""
    origins: tuple[str, ...] = ()
    excerpt: str = ""


class Work(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A role's answer. ``evidence`` and ``artifacts`` come from the calls themselves, not from the model."""

    text: str
    evidence: tuple[Evidence, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
