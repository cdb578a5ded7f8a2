"""Between a tool's circuit and its mailbox: whether calls are taken, and what each of them says of the tool.

While the circuit is open nothing is pulled, so calls wait in the log for whoever may take them. The prober pulls one.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

from actors.breakers.breakers import Breakers, tool_key
from actors.breakers.circuit import Circuit, Permit
from actors.components.component import Component
from bus.mailbox import Mailbox
from supervisor.breaker import Breaker
from supervisor.circuit import HalfOpen
from supervisor.window import outcome_of

log = logging.getLogger("callboard.breaker")

Stance = Literal["free", "held", "probe"]
_NEVER_OPENS = Permit()


class ToolGate:
    """A tool without a breaker has a gate that stands open."""

    def __init__(self, breakers: Breakers, component: Component[..., object], mailbox: Mailbox) -> None:
        self._policy: Breaker | None = component.breaker
        self._key = tool_key(component.name, component.major)
        self._breakers = breakers
        self._mailbox = mailbox
        self._circuit: Circuit | None = None
        self._stance: Stance = "free"
        self._following: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """To be called before the mailbox starts: it may have to begin with nothing."""
        await self._breakers.start()
        if self._policy is not None:
            self._circuit = self._breakers.circuit(self._key, self._policy, is_eager=True)
            self._circuit.on_change.append(self._follow)
            await self._apply()

    def doing(self) -> str:
        """Why nothing is taken, for people; empty if calls are taken."""
        if self._circuit is None or self._circuit.closed_permit is not None:
            return ""
        if isinstance(self._circuit.state, HalfOpen):
            return "circuit half-open" + (", probing" if self._circuit.is_mine else "")
        left_s = self._circuit.left_s
        return "circuit open" + (f" for {left_s:.0f} s more" if left_s is not None else "")

    # ---- a call

    def admit(self) -> Permit | None:
        """Leave for a call to run; None: it has to be handed back."""
        return self._circuit.admit() if self._circuit else _NEVER_OPENS

    def died(self) -> None:
        """A process died over the call that is about to run."""
        if self._circuit:
            self._circuit.count("failed")

    def end(self, permit: Permit, error: BaseException | None, duration_s: float) -> None:
        """A call has returned, or raised ``error``."""
        if self._circuit and self._policy:
            self._circuit.end(permit, outcome_of(error, duration_s, self._policy))

    def drop(self, permit: Permit) -> None:
        """A call ended in a way that says nothing of the tool."""
        if self._circuit:
            self._circuit.end(permit, None)

    def settled(self) -> None:
        """A delivery has ended. If it was to be the probe and never ran, another one is needed."""
        if self._stance == "probe" and self._circuit and self._circuit.may_probe:
            self._stance = "held"
            self._follow()

    # ---- the mailbox

    def _follow(self) -> None:
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._apply())

    async def _apply(self) -> None:
        """Until the mailbox does what the circuit says, which may change meanwhile."""
        while (wanted := self._wanted()) != self._stance:
            self._stance = wanted
            match wanted:
                case "free":
                    await self._mailbox.resume()
                case "held":
                    await self._mailbox.hold()
                case "probe":
                    await self._mailbox.hold(1)

    def _wanted(self) -> Stance:
        if self._circuit is None or self._circuit.closed_permit is not None:
            return "free"
        return "probe" if self._circuit.may_probe else "held"
