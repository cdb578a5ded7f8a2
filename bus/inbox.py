"""The inbox of a connection: one wildcard subscription for the answers to all requests, told apart by a token."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from nats.aio.msg import Msg

from bus.errors import Ambiguous, BusError

SWEEP_S = 0.25


class Waiter:
    """Who waits for what comes to one inbox token: one message, or as many until ``feed`` says that it has all."""

    __slots__ = ("deadline", "feed", "future", "subject")

    def __init__(
        self, subject: str, deadline: float, future: asyncio.Future[Any], feed: Callable[[Msg], bool] | None
    ) -> None:
        self.subject = subject
        self.deadline = deadline
        self.future = future
        self.feed = feed


class Inbox:
    """Who waits for which answer. ``prefix`` is the inbox's subject up to the token; set once it is subscribed."""

    def __init__(self) -> None:
        self.prefix = ""
        self._waiters: dict[str, Waiter] = {}
        self._tokens = itertools.count()
        self._sweeper: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def expect(self, subject: str, timeout_s: float) -> tuple[str, Waiter]:
        """A new token for a request to ``subject``, and who waits for its answer."""
        token = str(next(self._tokens))
        waiter = Waiter(subject, self._loop.time() + timeout_s, self._loop.create_future(), None)
        self._waiters[token] = waiter
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(SWEEP_S, self._sweep)
        return token, waiter

    def forget(self, token: str) -> None:
        """Nobody waits for that answer any more."""
        self._waiters.pop(token, None)

    def take(self, msg: Msg) -> None:
        """One answer."""
        token = msg.subject[len(self.prefix) :]
        waiter = self._waiters.get(token)
        if waiter is None:
            return
        if not waiter.future.done():
            if waiter.feed is None:
                waiter.future.set_result(msg)
            elif not waiter.feed(msg):
                return
        del self._waiters[token]

    def fail(self, subject: str, error: BusError) -> None:
        """Whoever asks ``subject`` gets ``error`` instead of waiting for the time-out.

        nats-py has the subject from the server's error line, which it turns into lower case.
        """
        for waiter in list(self._waiters.values()):
            if waiter.subject.lower() == subject.lower() and not waiter.future.done():
                waiter.future.set_exception(error)

    def close(self) -> None:
        """Stop the sweeper."""
        if self._sweeper:
            self._sweeper.cancel()

    def _sweep(self) -> None:
        """Time out what waited too long. One timer for all requests: a timer each costs a fifth of an append."""
        now = self._loop.time()
        for token, waiter in list(self._waiters.items()):
            if waiter.future.done():
                del self._waiters[token]
            elif waiter.deadline < now:
                del self._waiters[token]
                waiter.future.set_exception(Ambiguous(f"no answer from {waiter.subject} in time"))
        self._sweeper = self._loop.call_later(SWEEP_S, self._sweep) if self._waiters else None
