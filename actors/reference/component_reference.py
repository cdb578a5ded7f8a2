"""The page of a component: all versions of one kind and name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from actors.components.component import ComponentInfo
from actors.console.amount import size
from actors.reference.entry import MARK, workflow_file
from actors.reference.markdown import code, prose, seconds, table
from actors.reference.schema_table import schema_lines
from supervisor.breaker import Breaker
from supervisor.retry import Retry


def component_reference(infos: Sequence[ComponentInfo], users: Sequence[str]) -> str:
    """Markdown, with a line's end at its end; ``users`` are the workflows that run it."""
    return "\n".join(_page(infos, users)) + "\n"


def _page(infos: Sequence[ComponentInfo], users: Sequence[str]) -> Iterator[str]:
    first = infos[0]
    yield from (MARK, "", f"# {first.kind.capitalize()} {first.name}")
    if users:
        links = (f"[{code(name)}](../{workflow_file(name)})" for name in sorted(set(users)))
        yield from ("", f"Used by {', '.join(links)}.")
    for info in infos:
        yield from _version(info)


def _version(info: ComponentInfo) -> Iterator[str]:
    yield from ("", f"## {info.app}.{info.name} {info.version}")
    if info.description.strip():
        yield from ("", prose(info.description))
    yield from ("", "### Takes", "", *schema_lines(info.input_schema))
    yield from ("", "### Gives", "", *schema_lines(info.output_schema))
    yield from ("", "### Policy", "", *table(["", ""], _policy(info)))


def _policy(info: ComponentInfo) -> Iterator[list[str]]:
    """What differs from nothing at all; the rest would be the same on every page."""
    yield ["run as", code(f"{info.app}.{info.name}@{info.major}")]
    yield ["time limit", seconds(info.timeout_s) if info.timeout_s is not None else "none"]
    if info.kind == "tool" or info.retry != Retry():
        yield ["retry", _retry(info.retry)]
    if info.kind == "tool":
        yield ["circuit breaker", _breaker(info.breaker) if info.breaker else "none"]
        yield ["at a time", f"{info.concurrency} in each process"]
    yield ["processes", str(info.replicas)]
    if info.group:
        yield ["group", code(info.group)]
    yield ["restart", info.restart]
    if limits := list(_limits(info)):
        yield ["limits", ", ".join(limits)]
    yield from ([name, text] for name, text in _rest(info))


def _retry(retry: Retry) -> str:
    if retry.attempts == 1:
        return "none"
    waits = f"waits from {seconds(retry.backoff_s)}, times {retry.factor:g}, up to {seconds(retry.max_wait_s)}"
    names = [code(str(name)) for name in retry.on]
    jitter = "" if retry.jitter else ", without jitter"
    return f"{retry.attempts} attempts, {waits}{jitter}" + (f", on {', '.join(names)}" if names else "")


def _breaker(breaker: Breaker) -> str:
    slow = f", or {breaker.slow_share:.0%} take longer than {seconds(breaker.slow_s)}" if breaker.slow_s else ""
    calls = f"{breaker.failure_share:.0%} of {breaker.min_calls} calls or more within {seconds(breaker.window_s)}"
    open_ = f"stays open for {seconds(breaker.open_s)}, up to {seconds(breaker.max_open_s)}"
    return f"opens when {calls} fail{slow}; {open_}; callers {breaker.on_open} meanwhile"


def _limits(info: ComponentInfo) -> Iterator[str]:
    if info.limits.memory_bytes is not None:
        yield f"{size(info.limits.memory_bytes)} of memory"
    if info.limits.cpu_s is not None:
        yield f"{seconds(info.limits.cpu_s)} of CPU time in {seconds(info.limits.cpu_window_s)}"


# Fields that have a place of their own above.
_TOLD = frozenset((
    "kind", "name", "app", "version", "description", "input_schema", "output_schema", "digest", "retry", "timeout_s",
    "replicas", "concurrency", "group", "restart", "limits", "breaker",
))  # fmt: skip


def _rest(info: ComponentInfo) -> Iterator[tuple[str, str]]:
    """What else is not as it is by itself, also of fields that are newer than this page."""
    told: dict[str, Any] = msgspec.to_builtins(info)
    for name, value in sorted(told.items()):
        if name not in _TOLD:
            yield name.replace("_", " "), code(msgspec.json.encode(value).decode())
