"""A document that extends another one: what it changes there, and where such others are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from actors.workflow.document import Document, Id, Name, Part, Schema, Text, Values
from actors.workflow.finding import Fault

PUBLISHED_NAME = r"^[A-Za-z0-9_-]{1,64}@\S+$"
PublishedName = Annotated[str, Meta(pattern=PUBLISHED_NAME, description="published: name@version")]
Change = Annotated[
    dict[str, Any], Meta(description="fields by name; mappings are merged deeply, and null takes a field away")
]


class BaseFile(Part, frozen=True, kw_only=True):
    """A document in a file, named from the folder of the one that extends it."""

    file: Text


class Extension(Part, frozen=True, kw_only=True):
    """What another document is to be like: each field of a document that is here is merged over that of the base.

    Mappings are merged deeply, null takes a field away, and anything else takes the place of what was there (JSON Merge
    Patch, RFC 7386). ``params`` are values for the base's parameters, and ``declare`` are parameters themselves.
    ``steps`` are new ones; each may say ``after`` or ``before``: the id of the step beside which it is put.
    """

    schema: str | None = msgspec.field(default=None, name="$schema")
    extends: BaseFile | PublishedName
    name: Name | None = None
    version: str | None = None
    description: str | None = None
    category: str | None = None
    labels: dict[str, str | None] | None = None
    input: Schema | None = None
    output: Schema | None = None
    params: dict[Id, Any] = msgspec.field(default_factory=dict)
    declare: dict[Id, Change | None] = msgspec.field(default_factory=dict)
    at_once: Change | None = None
    rate: Change | None = None
    remove: tuple[Id, ...] = ()
    override: dict[Id, Change] = msgspec.field(default_factory=dict)
    steps: tuple[Values, ...] = ()
    result: Any = None


# Those that stand in both and are merged; the others of an extension say what is to be done.
MERGED_FIELDS = tuple(
    name
    for name in Document.__struct_encode_fields__
    if name in Extension.__struct_encode_fields__ and name not in ("$schema", "params", "steps")
)


@dataclass(frozen=True)
class Bases:
    """Where the documents are that others extend; None: nowhere.

    ``read`` gives the content of a file (its path is as seen from here), or raises OSError. ``published`` gives the
    definition of a name and version, or a fault (with an empty path) that says why there is none.
    """

    read: Callable[[str], bytes] | None = None
    published: Callable[[str, str], Document | Fault] | None = None


NO_BASES = Bases()
