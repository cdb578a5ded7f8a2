"""Whether a document may be published beside what is: pure.

What is published under a version never becomes something else, and within a major nothing breaks who uses it, since
callers choose by the major (also by 0).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from actors.components.version import Version, parse_version
from actors.workflow.document import Document
from actors.workflow_versions.compatibility import Change, breaking, compare, differences, next_version
from actors.workflow_versions.definition import Definition, canonical, sha256_of
from bus.errors import UsageError
from bus.subjects import check_name

# Room for who published it, and for a word of deprecation.
_MARGIN_BYTES = 16 * 1024
_SHOWN_DIFFERENCES = 3


class Published(msgspec.Struct, frozen=True):
    """What came of publishing a document. ``existing``: it was published before, nothing was written.

    ``changes`` are those that break who uses the version before, published by force.
    """

    name: str
    version: str
    sha256: str
    existing: bool = False
    changes: tuple[Change, ...] = ()


def judge(
    document: Document,
    published: Sequence[Definition],
    beside: Iterable[Document] = (),
    *,
    force: bool = False,
    limit_bytes: int,
) -> Published:
    """What publishing does, given the versions of this name that are published, the newest first.

    ``beside`` are published in the same go; ``force`` lets breaks pass. Raises: UsageError ``bad_name``,
    ``bad_version``, ``too_large``, ``missing_param``, ``version_taken``, ``breaking_change``.
    """
    _check(document, limit_bytes)
    sha256 = sha256_of(document)
    for definition in published:
        if definition.version == document.version:
            if definition.sha256 != sha256:
                raise _taken(document, definition, published)
            return Published(document.name, document.version, definition.sha256, existing=True)
    broken = _broken(document, published, beside)
    if broken and not force:
        raise _breaks(document, broken, published)
    return Published(document.name, document.version, sha256, changes=tuple(broken))


def _check(document: Document, limit_bytes: int) -> None:
    """Whether it can be published at all. Raises: UsageError."""
    check_name(document.name, "name of the workflow")
    parse_version(document.version, f"version of workflow {document.name}")
    if missing := [name for name, param in document.params.items() if param.default is msgspec.UNSET]:
        raise UsageError(
            f"workflow {document.name}: the parameter {missing[0]!r} has no value", code="missing_param",
            path=f"$.params.{missing[0]}", hint="give it one",
        )  # fmt: skip
    raw, room = canonical(document), limit_bytes - _MARGIN_BYTES
    if len(raw) > room:
        raise UsageError(
            f"workflow {document.name} has {len(raw):,} bytes, a message has room for {room:,}", code="too_large",
            hint="make workflows of their own of its parts",
        )  # fmt: skip


def _broken(document: Document, published: Sequence[Definition], beside: Iterable[Document]) -> list[Change]:
    """What breaks who uses the version before it, of the same major."""
    version = parse_version(document.version, "version")
    known = [(v, other) for other in beside if other.name == document.name and _is_before(v := _of(other), version)]
    for definition in published:
        if _is_before(v := _of(definition), version) and (earlier := _readable(definition)):
            known.append((v, earlier))
            break
    before = max(known, key=lambda pair: pair[0], default=None)
    return breaking(compare(before[1], document)) if before else []


def _readable(definition: Definition) -> Document | None:
    """The document; None if it was published by a newer Callboard, with what is unknown here."""
    try:
        return definition.read()
    except UsageError:
        return None


def _of(of: Document | Definition) -> Version:
    return parse_version(of.version, "version")


def _is_before(one: Version, other: Version) -> bool:
    return one.major == other.major and one < other


def _taken(document: Document, existing: Definition, published: Sequence[Definition]) -> UsageError:
    there = existing.read()
    changes = compare(there, document)
    major = _of(document).major
    same_major = (definition.version for definition in published if _of(definition).major == major)
    base = published[0].version if breaking(changes) else next(same_major)
    plain = (msgspec.json.decode(canonical(each)) for each in (there, document))
    found = list(differences(*plain))
    more = f" and {len(found) - _SHOWN_DIFFERENCES} more" if len(found) > _SHOWN_DIFFERENCES else ""
    return UsageError(
        f"workflow {document.name} {document.version} is published with another content: "
        f"{'; '.join(found[:_SHOWN_DIFFERENCES])}{more}",
        code="version_taken", path="$.version", hint=f"give yours version {next_version(base, changes)}",
    )  # fmt: skip


def _breaks(document: Document, broken: list[Change], published: Sequence[Definition]) -> UsageError:
    major = max([_of(document).major, *(_of(definition).major for definition in published)]) + 1
    return UsageError(
        f"workflow {document.name} {document.version} breaks who uses the version before it: "
        f"{'; '.join(map(str, broken))}",
        code="breaking_change", path="$.version", hint=f"give it version {major}.0.0, or publish it by force",
    )  # fmt: skip
