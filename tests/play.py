"""Plays a workflow document in memory: the real machine, and answers made up by functions in place of tools."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from actors.interpreter.asks import Approve, Ask, Call, Clock, Emit, Lock, Sleep, Unlock, WaitSignal
from actors.interpreter.end import End
from actors.interpreter.machine import Machine
from actors.interpreter.plan import make_plan
from actors.workflow.document import Document
from actors.workflow.source import read_source
from actors.workflow_rules.validation import check_source
from bus.failure import Failure

NEVER: Any = object()
Tool = Callable[..., Any]
JOB = {"id": "j1", "workspace": "default", "workflow": "made", "version": "1.0.0"}


class Fails(Exception):
    """Raised by a function that plays a tool: the call fails for good."""


def document(text: str, *, valid: bool = True) -> Document:
    """The document in a YAML text whose head is made up; it has to be valid, but for components."""
    raw = f"name: made\nversion: 1.0.0\n{text}".encode()
    made, findings = check_source(read_source("made.yaml", raw, None))
    assert not (valid and findings), findings
    assert made is not None
    return made


class Play:
    """One run. ``asked`` are the places and things asked for, in order; ``pending`` those not answered yet.

    A tool that returns NEVER leaves its call open, to be answered by ``answer``.
    """

    def __init__(self, doc: Document, input_: Any = None, tools: Mapping[str, Tool] | None = None) -> None:
        self.machine = Machine(make_plan(doc), input_, JOB)
        self.tools = tools or {}
        self.asked: list[Ask] = []
        self.pending: deque[Ask] = deque()
        self.emitted: list[tuple[str, Any]] = []
        self.dropped: list[str] = []

    def start(self) -> Play:
        """Begin, and go on as far as the tools answer."""
        self.machine.start()
        return self.go_on()

    @property
    def end(self) -> End | None:
        """How it ended."""
        return self.machine.end

    def calls(self) -> list[str]:
        """The components that were asked for, in order."""
        return [ask.what.run for ask in self.asked if isinstance(ask.what, Call)]

    def inputs(self, run: str) -> list[Any]:
        """What one of them was given."""
        return [a.what.input for a in self.asked if isinstance(a.what, Call) and a.what.run == run]

    def take(self) -> None:
        """Take up what the machine says now."""
        asks, self.machine.asks = self.machine.asks, []
        drops, self.machine.drops = set(self.machine.drops), []
        self.asked += asks
        self.dropped += [ask.place for ask in (*self.pending, *asks) if ask.id in drops]
        self.pending = deque(ask for ask in (*self.pending, *asks) if ask.id not in drops)

    def go_on(self) -> Play:
        """Answer what can be answered, the oldest first, until nothing can."""
        self.take()
        left = 0
        while left < len(self.pending) and self.end is None:
            ask = self.pending.popleft()
            try:
                value = self._value(ask)
            except Fails as error:
                self.machine.failed(ask.id, Failure(code="broken", message=str(error)))
            else:
                if value is NEVER:
                    self.pending.append(ask)
                    left += 1
                    continue
                self.machine.answered(ask.id, value)
            left = 0
            self.take()
        return self

    def answer(self, place: str, value: Any = None) -> Play:
        """Answer what is open at a place, then go on."""
        self.machine.answered(self._open(place).id, value)
        return self.go_on()

    def fail(self, place: str, message: str = "no") -> Play:
        """Let what is open at a place fail, then go on."""
        self.machine.failed(self._open(place).id, Failure(code="broken", message=message))
        return self.go_on()

    def cancel(self) -> Play:
        """Cancel it, then go on."""
        self.machine.cancel()
        return self.go_on()

    def _open(self, place: str) -> Ask:
        ask = next((ask for ask in self.pending if ask.place == place), None)
        assert ask is not None, f"nothing is open at {place}: {[ask.place for ask in self.pending]}"
        self.pending.remove(ask)
        return ask

    def _value(self, ask: Ask) -> Any:
        match ask.what:
            case Call() as call:
                return self.tools[call.run](**call.input) if call.run in self.tools else NEVER
            case Emit(event, data):
                self.emitted.append((event, data))
                return None
            case Clock():
                return datetime(2026, 1, 2, tzinfo=UTC).isoformat()
            case Lock(name):
                return f"lock-{name}:1"
            case Unlock():
                return None
            case Sleep() | WaitSignal() | Approve():
                return NEVER
