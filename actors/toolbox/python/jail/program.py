"""The program's own process: it gives up what is left to give up, runs the code, and reports what came of it."""

from __future__ import annotations

import ast
import builtins
import json
import linecache
import os
import resource
import signal
import sys
import threading
import traceback
from types import CodeType, ModuleType

from actors.toolbox.python.jail import kernel, landlock, seccomp
from actors.toolbox.python.jail.figures import save_figures
from actors.toolbox.python.jail.order import WORK, Order, write_all

FILE = "<program>"
_VALUE_LIMIT_CHARS = 12_000
_ERROR_LIMIT_CHARS = 3_000
_REPORT_LIMIT_BYTES = 65_000


def run_program(order: Order, code: str, reporter: int) -> None:
    """Never returns. If the confinement cannot be had, nothing of the code is run."""
    try:
        kernel.die_with_parent()
        _settle(reporter)
        _confine(order)
    except (OSError, ValueError) as error:
        write_all(reporter, _fitted({"outcome": "refused", "error": f"{type(error).__name__}: {error}"}))
        os._exit(1)
    report = _run(code, order)
    write_all(reporter, _fitted(report))
    os._exit(0 if report["outcome"] == "ok" else 1)


def _settle(reporter: int) -> None:
    """No file of the warden's, no input, ordinary signals, a session of its own."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.closerange(3, reporter)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    os.closerange(reporter + 1, most if most != resource.RLIM_INFINITY else 1 << 20)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)


def _confine(order: Order) -> None:
    ceilings = order.ceilings
    own = order.level in ("bubblewrap", "namespaces")
    limits = {
        resource.RLIMIT_AS: ceilings.memory_bytes,
        resource.RLIMIT_FSIZE: ceilings.file_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_NPROC: ceilings.processes + 1 + order.tasks_before,
    }
    for kind, value in limits.items():
        try:
            resource.setrlimit(kind, (value, value))
        except (OSError, ValueError):  # macOS takes no limit of memory
            if kernel.LINUX:
                raise
    resource.setrlimit(resource.RLIMIT_CPU, (ceilings.cpu_s, ceilings.cpu_s + 1))
    if not own and kernel.LINUX:
        kernel.drop_capabilities()
    if order.level == "landlock" and not landlock.confine(order.readable, [order.work, os.devnull]):
        raise OSError("this kernel has no Landlock")
    if order.seccomp:
        seccomp.install(private_processes=own)


def _run(code: str, order: Order) -> dict[str, str]:
    main = _prepare(code, order)
    try:
        value = _execute(code, main)
        text = "" if value is None else repr(value)
        _wait_for_threads()
        figures = save_figures(value, main.__dict__)
        report = {"outcome": "ok", "value": _cut(text, _VALUE_LIMIT_CHARS), "figures": figures}
    except SystemExit as end:
        report = _exit_report(end)
    except BaseException as error:  # noqa: BLE001 - whatever the code raised is its result
        report = {"outcome": "memory" if isinstance(error, MemoryError) else "exception", "error": _trace(error)}
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue
    return report


def _prepare(code: str, order: Order) -> ModuleType:
    packages = order.packages
    if order.work != WORK:  # there is no /tmp of its own
        os.environ.update(HOME=order.work, TMPDIR=order.work, MPLCONFIGDIR=f"{order.work}/.matplotlib")
    for name in [name for name in sys.modules if name.partition(".")[0] == "actors"]:
        del sys.modules[name]
    sys.path[:] = [os.getcwd(), *(path for path in sys.path if path not in packages), *packages]
    sys.argv[:] = ["program.py"]
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    builtins.__dict__.update(exit=sys.exit, quit=sys.exit)
    sys.modules["__main__"] = main
    linecache.cache[FILE] = (len(code), None, code.splitlines(keepends=True), FILE)
    return main


def _execute(code: str, main: ModuleType) -> object:
    """Run the code; the value of its last statement if that is an expression."""
    tree = ast.parse(code, FILE)
    last: CodeType | None = None
    if tree.body and isinstance(end := tree.body[-1], ast.Expr):
        tree.body.pop()
        last = compile(ast.Expression(end.value), FILE, "eval")
    exec(compile(tree, FILE, "exec"), main.__dict__)  # noqa: S102 - this is what the sandbox is for
    return eval(last, main.__dict__) if last else None  # noqa: S307


def _wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join()


def _exit_report(end: SystemExit) -> dict[str, str]:
    if end.code in (None, 0):
        return {"outcome": "ok"}
    return {"outcome": "exception", "error": f"SystemExit: {end.code}"[:_ERROR_LIMIT_CHARS]}


def _trace(error: BaseException) -> str:
    """The traceback of the program's own lines: those of this file and of libraries help nobody to mend it."""
    try:
        found = traceback.TracebackException.from_exception(error, limit=-60)
        for part in _chain(found):
            part.stack = traceback.StackSummary.from_list([frame for frame in part.stack if frame.filename == FILE])
        return _cut("".join(found.format()), _ERROR_LIMIT_CHARS)
    except BaseException:  # noqa: BLE001 - an error may have a __str__ of the program's
        return type(error).__name__


def _chain(found: traceback.TracebackException) -> list[traceback.TracebackException]:
    chain = [found]
    while (following := chain[-1].__cause__ or chain[-1].__context__) and len(chain) < 5:
        chain.append(following)
    return chain


def _cut(text: str, limit: int) -> str:
    return (
        text
        if len(text) <= limit
        else f"{text[: limit // 2]}\n... {len(text) - limit:,} characters ...\n{text[-limit // 2 :]}"
    )


def _fitted(report: dict[str, str]) -> bytes:
    data = json.dumps(report).encode()
    return data if len(data) <= _REPORT_LIMIT_BYTES else json.dumps({"outcome": report["outcome"]}).encode()
