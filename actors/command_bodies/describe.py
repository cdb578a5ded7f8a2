"""What an app holds, asked of a process of its own: a module that does not import takes nobody down with it."""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from actors.components.component import ComponentInfo
from actors.workflow.document import Document
from bus.errors import UsageError
from supervisor.restart import Group


class Description(msgspec.Struct, frozen=True):
    """An app from outside; ``documents`` are the workflows that are shipped with it."""

    app: str
    version: str
    components: list[ComponentInfo]
    groups: dict[str, Group] = {}
    documents: list[Document] = []


async def describe(target: str) -> Description:
    """Raises: UsageError with what the module's own process said."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "actors.node.process", "describe", target,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env=import_environment(),
    )  # fmt: skip
    out, err = await child.communicate()
    last = out.strip().rpartition(b"\n")[2]
    if child.returncode == 0 and last:
        return msgspec.json.decode(last, type=Description)
    raise refusal("load", target, child.returncode, err)


def refusal(verb: str, target: str, code: int | None, err: bytes) -> UsageError:
    """Why the process of a module did not do what it was started for, by its last words."""
    said = err.decode(errors="replace").strip() or f"it ended with code {code} and said nothing"
    # The last one that begins a line: what it says of another program may hold the same word.
    message, _, rest = f"\n{said}".rpartition("\nerror: ")[2].strip().partition("\n")
    message = message.removeprefix(f"{target}: ")
    return UsageError(f"cannot {verb} {target}: {message}", code="bad_target", hint=rest.strip())


def import_environment() -> dict[str, str]:
    """The environment of a child that has to find what can be imported from here."""
    paths = [os.getcwd(), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]  # noqa: PTH109 - a string for the variable
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(p for p in paths if p))}
