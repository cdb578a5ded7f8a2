"""A survey of a directory of Python sources: how big, what is imported, which functions are the longest.

    callboard up examples.survey:app
    callboard submit survey path=. --wait

The job only says what is done in which order. What reads the disk is in tools, so that it is recorded, spread over
processes and tried again if one of them dies. On several machines all of them have to see the same directory.
"""

from __future__ import annotations

import ast
import heapq
import os
import sysconfig
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from actors import App, Job, Retry, TerminalError, ToolContext

app = App("survey", version="1.0.0", description="What is in a directory of Python sources")

TOP = 10
# Not the code of whoever owns the directory. Hidden directories and virtual environments are left out as well.
FOREIGN = {"site-packages", "dist-packages", "node_modules", "__pycache__", "__pypackages__"}
TESTS = {"test", "tests", "idle_test"}


class Sources(Struct):
    """The files below ``root``, relative to it, in batches."""

    root: str
    batches: list[list[str]]


class LongFunction(Struct):
    function: str
    lines: int
    file: str
    line: int


class ImportedModule(Struct):
    module: str
    files: int


class LargeFile(Struct):
    file: str
    lines: int
    size_bytes: int


class UnparsableFile(Struct):
    file: str
    line: int
    reason: str


class Part(Struct):
    """What one batch of files comes to: sums, and no more than the longest of each list."""

    files: int = 0
    lines: int = 0
    functions: int = 0
    classes: int = 0
    size_bytes: int = 0
    longest_functions: list[LongFunction] = []
    imports: dict[str, int] = {}
    largest_files: list[LargeFile] = []
    unparsable_files: list[UnparsableFile] = []


class Report(Struct):
    """The survey: totals, then tables. ``files`` of an imported module are those that import it."""

    path: str
    files: int
    lines: int
    functions: int
    classes: int
    modules_imported: int
    unparsable: int
    size_bytes: int
    longest_functions: list[LongFunction]
    most_imported: list[ImportedModule]
    largest_files: list[LargeFile]
    unparsable_files: list[UnparsableFile]


@app.job
async def survey(job: Job, path: str = "", batch: Annotated[int, Meta(ge=1)] = 40) -> Report:
    """Survey the Python sources below a directory.

    Args:
        path: A directory or file, relative to where the node runs; empty for Python's own standard library.
        batch: How many files one call parses.
    """
    sources = await job.call(find_sources, path=path, batch=batch)
    parts = await job.gather(*(job.call(parse_files, root=sources.root, files=files) for files in sources.batches))
    return await job.call(summarise, root=sources.root, parts=list(parts))


# ---- find


@app.tool
def find_sources(path: str = "", batch: int = 40) -> Sources:
    """List the Python files below a directory, in batches."""
    root = Path(path or sysconfig.get_path("stdlib")).expanduser().resolve()
    if not root.exists():
        raise TerminalError(f"there is no directory {root} on this machine", code="no_such_path")
    skipped = FOREIGN if path else FOREIGN | TESTS
    files = [str(file.relative_to(root)) for file in walk(root, skipped)] if root.is_dir() else [root.name]
    return Sources(
        root=str(root if root.is_dir() else root.parent),
        batches=[files[start : start + batch] for start in range(0, len(files), batch)],
    )


def walk(root: Path, skipped: set[str]) -> Iterator[Path]:
    """The ``.py`` files below ``root``, always in the same order."""
    for folder, inner, names in os.walk(root):
        inner[:] = sorted(name for name in inner if not _is_foreign(Path(folder, name), skipped))
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def _is_foreign(folder: Path, skipped: set[str]) -> bool:
    return folder.name in skipped or folder.name.startswith(".") or (folder / "pyvenv.cfg").exists()


# ---- parse


# One call at a time in each process: parsing keeps a core busy, several at once would only wait for each other.
@app.tool(replicas=2, concurrency=1, timeout_s=120, retry=Retry(attempts=5))
def parse_files(ctx: ToolContext, root: str, files: list[str]) -> Part:
    """Parse Python files and add up what is in them. A file that is no Python is listed, and no reason to fail."""
    surveys = []
    for done, file in enumerate(files):
        ctx.check_cancelled()
        ctx.progress(done, len(files), file)
        surveys.append(_survey_file(Path(root), file))
    return merge(surveys)


def _survey_file(root: Path, file: str) -> Part:
    try:
        source = (root / file).read_bytes()
    except OSError as error:  # not ours to read, or a link to nowhere
        return Part(files=1, unparsable_files=[UnparsableFile(file, 0, error.strerror or str(error))])
    lines = len(source.splitlines())
    part = Part(files=1, lines=lines, size_bytes=len(source), largest_files=[LargeFile(file, lines, len(source))])
    try:
        _add_code(part, _parse(source), file)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # ValueError: null bytes, wrong encoding
        line = getattr(error, "lineno", None) or 0
        part.unparsable_files = [UnparsableFile(file, line, getattr(error, "msg", None) or str(error))]
    return part


def _parse(source: bytes) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of files that are not ours to mend
        return ast.parse(source)


def _add_code(part: Part, tree: ast.Module, file: str) -> None:
    nodes = list(ast.walk(tree))
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    part.functions = len(functions)
    part.classes = sum(isinstance(node, ast.ClassDef) for node in nodes)
    part.imports = dict.fromkeys((module for node in nodes for module in _imported(node)), 1)
    part.longest_functions = _longest(LongFunction(node.name, _length(node), file, node.lineno) for node in functions)


def _length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def _imported(node: ast.AST) -> list[str]:
    """The packages that an import statement names; relative ones are the directory's own."""
    match node:
        case ast.Import(names):
            return [alias.name.partition(".")[0] for alias in names]
        case ast.ImportFrom(module=str() as module, level=0):
            return [module.partition(".")[0]]
        case _:
            return []


# ---- add up


@app.tool
def summarise(root: str, parts: list[Part]) -> Report:
    """Make the report of a survey from its parts."""
    whole = merge(parts)
    return Report(
        path=root,
        files=whole.files,
        lines=whole.lines,
        functions=whole.functions,
        classes=whole.classes,
        modules_imported=len(whole.imports),
        unparsable=len(whole.unparsable_files),
        size_bytes=whole.size_bytes,
        longest_functions=whole.longest_functions,
        most_imported=[ImportedModule(*item) for item in _most(whole.imports)],
        largest_files=whole.largest_files,
        unparsable_files=whole.unparsable_files,
    )


def merge(parts: Iterable[Part]) -> Part:
    """One part for all of them, the same whatever their order."""
    whole, imports = Part(), Counter[str]()
    for part in parts:
        whole.files += part.files
        whole.lines += part.lines
        whole.functions += part.functions
        whole.classes += part.classes
        whole.size_bytes += part.size_bytes
        imports.update(part.imports)
        whole.longest_functions = _longest([*whole.longest_functions, *part.longest_functions])
        whole.largest_files = _largest([*whole.largest_files, *part.largest_files])
        whole.unparsable_files = [*whole.unparsable_files, *part.unparsable_files]
    whole.imports = dict(imports)
    whole.unparsable_files.sort(key=lambda found: found.file)
    return whole


def _longest(functions: Iterable[LongFunction]) -> list[LongFunction]:
    return heapq.nsmallest(TOP, functions, key=lambda found: (-found.lines, found.file, found.line))


def _largest(files: Iterable[LargeFile]) -> list[LargeFile]:
    return heapq.nsmallest(TOP, files, key=lambda found: (-found.lines, found.file))


def _most(imports: dict[str, int]) -> list[tuple[str, int]]:
    return heapq.nsmallest(TOP, imports.items(), key=lambda found: (-found[1], found[0]))
