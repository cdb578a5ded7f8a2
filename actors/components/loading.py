"""Find the App that a command line names: ``shop:app``, ``pkg.mod:app``, ``path/to/shop.py:app``, or without attribute.

Users' modules fail in many ways; each gets its own code and says where to look, since this is the first thing that a
newcomer gets wrong.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from actors.components.app import App
from bus.errors import CallboardError, UsageError

if TYPE_CHECKING:
    from types import ModuleType

_EXAMPLE = "write module:app, such as shop:app or path/to/shop.py:app"
_OUR_DIRECTORY = str(Path(__file__).parent.parent)


class _Target(NamedTuple):
    text: str
    module: str
    attribute: str


def load_app(target: str) -> App:
    """The App at ``target``; the working directory is on the import path, as for ``python -m``.

    Raises: UsageError with code ``bad_target``, ``module_not_found``, ``import_failed``, ``no_such_attribute``,
    ``not_an_app``, ``no_app`` or ``many_apps``.
    """
    parsed = _parse(target)
    module = _module(parsed)
    return _attribute(module, parsed) if parsed.attribute else _only_app(module, parsed)


def load_object(target: str, what: str, example: str) -> object:
    """What stands at ``module:attribute``, which is to be a ``what``, such as ``example``.

    Raises: UsageError with code ``bad_target``, ``module_not_found``, ``import_failed`` or ``no_such_attribute``.
    """
    hint = f"write module:attribute, such as {example}"
    parsed = _parse(target, what, hint)
    if not parsed.attribute:
        raise UsageError(f"{target!r} names no {what}", code="bad_target", path=target, hint=hint)
    value: object = _module(parsed)
    for part in parsed.attribute.split("."):
        if not hasattr(value, part):
            near = difflib.get_close_matches(part, dir(value), n=1)
            raise UsageError(f"{target}: {parsed.module} has no attribute {part!r}", code="no_such_attribute",
                             path=target, hint=f"did you mean {near[0]}?" if near else hint)  # fmt: skip
        value = getattr(value, part)
    return value


def _module(target: _Target) -> ModuleType:
    if _is_path(target.module):
        return _import_path(target)
    _put_on_path(Path.cwd())
    return _import(target.module, target)


def _parse(target: str, what: str = "app", hint: str = _EXAMPLE) -> _Target:
    module, colon, attribute = target.rpartition(":")
    if not colon:
        module, attribute = target, ""
    if not module or not all(part.isidentifier() for part in attribute.split(".") if attribute):
        raise UsageError(f"{target!r} names no {what}", code="bad_target", path=target, hint=hint)
    if not _is_path(module) and not all(part.isidentifier() for part in module.split(".")):
        raise UsageError(f"{module!r} is no module name", code="bad_target", path=target, hint=hint)
    return _Target(target, module, attribute)


def _is_path(module: str) -> bool:
    return module.endswith(".py") or "/" in module


def _put_on_path(directory: Path) -> None:
    if str(directory) not in sys.path:
        sys.path.insert(0, str(directory))


# ---- from a name or a file to a module


def _import_path(target: _Target) -> ModuleType:
    """Import a file under the dotted name that it has for its neighbours, so that it is never loaded twice."""
    file = Path(target.module).expanduser().resolve()
    if not file.is_file():
        close = difflib.get_close_matches(file.name, _python_files(file.parent), n=1)
        raise _not_found(target, f"there is no file {target.module}", close)
    root, name = _dotted_name(file)
    if not name.isidentifier() and not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(
            f"{file.name} cannot be imported: {name!r} is no module name",
            code="bad_target",
            path=target.text,
            hint=f"rename it to {name.replace('-', '_')}.py",
        )
    _put_on_path(root)
    module = _import(name, target)
    if (origin := getattr(module, "__file__", None)) is None or not Path(origin).samefile(file):
        raise UsageError(
            f"{target.module} is hidden by another module {name}, {origin or 'a built-in one'}",
            code="bad_target",
            path=target.text,
            hint="rename the file",
        )
    return module


def _dotted_name(file: Path) -> tuple[Path, str]:
    """The directory to import from, and the file's module name seen from there."""
    root, parts = file.parent, [file.stem]
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    return root, ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _import(name: str, target: _Target) -> ModuleType:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # The same exception also comes from an import inside of the module; its name tells the two apart.
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise _no_module(error.name, target) from error
        raise _import_failed(name, target, error) from error
    except (Exception, SystemExit) as error:
        raise _import_failed(name, target, error) from error


def _no_module(missing: str, target: _Target) -> UsageError:
    here = Path.cwd()
    near = here if "." not in missing else here.joinpath(*missing.split(".")[:-1])
    stems = [Path(name).stem for name in _python_files(near)] + [p.parent.name for p in near.glob("*/__init__.py")]
    close = difflib.get_close_matches(missing.rpartition(".")[2], stems, n=1)
    return _not_found(target, f"there is no module {missing!r} in {here} or on Python's path", close)


def _not_found(target: _Target, reason: str, close: list[str]) -> UsageError:
    hint = f"did you mean {close[0]}?" if close else "run it where the module is, or give the path of its file"
    return UsageError(f"{target.text}: {reason}", code="module_not_found", path=target.text, hint=hint)


def _python_files(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.glob("*.py")) if directory.is_dir() else []


# Another try imports the same text. Whatever else a module raises may pass, such as a database that is away.
_LASTING = (ImportError, SyntaxError, NameError, CallboardError)


def _import_failed(name: str, target: _Target, error: BaseException) -> UsageError:
    last = "".join(traceback.format_exception_only(error)).strip().splitlines()[-1]
    if isinstance(error, CallboardError):  # its text says it all, and its class is ours
        last = str(error)
    elif isinstance(error, SystemExit):
        last = f"it called sys.exit({error.code!r})"
    return UsageError(
        f"{target.text}: importing {name} raised at {_place(error)}: {last}",
        code="import_failed" if isinstance(error, _LASTING) else "import_raised",
        path=target.text,
        hint=f"python -c 'import {name}' shows the whole traceback",
    )


def _place(error: BaseException) -> str:
    """``file:line`` of the user's last line: neither the import machinery nor our own decorators."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen ")]
    users = [f for f in frames if not f.filename.startswith(_OUR_DIRECTORY) and f.filename != importlib.__file__]
    return f"{users[-1].filename}:{users[-1].lineno}" if users else "an unknown place"


# ---- the attribute


def _attribute(module: ModuleType, target: _Target) -> App:
    value: object = module
    for part in target.attribute.split("."):
        try:
            value = getattr(value, part)
        except AttributeError:
            raise _no_attribute(module, part, value, target) from None
    if isinstance(value, App):
        return value
    raise UsageError(
        f"{target.text}: {target.attribute} is no App but {_described(value)}",
        code="not_an_app",
        path=target.text,
        hint=_apps_hint(module),
    )


def _no_attribute(module: ModuleType, part: str, owner: object, target: _Target) -> UsageError:
    apps = list(_apps(module))
    close = difflib.get_close_matches(part, apps, n=1) or difflib.get_close_matches(part, dir(owner), n=1)
    return UsageError(
        f"{target.text}: {target.module} has no attribute {part!r}",
        code="no_such_attribute",
        path=target.text,
        hint=f"did you mean {close[0]}?" if close else _apps_hint(module),
    )


def _only_app(module: ModuleType, target: _Target) -> App:
    apps = _apps(module)
    distinct = {id(app): app for app in apps.values()}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    code, reason = ("many_apps", "holds several Apps") if distinct else ("no_app", "holds no App")
    raise UsageError(f"{target.text}: {target.module} {reason}", code=code, path=target.text, hint=_apps_hint(module))


def _apps(module: ModuleType) -> dict[str, App]:
    return {name: value for name, value in vars(module).items() if isinstance(value, App)}


def _apps_hint(module: ModuleType) -> str:
    if apps := _apps(module):
        return f"its Apps are {', '.join(apps)}"
    return 'an app is made by app = App("shop") at the top level'


def _described(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
