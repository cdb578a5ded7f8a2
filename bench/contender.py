"""What is measured: something that runs jobs over a NATS server."""

from __future__ import annotations

from typing import Protocol


class Contender(Protocol):
    """The floor or the system. The load is made elsewhere, the same for both (``bench.load``)."""

    name: str

    async def start(self, server_url: str) -> None:
        """Start the processes on a fresh server and return when they take work."""

    async def run_job(self, qty: int, steps: int) -> int:
        """Run one job of ``steps`` calls, one after the other, and return its total."""

    def pids(self) -> dict[str, int]:
        """The processes that do the work, by role, as far as they are not this one."""

    async def stop(self) -> None:
        """End the processes; safe after a failed start."""
