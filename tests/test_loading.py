"""load_app: every way to name an app, and every way in which that goes wrong."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.components.loading import load_app
from bus.errors import UsageError

SHOP = "from actors.components.app import App\napp = App('shop')\nnumber = 5\n"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; imports made in it are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(path: Path, source: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return path


def refusal(target: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load_app(target)
    return caught.value


# ---- what works


@pytest.mark.parametrize(
    "target", ["cb_shop:app", "cb_shop", "cb_shop:", "cb_shop.py:app", "./cb_shop.py", "cb_shop.py"]
)
def test_a_module_of_the_working_directory(directory: Path, target: str) -> None:
    """By name or by file, with or without the attribute if there is one App only."""
    write(directory / "cb_shop.py", SHOP)
    assert load_app(target).name == "shop"


def test_a_module_in_a_package_is_one_module_by_name_and_by_path(directory: Path) -> None:
    """A file in a package is imported under its dotted name, so relative imports work and it is loaded once."""
    write(directory / "src/cb_pkg/__init__.py", "")
    write(directory / "src/cb_pkg/names.py", "NAME = 'deep'\n")
    write(
        directory / "src/cb_pkg/mod.py",
        "from actors import App\nfrom .names import NAME\napp = App(NAME)\n",
    )
    by_path = load_app(str(directory / "src/cb_pkg/mod.py") + ":app")
    assert by_path.name == "deep"
    assert load_app("cb_pkg.mod:app") is by_path


def test_a_file_elsewhere_finds_its_neighbours(directory: Path) -> None:
    """Modules beside the file can be imported by it, whatever the working directory."""
    write(directory / "far/cb_neighbour.py", "NAME = 'far'\n")
    write(
        directory / "far/cb_far.py",
        "from actors.components.app import App\nfrom cb_neighbour import NAME\napp = App(NAME)\n",
    )
    assert load_app("far/cb_far.py:app").name == "far"


def test_an_app_under_two_names_is_one_app(directory: Path) -> None:
    """Only different Apps make the choice unclear; a dotted attribute is followed."""
    write(directory / "cb_two.py", SHOP + "application = app\nclass box:\n    inner = app\n")
    assert load_app("cb_two") is load_app("cb_two:box.inner")


# ---- what does not


@pytest.mark.parametrize("target", ["", ":app", "cb shop:app", "cb_shop:a b", "cb-shop:app", "..:app"])
def test_nonsense_is_a_bad_target(target: str) -> None:
    """What can be no module or attribute is told so, with an example."""
    error = refusal(target)
    assert error.code == "bad_target"
    assert "shop:app" in str(error)


def test_a_missing_module_is_told_with_the_nearest_name(directory: Path) -> None:
    """Names of modules, packages and files in reach are offered."""
    write(directory / "cb_shop.py", SHOP)
    write(directory / "cb_pkg/__init__.py", "")
    write(directory / "cb_pkg/orders.py", SHOP)
    for target, hint in (
        ("cb_shpo:app", "did you mean cb_shop?"),
        ("cb_pkgg.orders:app", "did you mean cb_pkg?"),
        ("cb_pkg.order:app", "did you mean orders?"),
        ("./cb_shoop.py:app", "did you mean cb_shop.py?"),
        ("zzz:app", "run it where the module is"),
    ):
        error = refusal(target)
        assert error.code == "module_not_found", target
        assert hint in str(error)


@pytest.mark.parametrize(
    ("source", "line", "words", "code"),
    [
        ("import cb_not_installed\n", 1, "No module named 'cb_not_installed'", "import_failed"),
        ("\n\n1 / 0\n", 3, "ZeroDivisionError: division by zero", "import_raised"),
        ("def f(:\n", 1, "SyntaxError", "import_failed"),
        ("import sys\nsys.exit(3)\n", 2, "sys.exit(3)", "import_raised"),
        (SHOP + "@app.tool\ndef f(*a): ...\n", 4, "tool f, parameter '*a'", "import_failed"),
        ("def g():\n    raise ValueError('two\\nlines')\ng()\n", 2, "lines", "import_raised"),
    ],
)
def test_a_module_that_raises_is_told_with_its_line(
    directory: Path, source: str, line: int, words: str, code: str
) -> None:
    """The user's own line and the last line of the traceback are in the message; the code says if it may pass."""
    write(directory / "cb_broken.py", source)
    error = refusal("cb_broken:app")
    assert error.code == code
    assert f"cb_broken.py:{line}: " in str(error)
    assert words in str(error)


def test_a_module_that_was_repaired_can_be_loaded(directory: Path) -> None:
    """A failed import leaves nothing behind."""
    write(directory / "cb_fixed.py", "1 / 0\n")
    assert refusal("cb_fixed:app").code == "import_raised"
    write(directory / "cb_fixed.py", SHOP + "# repaired, and of another length\n")
    assert load_app("cb_fixed:app").name == "shop"


def test_a_missing_attribute_is_told_with_the_nearest_name(directory: Path) -> None:
    """An App of a similar name is offered first, then the Apps that there are."""
    write(directory / "cb_shop.py", SHOP)
    near, far = refusal("cb_shop:ap"), refusal("cb_shop:zzz")
    assert (near.code, far.code) == ("no_such_attribute", "no_such_attribute")
    assert "did you mean app?" in str(near)
    assert "its Apps are app" in str(far)


@pytest.mark.parametrize(("attribute", "words"), [("number", "a int"), ("App", "the class App")])
def test_something_else_is_not_an_app(directory: Path, attribute: str, words: str) -> None:
    """What was found instead is said, with the Apps that the module has."""
    write(directory / "cb_shop.py", SHOP)
    error = refusal(f"cb_shop:{attribute}")
    assert error.code == "not_an_app"
    assert words in str(error)
    assert "its Apps are app" in str(error)


def test_without_an_attribute_there_must_be_one_app(directory: Path) -> None:
    """None and several are told apart."""
    write(directory / "cb_none.py", "x = 1\n")
    write(directory / "cb_many.py", SHOP + "other = App('other')\n")
    none, many = refusal("cb_none"), refusal("cb_many")
    assert (none.code, many.code) == ("no_app", "many_apps")
    assert "app, other" in str(many)


def test_a_file_that_another_module_hides_is_refused(directory: Path) -> None:
    """A file named like a module that is loaded already would silently be that other one."""
    write(directory / "json.py", SHOP)
    error = refusal("./json.py:app")
    assert error.code == "bad_target"
    assert "hidden by another module json" in str(error)


def test_a_file_that_is_no_module_name_is_refused(directory: Path) -> None:
    """A hyphen in a file name is told with the name that would do."""
    write(directory / "my-shop.py", SHOP)
    assert "rename it to my_shop.py" in str(refusal("my-shop.py:app"))
