"""``with ctx.dependency("billing-api"):`` a circuit around what several tools depend on, shared by all that name it.

Works in the threads of sync tools and on the event loop. Only in a thread, or as ``async with``, can the block itself
wait for the leave to probe; a plain ``with`` on the loop asks for it and leaves it to the next block of this process.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from actors.breakers.breakers import Breakers, dependency_key
from actors.breakers.circuit import ENTER_S, Circuit, Permit
from bus.failure import RetryableError
from supervisor.breaker import Breaker
from supervisor.circuit import Open
from supervisor.window import CIRCUIT_OPEN, Outcome, outcome_of

# While somebody else probes, or the state has no end of its own: a call that was refused looks again after this.
PROBING_S = 1.0
FORCED_S = 30.0


class CircuitOpen(RetryableError):
    """The block was not entered: what it depends on keeps failing. ``breaker`` is the circuit's key."""

    def __init__(self, key: str, reason: str, retry_after_s: float) -> None:
        super().__init__(f"the circuit {key} is open: {reason}", retry_after_s=retry_after_s, code=CIRCUIT_OPEN)
        self.breaker = key


class Dependency:
    """One use of a dependency; enter it once. ``is_late``: whether the call that it is part of is past its time."""

    def __init__(
        self, breakers: Breakers | None, name: str, policy: Breaker, is_late: Callable[[], bool] = lambda: False
    ) -> None:
        self._breakers = breakers
        self._key = dependency_key(name)
        self._policy = policy
        self._is_late = is_late
        self._circuit: Circuit | None = None
        self._permit: Permit | None = None
        self._began_s = 0.0

    # ---- in a thread, or on the loop

    def __enter__(self) -> Self:
        if self._breakers is not None:
            self._admitted(self._enter_here(self._breakers) if _is_loop(self._breakers) else self._enter_from_thread())
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._breakers is None or self._circuit is None or self._permit is None:
            return
        outcome = self._outcome(error)
        if _is_loop(self._breakers):
            self._circuit.end(self._permit, outcome)
        else:
            with contextlib.suppress(RuntimeError):  # a thread that outlived its process's event loop
                self._breakers.loop.call_soon_threadsafe(self._circuit.end, self._permit, outcome)

    async def __aenter__(self) -> Self:
        if self._breakers is not None:
            self._admitted(await self._enter(self._breakers))
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.__exit__(kind, error, trace)

    # ---- entering

    async def _enter(self, breakers: Breakers) -> Permit | None:
        await breakers.start()
        self._circuit = breakers.circuit(self._key, self._policy)
        return await self._circuit.enter()

    def _enter_here(self, breakers: Breakers) -> Permit | None:
        self._circuit = breakers.circuit(self._key, self._policy)
        permit = self._circuit.admit()
        if permit is None:
            self._circuit.want()
        return permit

    def _enter_from_thread(self) -> Permit | None:
        assert self._breakers is not None
        self._circuit = self._breakers.peek(self._key)
        if self._circuit and (permit := self._circuit.closed_permit):  # nearly always
            return permit
        if self._breakers.loop.is_closed():
            return Permit()
        entering = asyncio.run_coroutine_threadsafe(self._enter(self._breakers), self._breakers.loop)
        try:
            return entering.result(2 * ENTER_S)
        except (concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            # The loop is stalled, or it ends: that is no fault of the dependency.
            entering.cancel()
            return Permit()

    def _admitted(self, permit: Permit | None) -> None:
        if permit is None:
            raise self._refusal()
        self._permit, self._began_s = permit, time.monotonic()

    def _refusal(self) -> CircuitOpen:
        assert self._circuit is not None
        state, left_s = self._circuit.state, self._circuit.left_s
        if isinstance(state, Open):
            wait_s = FORCED_S if left_s is None else max(left_s, PROBING_S / 2)
            return CircuitOpen(self._key, state.reason, wait_s)
        return CircuitOpen(self._key, "it is being probed", PROBING_S)

    # ---- leaving

    def _outcome(self, error: BaseException | None) -> Outcome | None:
        if error is not None and self._is_late():
            return "failed"  # it took all the time that the call had
        if error is not None and not isinstance(error, Exception | SystemExit):
            return None
        return outcome_of(error, time.monotonic() - self._began_s, self._policy)


def _is_loop(breakers: Breakers) -> bool:
    try:
        return asyncio.get_running_loop() is breakers.loop
    except RuntimeError:
        return False
