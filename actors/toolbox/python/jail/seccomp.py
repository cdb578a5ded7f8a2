"""A filter of system calls, made by hand: what a computation never needs and escapes are made of is refused.

A list of what is refused, not of what is allowed: what numpy, pandas or a plotting library call differs by version and
machine, and a list of allowed calls that is wrong breaks honest programs. See docs/security-toolbox.md.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

from actors.toolbox.python.jail import kernel

# Numbers of x86_64 and aarch64; None where there is no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "pidfd_open": (434, 434), "pidfd_getfd": (438, 438), "pidfd_send_signal": (424, 424),
    "process_madvise": (440, 440), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430),
    "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442),
    "unshare": (272, 97), "setns": (308, 268), "mknod": (133, None), "mknodat": (259, 33),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "bpf": (321, 280),
    "perf_event_open": (298, 241), "userfaultfd": (323, 282), "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "fanotify_init": (300, 262), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "sethostname": (170, 161), "setdomainname": (171, 162),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "acct": (163, 89), "syslog": (103, 116), "vhangup": (153, 58),
    "personality": (135, 92), "iopl": (172, None), "ioperm": (173, None), "modify_ldt": (154, None),
    "uselib": (134, None), "lookup_dcookie": (212, 18),
}  # fmt: skip
# Signals reach only processes that the namespace has; without one they would reach those of the node.
_SIGNALS = {"kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
            "setpriority": (141, 140), "sched_setaffinity": (203, 122), "sched_setscheduler": (144, 119)}  # fmt: skip
_CLONE, _SOCKET, _IOCTL, _PRLIMIT, _TGKILL = (56, 220), (41, 198), (16, 29), (302, 261), (234, 131)
_CLONE3 = 435
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32 = 0x40000000
_NEW_NAMESPACE = kernel.ALL_NAMESPACES
_PUSH_INPUT = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX: typing into a terminal
_AF_UNIX = 1

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _REFUSE = 0x7FFF0000, 0x80000000, 0x00050000
_SET_SECCOMP, _FILTER = 22, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def filter_program(machine: str, *, private_processes: bool, own_pid: int) -> bytes | None:
    """Pure: the BPF program for that machine, None for one that is not known.

    ``private_processes``: whether the sandbox has process ids and a network of its own. If not, no signal can be sent
    to a process other than ``own_pid``, and no socket can be opened at all.
    """
    if machine not in _MACHINES:
        return None
    column, audit = _MACHINES[machine]
    code = [_step(_LOAD, 4), _step(_EQUAL, audit, 1, 0), _step(_RETURN, _KILL), _step(_LOAD, 0)]
    code += [_step(_AT_LEAST, _X32, 0, 1), _step(_RETURN, _KILL)] if machine == "x86_64" else []
    refused = _REFUSED if private_processes else {**_REFUSED, **_SIGNALS}
    for numbers in refused.values():
        number = numbers[column]
        code += [] if number is None else _refuse(number)
    code += _refuse(
        _CLONE3, errno.ENOSYS
    )  # its flags lie in memory, where no filter sees them: libc falls back to clone
    code += _refuse_if(_CLONE[column], 0, [_step(_ANY_BIT, _NEW_NAMESPACE, 0, 1)])
    code += _refuse_if(_PRLIMIT[column], 0, [_step(_EQUAL, 0, 1, 0)])
    for request in _PUSH_INPUT:
        code += _refuse_if(_IOCTL[column], 1, [_step(_EQUAL, request, 0, 1)])
    if private_processes:
        code += _refuse_if(_SOCKET[column], 0, [_step(_EQUAL, _AF_UNIX, 1, 0)])
    else:
        code += _refuse(_SOCKET[column]) + _refuse_if(_TGKILL[column], 0, [_step(_EQUAL, own_pid, 1, 0)])
    return b"".join([*code, _step(_RETURN, _ALLOW)])


def install(*, private_processes: bool) -> bool:
    """Put the filter on this process and all that it starts. False where there is none for this machine."""
    program = filter_program(platform.machine(), private_processes=private_processes, own_pid=os.getpid())
    if program is None or not kernel.LINUX:
        return False
    memory = ctypes.create_string_buffer(program, len(program))
    kernel.prctl(_SET_SECCOMP, _FILTER,
                 ctypes.byref(_Program(len(program) // 8, ctypes.addressof(memory))))  # fmt: skip
    return True


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)


def _refuse(number: int, reason: int = errno.EPERM) -> list[bytes]:
    return [_step(_EQUAL, number, 0, 1), _step(_RETURN, _REFUSE | reason)]


def _refuse_if(number: int, argument: int, test: list[bytes]) -> list[bytes]:
    """Refuse a call by the low half of an argument: ``test`` falls through to the refusal, or jumps over it."""
    inner = [_step(_LOAD, 16 + 8 * argument), *test, _step(_RETURN, _REFUSE | errno.EPERM), _step(_LOAD, 0)]
    return [_step(_EQUAL, number, 0, len(inner)), *inner]
