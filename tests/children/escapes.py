"""What a program tries in order to get out of its sandbox. Run in one, it prints what it got, as JSON.

``targets.json`` beside it says whose secrets it is after. Each attempt returns something if it got somewhere.
"""

import ctypes
import json
import os
import resource
import signal
import socket

targets = json.load(open("targets.json"))
victim, secret, folder, port = targets["victim"], targets["secret"], targets["folder"], targets["port"]
libc = ctypes.CDLL(None, use_errno=True)


def done(result):
    return result >= 0


def read(path):
    with open(path, "rb") as file:
        return file.read(1) != b""


def write(path):
    with open(path, "w") as file:
        file.write("was here")
    return True


def connect(family, address):
    with socket.socket(family) as sock:
        sock.settimeout(0.5)
        sock.connect(address)
    return True


def memory_of(pid):
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as file:
        return file.fileno() > 0


def lone_fds():
    found = []
    for number in range(3, 256):
        try:
            os.fstat(number)
            found.append(number)
        except OSError:
            pass
    return len(found) > 1  # the one on which it reports


def forks():
    """True if many more processes than 8 can be had: 40 are asked for, and all of them end with this program."""
    children = []
    try:
        for _ in range(40):
            pid = os.fork()
            if not pid:
                signal.pause()
                os._exit(0)
            children.append(pid)
    except OSError:
        pass
    for pid in children:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass
    return len(children) >= 40


def kill():
    os.kill(victim, signal.SIGKILL)
    return True


def change_limits():
    return resource.prlimit(victim, resource.RLIMIT_NOFILE, (64, 64)) is not None


def become_root():
    os.setresuid(0, 0, 0)
    return os.geteuid() == 0 and read("/etc/shadow")


def make_device():
    os.mknod("disk", 0o600 | 0o060000, os.makedev(8, 0))
    return True


ATTEMPTS = {
    "passwd": lambda: read("/etc/passwd"),
    "node_file": lambda: read(secret),
    "node_file_by_parents": lambda: read("../../../../../../.." + secret),
    "home": lambda: read(targets["home_file"]),
    "data_folder": lambda: os.listdir(folder) != [],
    "environ_of_init": lambda: b"MPLBACKEND" not in (open("/proc/1/environ", "rb").read() or b"MPLBACKEND"),
    "environ_of_node": lambda: read(f"/proc/{victim}/environ"),
    "own_environ": lambda: "CANARY" in repr(os.environ) + repr(open("/proc/self/environ").read()),
    "memory_of_node": lambda: memory_of(victim),
    "memory_of_parent": lambda: memory_of(os.getppid()),
    "root_of_parent": lambda: read(f"/proc/{os.getppid()}/root/etc/passwd"),
    "localhost": lambda: connect(socket.AF_INET, ("127.0.0.1", port)),
    "localhost_6": lambda: connect(socket.AF_INET6, ("::1", port)),
    "outside": lambda: connect(socket.AF_INET, ("192.0.2.1", 80)),
    "unix_socket": lambda: connect(socket.AF_UNIX, targets["socket"]),
    "abstract_socket": lambda: connect(socket.AF_UNIX, targets["abstract"]),
    "raw_socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW) is not None,
    "netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) is not None,
    "write_data": lambda: write(folder + "/left-by-a-program"),
    "write_packages": lambda: write(targets["packages"] + "/left_by_a_program.py"),
    "write_root": lambda: write(targets["root"] + "/left-by-a-program"),
    "kill_node": kill,
    "limits_of_node": change_limits,
    "trace_node": lambda: done(libc.ptrace(16, victim, 0, 0)),
    "trace_parent": lambda: done(libc.ptrace(16, os.getppid(), 0, 0)),
    "read_memory_call": lambda: done(libc.process_vm_readv(victim, None, 0, None, 0, 0)),
    "mount": lambda: done(libc.mount(b"tmpfs", b".", b"tmpfs", 0, None)),
    "unshare_user": lambda: done(libc.unshare(0x10000000)),
    "unshare_mounts": lambda: done(libc.unshare(0x00020000)),
    "chroot": lambda: done(libc.chroot(b".")),
    "setns": lambda: done(libc.setns(os.open(f"/proc/{victim}/ns/mnt", os.O_RDONLY), 0)),
    "root": become_root,
    "device": make_device,
    "disk": lambda: read("/dev/vda"),
    "kernel_log": lambda: read("/dev/kmsg"),
    "kernel_setting": lambda: write("/proc/sys/kernel/core_pattern_of_a_program"),
    "descriptors": lone_fds,
    "processes": forks,
}

got = {}
for name, attempt in ATTEMPTS.items():
    try:
        got[name] = bool(attempt())
    except (OSError, ValueError, AttributeError):
        got[name] = False
os.symlink(secret, "link.txt")
os.symlink(os.path.dirname(secret), "linked-folder")
try:
    os.link(secret, "hard.txt")
except OSError:
    pass
print(json.dumps(got))
