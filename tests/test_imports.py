"""The directions of imports: bus <- store, supervisor <- actors <- cli, and nats inside bus only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "bus": set[str](),
    "store": {"bus"},
    "supervisor": {"bus"},
    "actors": {"bus", "store", "supervisor"},
}
OURS = {*MAY_IMPORT, "cli", "bench", "examples", "tests"}
NATS = {"nats", "nkeys"}
# A module of `supervisor` that imports one of these acts on the world; `actors` may import the others.
IMPURE = {"asyncio", "concurrent", "multiprocessing", "random", "signal", "socket", "subprocess", "threading", "time"}
# The child's half of the supervision of processes: it is made to be used by the child, whatever runs in it.
CHILD_SIDE = {"supervisor.tether"}
# Packages of others that take long to import, or much memory.
SDKS = (
    "anthropic",
    "openai",
    "httpx2",
    "mcp",
    "plotly",
    "sqlglot",
    "duckdb",
    "asyncpg",
    "pydantic",
    "jsonschema",
    "cel",
)


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file; ``from a import b`` gives ``a.b`` if that is a file."""
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            modules = [name for name in names if (ROOT / f"{name.replace('.', '/')}.py").exists()]
            yield from modules or [node.module]


def _top(module: str) -> str:
    return module.partition(".")[0]


def _files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_directions(package: str) -> None:
    """A package imports itself and what stands below it, and nothing of ours that stands above or beside it."""
    allowed = MAY_IMPORT[package] | {package}
    wrong = [f"{file.relative_to(ROOT)} imports {module}" for file in _files(package) for module in _imports(file)
             if _top(module) in OURS - allowed]  # fmt: skip
    assert not wrong


def test_only_bus_imports_nats() -> None:
    """The client library has one owner, so that its quirks are handled in one place."""
    files = [file for package in MAY_IMPORT if package != "bus" for file in _files(package)] + [ROOT / "cli.py"]
    assert not [f"{file.relative_to(ROOT)} imports {module}" for file in files if file.exists()
                for module in _imports(file) if _top(module) in NATS]  # fmt: skip


def _impure_imports(module: str, seen: set[str]) -> Iterator[str]:
    """Modules by which ``module``, or what it imports of supervisor, acts on the world."""
    if module in seen or module in CHILD_SIDE:
        return
    seen.add(module)
    file = ROOT / f"{module.replace('.', '/')}.py"
    for imported in _imports(file if file.exists() else ROOT / module / "__init__.py"):
        if _top(imported) in IMPURE:
            yield f"{module} imports {imported}"
        elif _top(imported) == "supervisor":
            yield from _impure_imports(imported, seen)


def test_actors_import_only_the_pure_parts_of_supervisor() -> None:
    """Policy is shared, processes are not: an actor never starts or stops one."""
    seen: set[str] = set()
    used = {module for file in _files("actors") for module in _imports(file) if _top(module) == "supervisor"}
    assert not [wrong for module in sorted(used) for wrong in _impure_imports(module, seen)]


def test_each_package_imports_alone() -> None:
    """Each package imports in a fresh interpreter: no cycle is hidden by the order in which tests import."""
    for package in MAY_IMPORT:
        modules = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in _files(package)]
        names = [name.removesuffix(".__init__") for name in modules if not name.endswith("__main__")]
        script = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
        run = subprocess.run([sys.executable, "-c", script, *names], cwd=ROOT, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("actors.node.roles", ("actors.hosts", "actors.agents", "actors.interpreter", *SDKS)),  # a tool's process
        ("actors.node.roles, actors.hosts.host, actors.agents.declaring", ("actors.interpreter", *SDKS)),  # an agent's
        ("actors.clients.client", ("yaml", "actors.workflow_rules", *SDKS)),
    ],
)
def test_processes_import_what_they_need(modules: str, unwanted: tuple[str, ...]) -> None:
    """Each of hundreds of processes pays for its imports; packages of providers and kits wait for their first use."""
    code = f"import sys, {modules}; print(*(name for name in {unwanted!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not done.stdout.split()
