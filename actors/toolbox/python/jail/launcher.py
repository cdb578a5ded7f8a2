"""The first process of a sandbox: it makes what the level asks for, then becomes or starts the warden."""

from __future__ import annotations

import os
import signal
import sys

from actors.toolbox.python.jail import kernel, warden
from actors.toolbox.python.jail.namespaces import enter_namespaces
from actors.toolbox.python.jail.order import Order, read_order
from actors.toolbox.python.jail.refusal import refusing


def main(text: str) -> None:
    """Run the sandbox that ``text`` orders."""
    order = read_order(text)
    with refusing(order.answer_fd):
        _launch(order)


def _launch(order: Order) -> None:
    if "inside" in sys.argv:
        kernel.die_with_parent()
        return warden.serve(order)
    # Without namespaces somebody has to end what the program leaves behind, so the warden is asked and not killed.
    last_word = signal.SIGTERM if order.level in ("landlock", "rlimits") else signal.SIGKILL
    kernel.die_with_parent(last_word)
    if os.getppid() != order.parent:
        raise OSError("who asked for the sandbox is gone")
    if order.level == "namespaces":
        return enter_namespaces(order, lambda: warden.serve(order))
    _become(order.uid)
    kernel.die_with_parent(last_word)  # a change of user clears it
    return _start_bubblewrap(order) if order.level == "bubblewrap" else warden.serve(order)


def _become(uid: int) -> None:
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)


def _start_bubblewrap(order: Order) -> None:
    """Become bubblewrap. It mounts at the same paths what ``readable`` names, and the warden runs as its child."""
    size = ["--size", str(order.ceilings.file_bytes)]
    argv = [order.bubblewrap, "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL",
            "--uid", "1000", "--gid", "1000", "--hostname", "sandbox", "--proc", "/proc", "--dev", "/dev"]  # fmt: skip
    for folder in ("/tmp", "/dev/shm", order.work):  # of the sandbox; first, as packages may lie below one
        argv += [*size, "--tmpfs", folder]
    for path in order.readable:
        link = os.path.islink(path)
        argv += ["--symlink", os.readlink(path), path] if link else ["--ro-bind-try", path, path]
    argv += ["--remount-ro", "/", "--chdir", order.work, "--", order.python, *order.boot, order.text(), "inside"]
    os.set_inheritable(order.answer_fd, True)
    os.execv(order.bubblewrap, argv)  # noqa: S606
