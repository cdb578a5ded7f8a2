"""What every command needs: how to connect, where to print, and how an error becomes an exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bus.errors import BusError, CallboardError, PeerError, UsageError

if TYPE_CHECKING:
    from actors.clients.client import Client
    from actors.console.screen import Screen
    from bus.options import ConnectOptions

EXIT_DONE = 0
EXIT_JOB_FAILED = 1
EXIT_USAGE = 2
EXIT_UNREACHABLE = 3
EXIT_STILL_RUNNING = 4
EXIT_INTERRUPTED = 130
DEBUG_VARIABLE = "CALLBOARD_DEBUG"
CONNECT_S = 4.0


@dataclass(frozen=True)
class Session:
    """The options that all commands share."""

    nats: str | None = None
    context: str | None = None
    workspace: str = "default"
    json: bool = False
    no_color: bool = False
    has_all_workspaces: bool = False  # for commands to which a workspace of '*' means all of them

    def options(self) -> ConnectOptions:
        """How to connect. Raises: UsageError."""
        from bus.options import resolve_options

        return resolve_options(self.nats, self.context)

    def screen(self) -> Screen:
        """Standard output."""
        from actors.console.screen import Screen

        return Screen(json=self.json, no_color=self.no_color)

    def notes(self) -> Screen:
        """Standard error: progress and hints, which a pipe should not carry."""
        from actors.console.screen import Screen

        return Screen(sys.stderr, no_color=self.no_color)

    def check_workspace(self) -> str:
        """The workspace, which becomes a token of subjects. Raises: UsageError."""
        from bus.subjects import check_name

        return self.workspace if self.has_all_workspaces else check_name(self.workspace, "workspace")

    async def client(self) -> Client:
        """A connected client. Raises: BusUnreachable, ServerUnsuitable, UsageError."""
        from actors.clients.client import Client
        from bus.connection import Bus

        self.check_workspace()
        bus = await Bus.connect(self.options(), name="callboard cli", timeout_s=CONNECT_S)
        return Client(bus, self.workspace, owns_bus=True)


def run(main: Coroutine[Any, Any, int | None]) -> int:
    """Run a command and return its exit code; errors become one clear line on standard error."""
    import uvloop

    try:
        return uvloop.run(main) or EXIT_DONE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        with contextlib.suppress(OSError):  # what is left in the buffer has nowhere to go
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_DONE
    except asyncio.CancelledError:
        return EXIT_INTERRUPTED
    except CallboardError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return complain(error)


def _message(error: CallboardError) -> str:
    if not isinstance(error, PeerError):
        return str(error.args[0] if error.args else error)
    # The reason of somebody who cancelled a job says nothing without that.
    return str(error) if error.failure.code == "cancelled" else error.failure.message


def complain(error: CallboardError) -> int:
    """Say what is wrong and what would be right; the exit code that says whose fault it is."""
    message = _message(error)
    path = getattr(error, "path", "")
    where = f" (at {path})" if path and path not in message else ""
    sys.stderr.write(f"error: {message}{where}\n")
    if hint := error.failure.hint if isinstance(error, PeerError) else getattr(error, "hint", ""):
        sys.stderr.write(f"hint:  {hint}\n")
    match error:
        case UsageError():
            return EXIT_USAGE
        case PeerError():
            return EXIT_JOB_FAILED
        case BusError():
            return EXIT_UNREACHABLE
        case _:
            return EXIT_JOB_FAILED
