"""Which component a new job runs on: always the newest version of its workflow."""

from __future__ import annotations

from actors.components.component import ComponentInfo
from actors.components.registry import Registry
from actors.components.version import parse_version
from bus.errors import UsageError
from bus.subjects import CallKind

WORKFLOW_KINDS: tuple[CallKind, ...] = ("job", "agent")


async def newest_workflow(registry: Registry, ref: str, wanted: str | int | None = None) -> ComponentInfo:
    """The workflow that ``ref`` names, if new jobs run on the version ``wanted``. Raises: UsageError, BusError."""
    try:
        info = registry.resolve(ref, WORKFLOW_KINDS)
    except UsageError:
        await registry.refresh()  # it may have come a moment ago
        info = _resolve(registry, ref)
    newest = registry.find(info.kind, info.name) or info
    if not _fits(newest, wanted) or newest.major != info.major:
        raise UsageError(
            f"new jobs of {info.name} run on version {newest.version}, not {wanted or ref}", code="old_version",
            path="version", hint="a job stays on the version that it began with; new ones take the newest",
        )  # fmt: skip
    return newest


def _resolve(registry: Registry, ref: str) -> ComponentInfo:
    try:
        return registry.resolve(ref, WORKFLOW_KINDS)
    except UsageError as error:
        code = "unknown_workflow" if error.code == "unknown_component" else error.code
        raise UsageError(str(error.args[0]), code=code, path="workflow", hint=error.hint) from error


def _fits(info: ComponentInfo, wanted: str | int | None) -> bool:
    """Whether ``wanted`` (a major or a whole version, None for any) is the version of ``info``. Raises: UsageError."""
    if wanted is None:
        return True
    text = str(wanted)
    if text.isascii() and text.isdigit():
        return info.major == int(text)
    return parse_version(text, "version") == parse_version(info.version, "version")
