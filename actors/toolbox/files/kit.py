"""The tools ``read_file``, ``list_files``, ``search_files``, and ``write_file`` where writing is allowed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from actors.components.app import App
from actors.components.component import Component
from actors.toolbox.files.listing import Entry, Match, as_text, content, entries, matches
from actors.toolbox.files.writing import write_whole
from actors.toolbox.kit import Kit
from actors.tools.tool_context import ToolContext
from bus.errors import UsageError
from bus.failure import TerminalError
from store.artifact import NAME_LIMIT_CHARS, Artifact

T = TypeVar("T")

MIB = 1024 * 1024
_TEXT_LIMIT_CHARS = 60_000
_LIMIT = 1000


class FileText(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Lines of a text file, ``first_line`` to ``last_line`` of ``lines``; what is no text comes as an artifact."""

    path: str
    size_bytes: int
    text: str = ""
    first_line: int = 0
    last_line: int = 0
    lines: int = 0
    file: Artifact | None = None


class FileList(msgspec.Struct, frozen=True, omit_defaults=True):
    """What lies in a folder; ``more`` if not all of it is said."""

    entries: list[Entry]
    more: bool = False


class FileMatches(msgspec.Struct, frozen=True, omit_defaults=True):
    """Lines that hold a text; ``more`` if not all of them are said."""

    matches: list[Match]
    more: bool = False


class WrittenFile(msgspec.Struct, frozen=True):
    """A file that was written, and whether there was none before."""

    path: str
    size_bytes: int
    is_new: bool


class Files(Kit):
    """Tools for the files below ``root``, a folder of the node that runs them.

    ``read_only=False`` adds ``write_file``. ``size_limit_bytes`` bounds a file that is read, searched or written.
    ``name`` is put before the names of the tools, with a dash: ``notes-read_file``. Raises: UsageError.
    """

    def __init__(self, root: str | Path, *, read_only: bool = True, size_limit_bytes: int = 8 * MIB,
                 name: str = "") -> None:  # fmt: skip
        super().__init__()
        if not str(root):
            raise UsageError("the kit files needs a folder", code="bad_kit", path="root", hint="Files('notes')")
        if size_limit_bytes < 1:
            raise UsageError("size_limit_bytes of the kit files is too small", code="bad_kit", path="size_limit_bytes",
                             hint="1 at least")  # fmt: skip
        self.root = Path(root)
        self.read_only = read_only
        self.size_limit_bytes = size_limit_bytes
        self.prefix = f"{name}-" if name else ""

    def declare(self, app: App) -> tuple[Component[..., Any], ...]:
        """Three tools, or four."""
        tools = (self._declare_read(app), self._declare_list(app), self._declare_search(app))
        return tools if self.read_only else (*tools, self._declare_write(app))

    def _declare_read(self, app: App) -> Component[..., Any]:
        @app.tool(name=f"{self.prefix}read_file", read_only=True)
        async def read_file(ctx: ToolContext, path: str, first_line: int = 1, last_line: int = 0) -> FileText:
            """Read a text file, or some of its lines. A file that is no text comes back as an artifact.

            Args:
                ctx: The call.
                path: Its path below the root, such as notes/plan.md.
                first_line: The first line wanted, from 1.
                last_line: The last line wanted; 0 for the end of the file.
            """
            return await self._read(ctx, path, max(first_line, 1), last_line)

        return read_file

    def _declare_list(self, app: App) -> Component[..., Any]:
        @app.tool(name=f"{self.prefix}list_files", read_only=True)
        async def list_files(folder: str = ".", pattern: str = "*") -> FileList:
            """List what lies in a folder and below it, with sizes in bytes. Links are listed and not followed.

            Args:
                folder: Its path below the root.
                pattern: What the name or the path has to fit, such as *.py or notes/*.
            """
            found, more = await asyncio.to_thread(lambda: _first(entries(self.root, folder, pattern)))
            return FileList(found, more)

        return list_files

    def _declare_search(self, app: App) -> Component[..., Any]:
        @app.tool(name=f"{self.prefix}search_files", read_only=True)
        async def search_files(text: str, pattern: str = "*", folder: str = ".") -> FileMatches:
            """Find the lines of text files that hold a text, whatever its case.

            Args:
                text: What to look for, as it stands: no pattern.
                pattern: What the file's name or path has to fit, such as *.py.
                folder: Where to look, by its path below the root.
            """
            if not text:
                raise TerminalError("say what to look for: the text is empty", code="bad_search")
            found, more = await asyncio.to_thread(
                lambda: _first(matches(self.root, entries(self.root, folder, pattern), text, self.size_limit_bytes))
            )
            return FileMatches(found, more)

        return search_files

    def _declare_write(self, app: App) -> Component[..., Any]:
        @app.tool(name=f"{self.prefix}write_file")
        async def write_file(
            ctx: ToolContext, path: str, text: str = "", file: Artifact | None = None, overwrite: bool = False
        ) -> WrittenFile:
            """Write a file, whole or not at all; folders that are missing are made.

            Args:
                ctx: The call.
                path: Its path below the root.
                text: What to write.
                file: An artifact to write instead of a text.
                overwrite: Whether a file that is there may be replaced.
            """
            data = await ctx.content(file) if file else text.encode()
            if len(data) > self.size_limit_bytes:
                raise TerminalError(f"{path}: {len(data):,} bytes are more than {self.size_limit_bytes:,}",
                                    code="file_too_large")  # fmt: skip
            is_new = await asyncio.to_thread(write_whole, self.root, path, data, overwrite=overwrite)
            return WrittenFile(path, len(data), is_new)

        return write_file

    async def _read(self, ctx: ToolContext, path: str, first_line: int, last_line: int) -> FileText:
        data, size_bytes = await asyncio.to_thread(content, self.root, path, self.size_limit_bytes + 1)
        if len(data) > self.size_limit_bytes:
            raise TerminalError(f"{path}: {size_bytes:,} bytes are more than {self.size_limit_bytes:,}; "
                                "search_files finds lines in smaller ones", code="file_too_large")  # fmt: skip
        text = as_text(data)
        if text is None:
            name = path.rstrip("/").rpartition("/")[2].replace("\\", "-").replace("\n", "-")[-NAME_LIMIT_CHARS:]
            return FileText(path=path, size_bytes=size_bytes, file=await ctx.artifact(name, data))
        return _excerpt(path, size_bytes, text, first_line, last_line)


def _excerpt(path: str, size_bytes: int, text: str, first_line: int, last_line: int) -> FileText:
    """Pure: whole lines, as many as fit."""
    lines = text.splitlines(keepends=True)
    wanted = lines[first_line - 1 : last_line or len(lines)]
    kept, room = 0, _TEXT_LIMIT_CHARS
    while kept < len(wanted) and len(wanted[kept]) <= room:
        room -= len(wanted[kept])
        kept += 1
    shown = "".join(wanted[:kept]) if kept or not wanted else wanted[0][:_TEXT_LIMIT_CHARS]
    return FileText(path=path, size_bytes=size_bytes, text=shown, first_line=first_line if wanted else 0,
                    last_line=first_line - 1 + max(kept, 1) if wanted else 0, lines=len(lines))  # fmt: skip


def _first(found: Iterator[T]) -> tuple[list[T], bool]:
    taken = list(islice(found, _LIMIT + 1))
    return taken[:_LIMIT], len(taken) > _LIMIT
