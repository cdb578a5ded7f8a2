"""A replay: the function runs against a history, in the log's order, and nothing else happens."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec

from actors.components.component import Component
from actors.components.registry import parse_ref
from actors.jobs.call_policy import CallPolicy
from actors.jobs.halts import Halt
from actors.jobs.journal import ChangedCode, Entry, Journal, Succeeded
from actors.jobs.sections import Asked
from actors.operations.admission import ADMISSIONS
from actors.operations.hosting import Hosting, Target
from actors.operations.job import Job
from actors.operations.operation_core import WINDING
from actors.operations.operations import Operations
from actors.operations.undos import UNDO
from actors.operations.values import bind
from actors.replays.absent_assets import AbsentAssets
from actors.replays.difference import Difference, ReplayResult
from actors.replays.history import load_history, submission_in
from bus.errors import UsageError
from bus.failure import failure_of
from bus.messages import Event, JobCompleted, JobFailed, JobSubmitted
from bus.subjects import CallKind
from store.log import JobLog, Recorded

PATIENCE_S = 1.0
_QUIET_S = 0.02
_QUIET_TURNS = 200  # one outcome is taken up within some tens of them


async def replay(
    component: Component[..., Any], history: Sequence[Recorded] | Path, *, assets: Mapping[str, Any] | None = None
) -> ReplayResult:
    """Run the job function of ``component`` against a history: events, or a file of JSON lines.

    A history without an end is replayed as far as it goes. ``assets`` are an agent's, by parameter: none is loaded
    here, and one that is not given may go into what is recorded, and decide nothing. Raises: UsageError for what is no
    history of such a job, and for an agent that needs an asset which is not given.
    """
    events = load_history(history) if isinstance(history, Path) else list(history)
    submitted = submission_in(events)
    if component.kind == "tool" or component.name != submitted.workflow:
        raise UsageError(
            f"this is the history of job {submitted.workflow!r}, not of {component.kind} {component.name!r}"
        )
    lent = AbsentAssets(component, assets or {})
    result = await _Replay(component, submitted, events, lent.values).run()
    lent.check(result.difference)
    return result


class _Asked(Journal):
    """A journal that notes which operations are asked for, and the first that is not the recorded one."""

    asked: dict[str, None]
    report: Callable[[Difference], None]

    def recall(self, call: str, op: str, name: str) -> Entry | None:
        self.asked[call] = None
        try:
            return super().recall(call, op, name)
        except ChangedCode:
            entry = self.entries[call]
            self.report(Difference("operation", call, f"{entry.op} {entry.name}", f"{op} {name}"))
            raise

    def end_at_retry(self) -> None:
        """A history that ends with a retry has no more to say on what is asked for anew: there the replay waits."""
        for entry in self.entries.values():
            entry.void_to = 0

    def unasked(self) -> list[Entry]:
        """What is recorded and was not asked for."""
        left = [entry for call, entry in self.entries.items() if call not in self.asked]
        others = (*ADMISSIONS, WINDING)
        return [entry for entry in left if not entry.call.startswith(others) and not self._is_undoing(entry.call)]

    def _is_undoing(self, call: str) -> bool:
        """Whether it is how something was undone that the function had put on record: no function asks for that."""
        registered = self.entries.get(call.partition(f"/{UNDO}/")[0])
        return registered is not None and registered.op == UNDO and registered.call != call


@dataclass
class _History:
    """The log of a replay: nothing can be appended to it."""

    job: str
    refuse: Callable[[Event], None]
    workspace: str = "default"

    async def append(self, event: Event) -> int:
        self.refuse(event)
        never: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        return await never

    async def read(self, *, since: int = 0) -> list[Recorded]:
        del since  # the journal holds all that there is
        return []


@dataclass
class _App:
    """Stands for the host's surroundings: resolves targets by what they are, or by what the history calls them."""

    journal: Journal
    bus: None = None
    blobs: None = None
    park_after_s: float = float("inf")
    known: dict[str, Target] = field(default_factory=dict)

    def resolve(self, target: Any, kinds: tuple[CallKind, ...]) -> Target:
        if isinstance(target, Component):
            return Target(target.kind, target.name, target.major, target)
        _, name, major = parse_ref(target)
        for entry in self.journal.entries.values():
            for kind in kinds:
                if (entry.op, entry.name) == (kind, name) and entry.command is not None:
                    return Target(kind, name, major or entry.command.version)
        return Target(kinds[0], name, major or 1)

    async def find(self, target: Any, kinds: tuple[CallKind, ...]) -> Target:
        return self.resolve(target, kinds)

    async def refusal(self, target: Target) -> None:
        del target  # no circuit is open where nothing is called


class _Operations(Operations):
    """Operations that compare inputs, and stop at the end of the history."""

    report: Callable[[Difference], None]
    given_up: list[str]

    async def unpaused(self) -> None:
        """A pause holds back a living job; what the code asks for next is compared all the same."""

    async def call_back(self, key: str) -> None:
        """Nobody is told anything."""

    async def _call(
        self, key: str, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any], policy: CallPolicy
    ) -> Any:
        self._compare(key, target, args, kwargs)
        return await super()._call(key, target, args, kwargs, policy)

    async def _ask_child(
        self, key: str, target: Target, child: str, entry: Entry | None, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Entry:
        return entry or await super()._ask_child(key, target, child, entry, args, kwargs)

    async def _start(self, key: str, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._compare(key, target, args, kwargs)
        return await super()._start(key, target, args, kwargs)

    async def _record_now(self, key: str, op: str, name: str, fn: Callable[[], Any]) -> Any:
        del name, fn  # what is not in the history is not run
        if key in self.journal.entries:  # failed there, and was to run anew when the history ended
            await asyncio.get_running_loop().create_future()
        await self._note(key, op, b"null")

    async def _seek(self, key: str, asked: Asked, *, is_late: bool) -> None:
        """There is no lock here: whether one was granted is in the history, or it is waited for to its end."""

    async def _let_go(self, key: str) -> None:
        """What was not given back in the history is a new operation, which :meth:`_note` tells."""

    async def _gather(self, key: str, branches: Sequence[Any]) -> tuple[Any, ...]:
        try:
            return await super()._gather(key, branches)
        except Exception:
            self.given_up.append(f"{key}.")
            raise

    def _compare(self, key: str, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        entry = self.journal.entries.get(key)
        if entry is None or entry.command is None or (entry.op, entry.name) != (target.kind, target.name):
            return
        if entry.copied:
            return  # a fork reuses it whatever it would be asked with now
        recorded = msgspec.json.decode(entry.command.input)
        present = msgspec.json.decode(bind(target, args, kwargs))
        if recorded != present:
            self.report(Difference("input", key, repr(recorded), repr(present)))


class _Replay:
    """One run of the function."""

    def __init__(
        self, component: Component[..., Any], submitted: JobSubmitted, events: list[Recorded], assets: Mapping[str, Any]
    ) -> None:
        self._component = component
        self._assets = assets
        self._submitted = submitted
        self._journal = _Asked()
        self._journal.asked, self._journal.report = {}, self._report
        self._journal.read(events)
        self._journal.end_at_retry()
        self._difference: Difference | None = None
        self._differs = asyncio.Event()
        hosting, log = cast("Hosting", _App(self._journal)), cast("JobLog", _History(submitted.job, self._refuse))
        self._ops = _Operations(hosting, log, self._journal, submitted, _never)
        self._ops.report, self._ops.given_up = self._report, []
        self._ops.cancelled_at = _wound_up_at(self._journal)

    @property
    def _end(self) -> JobCompleted | JobFailed | None:
        """How the function itself ended; a job that was cancelled or whose time was up was cut off anywhere, or wound
        itself up and ended as it was told.
        """
        end = self._journal.ended
        if self._ops.cancelled_at is not None:
            return None
        if isinstance(end, JobFailed) and end.failure.code == "timeout" and self._component.timeout_s is not None:
            return None
        return end if isinstance(end, JobCompleted | JobFailed) else None

    async def run(self) -> ReplayResult:
        task = asyncio.create_task(self._function())
        differs = asyncio.create_task(self._differs.wait())
        try:
            await self._until_done(task, differs)
        finally:
            self._ops.halted = True  # the history is over: nothing is cleaned up, which would wait for its record
            for waiting in (task, differs):
                waiting.cancel()
            await asyncio.wait({task, differs})
        if self._difference is None and task.done() and not task.cancelled():
            self._compare_end(task.result())
        return ReplayResult(self._difference, tuple(self._journal.asked))

    async def _function(self) -> JobCompleted | JobFailed:
        job, component = self._submitted.job, self._component
        try:
            arguments = component.decode_input(bytes(self._submitted.input))
            assert component.context_param is not None
            own = {component.context_param: component.context(Job(self._ops))}
            value = await component.fn(**own, **arguments, **self._assets)
            return JobCompleted(job=job, output=msgspec.Raw(component.encode_output(value)))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's code may raise anything
            return JobFailed(job=job, failure=failure_of(error))

    async def _until_done(self, task: asyncio.Task[Any], differs: asyncio.Task[Any]) -> None:
        """Until it ends, differs, or gets no further."""
        left_s, seen = PATIENCE_S if self._end else 0.0, -1
        while left_s > 0 or self._progress > seen:
            seen = self._progress
            done, _ = await asyncio.wait({task, differs}, timeout=_QUIET_S, return_when=asyncio.FIRST_COMPLETED)
            if done:
                return
            await _turns_of_the_loop()
            left_s -= _QUIET_S
        if self._end:
            waits = ", ".join(self._ops.waits) or "something that is no operation of the job"
            self._report(Difference("stuck", next(iter(self._ops.waits), ""), self._end.kind, f"waiting for {waits}"))

    @property
    def _progress(self) -> int:
        return len(self._journal.asked) + self._ops.turns.given

    # ---- what is found

    def _report(self, difference: Difference) -> None:
        self._difference = self._difference or difference
        self._differs.set()

    def _refuse(self, event: Event) -> None:
        """The code asks for something new. At the end of an unfinished history that is what it should do."""
        unasked = self._unasked()
        if self._end or unasked:
            recorded = f"{unasked[0].op} {unasked[0].call}" if unasked else f"{self._end and self._end.kind}"
            self._report(Difference("new", getattr(event, "call", ""), recorded, _describe(event)))

    def _unasked(self) -> list[Entry]:
        """Recorded and not asked for, but for branches that were given up: how far these got is chance.

        Nor what a fork has from its source: with another input it may go another way.
        """
        given_up = tuple(self._ops.given_up)
        unasked = [e for e in self._journal.unasked() if not e.copied]
        return [e for e in unasked if not (given_up and e.call.startswith(given_up))]

    def _compare_end(self, present: JobCompleted | JobFailed) -> None:
        if unasked := self._unasked():
            entry = unasked[0]
            self._report(Difference("unasked", entry.call, f"{entry.op} {entry.name}", present.kind))
        elif self._end and _outcome(self._end) != _outcome(present):
            self._report(Difference("end", "", repr(_outcome(self._end)), repr(_outcome(present))))


def _wound_up_at(journal: Journal) -> int | None:
    """What the function was told when it was to wind itself up, as far as it took that up. A retry makes it void."""
    for call, entry in journal.entries.items():
        if call.startswith(WINDING) and isinstance(entry.outcome, Succeeded) and entry.sequence > journal.retried_at:
            return int(msgspec.json.decode(entry.outcome.output))
    return None


async def _turns_of_the_loop() -> None:
    """A machine that is busy with others lets time pass in which nothing could get on: that is no quiet."""
    for _ in range(_QUIET_TURNS):
        await asyncio.sleep(0)


def _never(_: Halt) -> None:
    raise AssertionError("a replay is never fenced")


def _describe(event: Event) -> str:
    return f"{getattr(event, 'op', '') or event.kind} {getattr(event, 'call', '')}"


def _outcome(end: JobCompleted | JobFailed) -> tuple[str, Any]:
    if isinstance(end, JobCompleted):
        return end.kind, msgspec.json.decode(end.output)
    return end.kind, (end.failure.code, end.failure.message)
