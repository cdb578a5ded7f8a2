"""The house rules that a machine can keep (the linter and the type checker keep the rest)."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("actors", "bus", "store", "supervisor")
FUNCTION_LIMIT_LINES = 60
FILE_LIMIT_LINES = 450  # aim at 400
ROOM_LIMIT_FILES = 25
DRAWERS = {"utils", "util", "helpers", "helper", "common", "misc", "manager", "managers", "shared", "base"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _code(*folders: str) -> list[Path]:
    files = [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]
    return files + [file for file in [ROOT / "cli.py"] if file.exists() and "actors" in folders]


def _where(file: Path, node: ast.AST | None = None) -> str:
    return f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 1)} {getattr(node, 'name', '')}".rstrip()


def _tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def _functions(file: Path) -> Iterator[Function]:
    yield from (node for node in ast.walk(_tree(file)) if isinstance(node, Function))


def test_functions_are_short() -> None:
    """No function is longer than a screen."""
    long = [f"{_where(file, node)} has {lines} lines" for file in _code(*PACKAGES, "bench", "examples")
            for node in _functions(file)
            if (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LIMIT_LINES]  # fmt: skip
    assert not long


def test_files_are_short() -> None:
    """One noun per file: a file that grows past the limit holds two."""
    sizes = {_where(file): len(file.read_text().splitlines()) for file in _code(*PACKAGES)}
    assert not {where: lines for where, lines in sizes.items() if lines > FILE_LIMIT_LINES}


def test_no_room_is_crowded() -> None:
    """A folder of ``actors`` is for one concern: one that grows past the limit has two."""
    sizes = {room.name: len(list(room.glob("*.py"))) for room in (ROOT / "actors").iterdir() if room.is_dir()}
    assert not {name: files for name, files in sizes.items() if files > ROOM_LIMIT_FILES}


def test_every_room_is_in_the_architecture() -> None:
    """Someone new finds in one table what each folder of ``actors`` is for, and nothing that is gone."""
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {room.name for room in (ROOT / "actors").iterdir() if (room / "__init__.py").exists()}
    table = page.partition("| room | holds |")[2].partition("\n\n")[0]
    said = {
        name
        for row in table.splitlines()
        for name in re.findall(r"`([\w.]+)`", row.partition("|")[2].partition("|")[0])
    }
    assert said == rooms | {"testing.py"}
    paths = re.findall(r"`((?:actors|bus|store|supervisor)/[\w/.]+)`", page)
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_no_drawers() -> None:
    """A file is named after what it holds, not after the fact that it holds something."""
    assert not [_where(file) for file in _code(*PACKAGES) if set(file.stem.split("_")) & DRAWERS]


def _public(body: list[ast.stmt]) -> Iterator[ast.ClassDef | Function]:
    yield from (node for node in body if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"))


def test_public_things_are_documented() -> None:
    """Modules, public classes and public functions of a module say what they are for."""
    bare = [
        _where(file) for file in _code(*PACKAGES) if file.read_text().strip() and not ast.get_docstring(_tree(file))
    ]
    bare += [_where(file, node) for file in _code(*PACKAGES) for node in _public(_tree(file).body)
             if not ast.get_docstring(node)]  # fmt: skip
    assert not bare


def test_every_test_says_what_it_shows() -> None:
    """Each test has a docstring, since its name is too short to say what has to hold."""
    tests = [(file, node) for file in _code("tests") if file.name.startswith("test_") for node in _functions(file)
             if node.name.startswith("test_")]  # fmt: skip
    assert not [_where(file, node) for file, node in tests if not ast.get_docstring(node)]


def test_constraints_pin_what_the_project_asks_for() -> None:
    """Every direct dependency has one exact version in constraints.txt, and nothing but names and versions is there."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [re.fullmatch(r"([A-Za-z0-9._-]+)==[A-Za-z0-9.+!]+", line) for line in lines if not line.startswith("#")]
    assert all(pins)
    pinned = {_normal(pin[1]) for pin in pins if pin}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    assert not {_normal(re.split(r"[\[<>=;~! ]", one)[0]) for one in asked} - pinned


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_ci_runs_make_test() -> None:
    """The script of CI is runnable and does what a developer does."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()


SKIPPING = {
    "test_mark": "@pytest.mark.skip(reason='no reason that counts')\ndef test_it(): pass",
    "test_body": "def test_it(): pytest.skip('no reason that counts')",
    "test_module": "pytest.skip('no reason that counts', allow_module_level=True)",
    "test_fixture": "@pytest.fixture\ndef f(): pytest.skip('no reason that counts')\ndef test_it(f): pass",
    "test_listed": "def test_it(): pytest.skip('the stock nats CLI is not on PATH')",
}


@pytest.mark.parametrize(
    ("ci", "outcomes"), [("true", {"failed": 1, "errors": 3, "skipped": 1}), ("", {"skipped": len(SKIPPING)})]
)
def test_skips_fail_in_ci(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, ci: str, outcomes: dict[str, int]
) -> None:
    """A skip fails in CI, wherever it comes from, unless its reason is listed; elsewhere it is a skip."""
    monkeypatch.setenv("CI", ci)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    pytester.makeini("[pytest]\nasyncio_mode = auto\naddopts = --continue-on-collection-errors")
    pytester.makeconftest((ROOT / "tests" / "conftest.py").read_text())
    pytester.makepyfile(**{name: f"import pytest\n{source}" for name, source in SKIPPING.items()})
    run = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    assert run.parseoutcomes() == outcomes
    assert (run.ret == 0) == (not ci)
