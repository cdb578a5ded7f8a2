"""The calls to the Linux kernel that Python 3.11 has no name for. Each raises OSError."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

LINUX = sys.platform == "linux"

NEW_NS = 0x00020000
NEW_CGROUP = 0x02000000
NEW_UTS = 0x04000000
NEW_IPC = 0x08000000
NEW_USER = 0x10000000
NEW_PID = 0x20000000
NEW_NET = 0x40000000
ALL_NAMESPACES = NEW_NS | NEW_CGROUP | NEW_UTS | NEW_IPC | NEW_USER | NEW_PID | NEW_NET

MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
MS_BIND, MS_REC, MS_SLAVE = 0x1000, 0x4000, 0x80000
ATTR_READ_ONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4

_SET_DEATH_SIGNAL, _SET_DUMPABLE, _SET_SUBREAPER, _SET_NO_NEW_PRIVS, _DROP_CAPABILITY = 1, 4, 36, 38, 24
_MOUNT_SETATTR = 442  # the newer calls have one number on all architectures
_AT_RECURSIVE = 0x8000
_DETACH = 2
_LAST_CAPABILITY = 64
_CAPABILITY_VERSION = 0x20080522


class _MountAttr(ctypes.Structure):
    _fields_ = (("set", ctypes.c_uint64), ("clear", ctypes.c_uint64), ("propagation", ctypes.c_uint64),
                ("userns_fd", ctypes.c_uint64))  # fmt: skip


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> int:
    """``result`` unless it is negative. Raises: OSError that names ``what``."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, *arguments: object) -> int:
    """A system call by its number."""
    return checked(int(_libc().syscall(ctypes.c_long(number), *arguments)), f"system call {number}")


def prctl(option: int, first: object = 0, second: object = 0) -> int:
    """A setting of this process."""
    wide = [ctypes.c_ulong(one) if isinstance(one, int) else one for one in (first, second, 0, 0)]
    return checked(int(_libc().prctl(option, *wide)), f"prctl {option}")


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send ``number`` once the thread that started this process is gone; only Linux does that."""
    if LINUX:
        prctl(_SET_DEATH_SIGNAL, int(number))


def adopt_orphans() -> None:
    """Descendants whose parent has ended become children of this process, so that none gets away."""
    if LINUX:
        prctl(_SET_SUBREAPER, 1)


def hide_memory() -> None:
    """Keep /proc/<pid>/mem, environ and fd of this process from processes of the same user."""
    if LINUX:
        prctl(_SET_DUMPABLE, 0)


def no_new_privileges() -> None:
    """No program that is started from here on has more rights than this process."""
    if LINUX:
        prctl(_SET_NO_NEW_PRIVS, 1)


def unshare(flags: int) -> None:
    """Leave the namespaces that ``flags`` name for new ones."""
    checked(_libc().unshare(flags), "unshare")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Mount a file system, or bind a path to another one."""
    result = _libc().mount(source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags),
                           options.encode() or None)  # fmt: skip
    checked(result, f"mount {source} at {target}")


def seal(target: str, attributes: int) -> None:
    """Set attributes of a mount and of all that is mounted below it. Linux 5.12 has this first."""
    setting = _MountAttr(set=attributes)
    syscall(_MOUNT_SETATTR, -1, target.encode(), _AT_RECURSIVE, ctypes.byref(setting),
            ctypes.c_size_t(ctypes.sizeof(setting)))  # fmt: skip


def pivot(root: str, old: str) -> None:
    """Make ``root`` this process's root, and put the old one at ``old``."""
    checked(_libc().pivot_root(root.encode(), old.encode()), f"pivot_root {root}")


def unmount(target: str) -> None:
    """Take a mount away, with all below it, as soon as nobody uses it."""
    checked(_libc().umount2(target.encode(), _DETACH), f"umount {target}")


def drop_capabilities() -> None:
    """Give up all rights of root for good, this process's and those that a program started by it could get."""
    for capability in range(_LAST_CAPABILITY):
        try:
            prctl(_DROP_CAPABILITY, capability)
        except OSError:  # beyond the kernel's last one, or there was nothing to drop
            break
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    checked(_libc().capset(header, (ctypes.c_uint32 * 6)()), "capset")
