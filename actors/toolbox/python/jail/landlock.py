"""Landlock: a process gives up all files but those that it names. It needs no rights, so it works in containers too."""

from __future__ import annotations

import ctypes
import os

from actors.toolbox.python.jail import kernel

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_ASK_VERSION = 1
_PATH_BENEATH = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_TRUNCATE = 1 << 14
_READ = _EXECUTE | _READ_FILE | _READ_DIR
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE  # the others are said of directories only
_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many bits each version knows; later ones know as many as 5
_TCP = 3
_SCOPES = 3  # no abstract sockets and no signals beyond the sandbox


class _Rules(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def version() -> int:
    """The version that the kernel speaks; 0 if there is no Landlock."""
    if not kernel.LINUX:
        return 0
    try:
        return kernel.syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)
    except OSError:
        return 0


def confine(readable: list[str], writable: list[str]) -> bool:
    """Give up all paths but these, for good; what does not exist is left out. False if there is no Landlock."""
    spoken = version()
    if not spoken:
        return False
    every = (1 << _FILE_RIGHTS[min(spoken, 5)]) - 1
    rules = _Rules(every, _TCP if spoken >= 4 else 0, _SCOPES if spoken >= 6 else 0)
    size = 8 if spoken < 4 else 16 if spoken < 6 else 24
    ruleset = kernel.syscall(_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    for path in readable:
        _allow(ruleset, path, _READ)
    for path in writable:
        _allow(ruleset, path, every)
    kernel.syscall(_RESTRICT, ruleset, 0)
    os.close(ruleset)
    return True


def _allow(ruleset: int, path: str, rights: int) -> None:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    if not os.path.isdir(path):
        rights &= _OF_FILES
    kernel.syscall(_ADD, ruleset, _PATH_BENEATH, ctypes.byref(_Beneath(rights, parent)), 0)
    os.close(parent)
