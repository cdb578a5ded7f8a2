"""``callboard call``: one tool, at once: by a request to whoever serves it, or in this process."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from actors.clients.direct_call import call_directly
from actors.command_bodies.artifact_files import write_artifacts
from actors.command_bodies.session import EXIT_DONE, Session
from actors.components.registry import Registry, parse_ref
from actors.console.page import line
from actors.console.result_page import output_page
from bus.errors import UsageError
from store.artifact import artifacts_in

if TYPE_CHECKING:
    from actors.components.app import App
    from actors.components.component import Component
    from bus.objects import Blobs


async def call(
    session: Session, ref: str, body: Mapping[str, Any], *, timeout_s: float | None = None, save: str = ""
) -> int:
    """Ask whoever serves the tool. Raises: UsageError (unknown, or wrong input), PeerError, BusError."""
    async with await session.client() as client:
        registry = Registry(client.bus)
        await registry.start()
        info = registry.resolve(ref, ("tool",))
        await registry.stop()
        raw = await call_directly(client.bus, info, msgspec.json.encode(body), timeout_s=timeout_s)
        _show(session, raw)
        await _save(session, raw, client.blobs, save)
    return EXIT_DONE


async def call_here(
    session: Session, ref: str, values: Mapping[str, Any], *, target: str = "", timeout_s: float | None = None,
    save: str = "",
) -> int:  # fmt: skip
    """Run the tool in this process: of the app at ``target``, else of the standard toolbox.

    Raises: UsageError (unknown, or wrong settings or input), PeerError for what the tool raised.
    """
    from actors.tools.run_here import HeldBlobs, run_here

    app, tool, body = _of_app(target, ref, values) if target else _of_toolbox(ref, values)
    blobs = HeldBlobs()
    raw = await run_here(
        tool, msgspec.json.encode(body), blobs, timeout_s=timeout_s, workspace=session.workspace,
        assets=app.assets if app else {}, wires=app.assets_of(tool) if app else {},
    )  # fmt: skip
    _show(session, raw)
    await _save(session, raw, blobs, save)
    return EXIT_DONE


def _of_toolbox(ref: str, values: Mapping[str, Any]) -> tuple[None, Component[..., Any], Mapping[str, Any]]:
    from actors.toolbox.shelf import find_tool

    return None, *find_tool(parse_ref(ref)[1], values, os.environ)


def _of_app(target: str, ref: str, values: Mapping[str, Any]) -> tuple[App, Component[..., Any], Mapping[str, Any]]:
    from actors.components.loading import load_app

    app = load_app(target)
    prefix, name, major = parse_ref(ref)
    tool = app.find("tool", name, major) if prefix in ("", app.name) else None
    if tool is None:
        raise _unknown(app, name, ref)
    return app, tool, values


def _unknown(app: App, name: str, ref: str) -> UsageError:
    names = sorted({f"{each.name}@{each.major}" for each in app.components if each.kind == "tool"})
    near = difflib.get_close_matches(name, names, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else f"it has {', '.join(names) or 'no tools'}"
    return UsageError(f"app {app.name} has no tool {ref!r}", code="unknown_component", hint=hint)


# ---- what came of it


def _show(session: Session, raw: bytes) -> None:
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json(raw)
    else:
        screen.show(output_page(msgspec.json.decode(raw)))


async def _save(session: Session, raw: bytes, blobs: Blobs, folder: str) -> None:
    """Write the artifacts of the output into ``folder``, which is made."""
    if not folder:
        return
    found = list(dict.fromkeys(artifacts_in(msgspec.json.decode(raw))))
    if not found:
        session.notes().show([line("the output has no artifacts to save")])
    async for _, path in write_artifacts(blobs, Path(folder), found):
        session.notes().show([line(f"saved {path}")])
