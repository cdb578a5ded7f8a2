"""Network namespaces of this machine as machines of their own: each with a wire to us that can be pulled out."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

CANNOT = "network namespaces cannot be made here"


class Namespace:
    """One namespace. ``gateway`` is our address on its wire, ``prefix`` what runs a command inside."""

    def __init__(self, number: int) -> None:
        # Names of interfaces have 15 characters at most; the pid keeps parallel runs apart.
        tag = f"{os.getpid() % 100_000}-{number}"
        self.name = f"cb{tag}"
        self.prefix = ("ip", "netns", "exec", self.name)
        self._wire, self._far = f"cba{tag}", f"cbb{tag}"
        net = f"10.{200 + number}.{os.getpid() % 250}"
        self.gateway, self._address = f"{net}.1", f"{net}.2"

    def make(self) -> None:
        """Make the namespace and its wire. Raises: CalledProcessError without the right."""
        _ip("netns", "add", self.name)
        _ip("link", "add", self._wire, "type", "veth", "peer", "name", self._far, "netns", self.name)
        _ip("address", "add", f"{self.gateway}/30", "dev", self._wire)
        _ip("link", "set", self._wire, "up")
        for arguments in (("address", "add", f"{self._address}/30", "dev", self._far), ("link", "set", self._far, "up"),
                          ("link", "set", "lo", "up")):  # fmt: skip
            _ip("-n", self.name, *arguments)

    def cut(self) -> None:
        """Pull the wire out: nothing gets through, and nobody is told."""
        _ip("link", "set", self._wire, "down")

    def heal(self) -> None:
        """Plug it in again."""
        _ip("link", "set", self._wire, "up")

    def remove(self) -> None:
        """Nothing of it is left; its wire goes with it."""
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "delete", self._wire)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("netns", "delete", self.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


@contextlib.contextmanager
def namespaces(count: int) -> Iterator[list[Namespace]]:
    """So many namespaces; skips the test on a machine that has none to give."""
    if shutil.which("ip") is None:
        pytest.skip(f"{CANNOT}: there is no 'ip' (Debian package iproute2)")
    made = [Namespace(number) for number in range(1, count + 1)]
    try:
        for one in made:
            try:
                one.make()
            except subprocess.CalledProcessError as error:
                pytest.skip(f"{CANNOT}: {error.stderr.strip()}")
        yield made
    finally:
        for one in made:
            one.remove()
