"""What is said to a job is said to its children too: a signal to each that has not answered yet, and a wake-up."""

from __future__ import annotations

from typing import Any

from actors.jobs.journal import Entry, Journal, Pending
from actors.jobs.requests import publish_wake
from actors.jobs.signals import make_signal
from actors.operations.hosting import Hosting
from bus.crash import crash_point
from bus.messages import ChildCall
from store.log import append_unfenced


async def tell_children(
    hosting: Hosting, workspace: str, job: str, journal: Journal, name: str, data: Any = None
) -> None:
    """Signal ``name`` to the children of ``job`` that have not ended, also to those that no host has taken up yet.

    Raises: BusError.
    """
    for entry in list(journal.entries.values()):
        if isinstance(entry.outcome, Pending):
            await tell_child(hosting, workspace, job, entry, name, data)


async def tell_child(hosting: Hosting, workspace: str, job: str, entry: Entry, name: str, data: Any = None) -> None:
    """Signal ``name`` to the child that was started by ``entry``, if that is what it is. Raises: BusError."""
    command = entry.command
    # A fork that is retried may have a call with the command of its source: that child is not its own.
    if isinstance(command, ChildCall) and command.job == job:
        signal = make_signal(command.child, name, data, by=f"job {job}")
        await append_unfenced(hosting.bus, hosting.blobs, workspace, signal)
        crash_point("host.after_child_word")
        await publish_wake(hosting.bus, workspace, entry.name, signal.job, signal.kind)
