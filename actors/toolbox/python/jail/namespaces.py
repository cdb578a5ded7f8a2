"""A user, a file system, processes and a network of the sandbox's own, by the kernel's namespaces directly."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from actors.toolbox.python.jail import kernel
from actors.toolbox.python.jail.order import WORK, Order
from actors.toolbox.python.jail.refusal import refusing

INSIDE_ID = 1000
_DEVICES = ("null", "zero", "full", "random", "urandom")
_STAGE = "/tmp"  # any folder that is there: our own mounts alone are made on it
_SEALED = kernel.ATTR_READ_ONLY | kernel.ATTR_NOSUID | kernel.ATTR_NODEV


def enter_namespaces(order: Order, inside: Callable[[], None]) -> None:
    """Run ``inside`` as process 1 of new namespaces; when it ends, however it does, the kernel ends all the others.

    Two processes stay outside: this one, which knows the real user and so may map it, and the one that left its
    namespaces, whose children alone are in the new ones. Does not return. Raises: OSError if they cannot be had.
    """
    ready, mapped, tether = os.pipe(), os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        _outpost(order, inside, (ready, mapped, tether))
    for descriptor in (ready[1], *tether):
        os.close(descriptor)
    if os.read(ready[0], 1):
        _map_users(child, order.uid)
        os.write(mapped[1], b"!")
    _, status = os.waitpid(child, 0)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _outpost(order: Order, inside: Callable[[], None], pipes: tuple[tuple[int, int], ...]) -> None:
    ready, mapped, tether = pipes
    with refusing(order.answer_fd):
        kernel.die_with_parent()
        os.close(mapped[1])
        kernel.unshare(kernel.ALL_NAMESPACES)
        os.write(ready[1], b"!")
        if not os.read(mapped[0], 1):
            raise OSError("the users of the sandbox could not be mapped")
        child = os.fork()
        if not child:
            _first(order, inside, tether)
        _, status = os.waitpid(child, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _first(order: Order, inside: Callable[[], None], tether: tuple[int, int]) -> None:
    with refusing(order.answer_fd):
        os.close(tether[1])
        os.setsid()
        _build_root(order)
        if order.uid:
            os.setgroups([])
        os.setresgid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
        os.setresuid(INSIDE_ID, INSIDE_ID, INSIDE_ID)
        kernel.drop_capabilities()
        kernel.die_with_parent()
        if select.select([tether[0]], [], [], 0)[0]:  # the parent died before it was said that we go with it
            os._exit(1)
        inside()
        os._exit(0)


def _map_users(pid: int, uid: int) -> None:
    """Inside there is one user. Root maps itself too, for as long as it mounts; the user is one that nobody else is."""
    if uid:
        _write(f"/proc/{pid}/uid_map", f"0 0 1\n{INSIDE_ID} {uid} 1\n")
        _write(f"/proc/{pid}/gid_map", f"0 0 1\n{INSIDE_ID} {uid} 1\n")
        return
    _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/uid_map", f"{INSIDE_ID} {os.geteuid()} 1\n")
    _write(f"/proc/{pid}/gid_map", f"{INSIDE_ID} {os.getegid()} 1\n")


def _write(path: str, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _build_root(order: Order) -> None:
    """A root in memory that holds what may be read and nothing else; the old one is out of reach afterwards."""
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_SLAVE)
    kernel.mount("tmpfs", _STAGE, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV)
    os.mkdir(f"{_STAGE}/new")
    os.mkdir(f"{_STAGE}/old")
    kernel.pivot(_STAGE, f"{_STAGE}/old")
    os.chdir("/")
    kernel.mount("tmpfs", "/new", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755")
    for folder in ("/tmp", WORK, "/dev/shm"):  # of the sandbox; first, as packages may lie below one
        _mount_memory(f"/new{folder}", order.ceilings.file_bytes)
    _make_devices()
    for path in order.readable:
        _show(path)
    _mount_processes()
    os.chdir("/new")
    kernel.pivot(".", ".")
    kernel.unmount(".")
    os.chdir("/")
    _remount_root()


def _show(path: str) -> None:
    """The same path inside as outside, read-only; a link stays a link."""
    old, new = f"/old{path}", f"/new{path}"
    if os.path.lexists(new) or not os.path.lexists(old):
        return
    os.makedirs(os.path.dirname(new), mode=0o755, exist_ok=True)
    if os.path.islink(old):
        os.symlink(os.readlink(old), new)
        return
    _place(old, new)
    kernel.mount(old, new, flags=kernel.MS_BIND | kernel.MS_REC)
    kernel.seal(new, _SEALED)


def _place(old: str, new: str) -> None:
    if os.path.isdir(old):
        os.mkdir(new, 0o755)
    else:
        os.close(os.open(new, os.O_CREAT | os.O_WRONLY, 0o644))


def _make_devices() -> None:
    for name in _DEVICES:
        _place(f"/old/dev/{name}", f"/new/dev/{name}")
        kernel.mount(f"/old/dev/{name}", f"/new/dev/{name}", flags=kernel.MS_BIND)
    os.symlink("/proc/self/fd", "/new/dev/fd")


def _mount_memory(path: str, size_bytes: int) -> None:
    os.makedirs(path, exist_ok=True)
    options = f"size={size_bytes},nr_inodes=4096,mode=700,uid={INSIDE_ID},gid={INSIDE_ID}"
    kernel.mount("tmpfs", path, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, options)


def _mount_processes() -> None:
    """A /proc of the sandbox's own processes. Some containers refuse it: then there is none."""
    os.mkdir("/new/proc", 0o755)
    for options in ("subset=pid", ""):
        try:
            kernel.mount("proc", "/new/proc", "proc", kernel.MS_NOSUID | kernel.MS_NODEV | kernel.MS_NOEXEC, options)
            return
        except OSError:
            continue


def _remount_root() -> None:
    remount = 0x20
    kernel.mount("none", "/", flags=remount | kernel.MS_BIND | 1 | kernel.MS_NOSUID | kernel.MS_NODEV)
