"""Which tools an MCP client is shown for which components. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from actors.components.component import ComponentInfo

_KINDS = {"tool": "a tool", "job": "a job", "agent": "an agent"}
# What clients take is 64 characters of these; ours are names that may be longer.
NAME_LIMIT_CHARS = 64
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")


class Offer(NamedTuple):
    """A component under the name by which clients call it."""

    name: str
    info: ComponentInfo

    @property
    def description(self) -> str:
        """What the component says of itself; a name alone would help no model."""
        kind = f"{_KINDS[self.info.kind].capitalize()} of app {self.info.app}"
        return self.info.description or f"{kind}: {self.info.name}."

    @property
    def output_schema(self) -> dict[str, Any] | None:
        """The schema of structured content, which is an object; other outputs go as text."""
        schema = self.info.output_schema
        return schema if schema.get("type") == "object" else None


def offers(infos: Iterable[ComponentInfo]) -> list[Offer]:
    """The newest version of each major under the plain name; what shares a name has its kind or major in it."""
    newest: dict[tuple[str, str, int], ComponentInfo] = {}
    for info in infos:  # the newest version comes first
        newest.setdefault((info.kind, info.name, info.major), info)
    kinds = Counter(name for name in {(kind, name) for kind, name, _ in newest})
    shared = Counter(name for _, name in kinds)
    tops = {(kind, name): max(m for k, n, m in newest if (k, n) == (kind, name)) for kind, name in kinds}
    found: list[Offer] = []
    taken: set[str] = set()
    for (kind, name, major), info in newest.items():
        plain = f"{kind}_{name}" if shared[name] > 1 and kind != "tool" else name
        wanted = plain if major == tops[kind, name] else f"{plain}_v{major}"
        found.append(Offer(_free(_NOT_IN_NAMES.sub("_", wanted), taken), info))
    return found


def _free(wanted: str, taken: set[str]) -> str:
    """A name that nothing else has, within the limit."""
    name, number = wanted[:NAME_LIMIT_CHARS], 1
    while name in taken:
        number += 1
        end = f"_{number}"
        name = wanted[: NAME_LIMIT_CHARS - len(end)] + end
    taken.add(name)
    return name
