"""What is said live on ``stream.<workspace>.<job>``: pieces of a model's answer while it is made. Nothing is stored."""

from __future__ import annotations

from typing import Literal

import msgspec

PieceKind = Literal["text", "thinking"]


class Piece(msgspec.Struct, frozen=True, omit_defaults=True):
    """``text`` of the model call ``call`` from its character ``offset`` on; with ``end`` the call is over.

    ``run`` is new for each time that the call is made: text of an earlier one, which a crash cut off, is void.
    """

    job: str
    call: str
    run: str
    offset: int = 0
    text: str = ""
    kind: PieceKind = "text"
    end: bool = False
