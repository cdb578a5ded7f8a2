"""What an agent did, on a page: ``callboard trace``."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from actors.agents.trace import Action, Run, Shortened, Trace, Turn
from actors.console.amount import count, duration, plural
from actors.console.page import Block, Gap, Line, Page, Span, Style, clean, cut, line, one_line

_STATES: Mapping[str, Style] = {
    "completed": "good", "failed": "bad", "refused": "warn", "waiting": "warn", "running": "busy", "retrying": "busy",
}  # fmt: skip


def trace_page(traces: Sequence[tuple[int, Trace]], *, whole: bool) -> Page:
    """Traces, each with how deep below the first it stands; ``whole``: nothing is cut."""
    blocks: list[Block] = []
    for depth, trace in traces:
        blocks += [*([Gap()] if blocks else []), *_trace(trace, 2 * depth, whole)]
    return blocks


def _trace(trace: Trace, indent: int, whole: bool) -> Iterator[Block]:
    turns = [turn for run in trace.runs for turn in run.turns]
    money = f", ${trace.cost_usd:,.4f}" if trace.cost_usd is not None else ""
    took = f"{plural(len(turns), 'turn')}, {count(trace.usage.tokens)} tokens{money}"
    title = Span(one_line(f"{trace.agent} {trace.job}"), "strong")
    yield line(title, "  ", Span(trace.state, _STATES.get(trace.state, "")), Span(f"  {took}", "dim"), indent=indent)
    if not trace.runs:
        yield line(Span("no run of a model is on record", "dim"), indent=indent)
    for run in trace.runs:
        yield from _run(run, indent + 2, whole)
    if trace.failure:
        yield line(Span(one_line(f"failed: {trace.failure.code}: {trace.failure.message}"), "bad"), indent=indent)


def _run(run: Run, indent: int, whole: bool) -> Iterator[Block]:
    tools = f"  with {', '.join(run.tools)}" if run.tools else ""
    thread = f"  on {run.thread} after {plural(run.earlier, 'exchange')}" if run.thread else ""
    yield line(Span(one_line(f"{run.call}  {run.model}{tools}{thread}"), "dim"), indent=indent)
    yield from _words("> ", run.prompt, "name", indent, whole)
    for number, turn in enumerate(run.turns, 1):
        yield from _turn(number, turn, indent, whole)


def _turn(number: int, turn: Turn, indent: int, whole: bool) -> Iterator[Block]:
    for message, times in _counted(failure.message for failure in turn.failures):
        again = f" ({times} times)" if times > 1 else ""
        told = Span(one_line(f"the model could not be asked: {message}{again}"), "warn")
        yield line(Span(f"{number}", "strong"), "  ", told, indent=indent)
    for each in turn.shortened:
        yield from _shortened(each, indent + 3, whole)
    if not turn.call:
        return
    took = f"{duration(turn.duration_s)}, {count(turn.usage.tokens)} tokens"
    took += ", reused" if turn.reused else ""
    stop = f", {turn.stop}" if turn.stop not in ("end_turn", "tool_use") else ""
    yield line(Span(f"{number}", "strong"), Span(f"  {took}{stop}", "dim"), indent=indent)
    yield from _words("thought: ", turn.thoughts, "dim", indent + 3, whole)
    yield from _words("" if turn.actions else "answer: ", turn.words, "", indent + 3, whole)
    for action in turn.actions:
        yield from _action(action, indent + 3, whole)


def _shortened(each: Shortened, indent: int, whole: bool) -> Iterator[Block]:
    done = each.done
    what = [f"{plural(done.turns, 'turn')} {'summed up' if done.summary else 'left out'}"] * bool(done.turns)
    what += [] if done.result_chars is None else [f"results cut to {done.result_chars:,} characters"]
    tokens = f"{count(done.tokens_before)} to {count(done.tokens_after)} tokens, limit {count(done.limit_tokens)}"
    yield line(Span(f"shortened: {', '.join(what)}", "warn"), Span(f"  {tokens}", "dim"), indent=indent)
    yield from _words("summary: ", done.summary, "dim", indent, whole)


def _counted(messages: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Each message with how often it came in a row."""
    for message, same in itertools.groupby(messages):
        yield message, sum(1 for _ in same)


def _action(action: Action, indent: int, whole: bool) -> Iterator[Block]:
    given = msgspec.json.encode(action.input).decode()
    spent = f"  {duration(action.duration_s)}" if action.duration_s is not None else ""
    attempts = f", {action.attempts} attempts" if action.attempts > 1 else ""
    child = f"  as {one_line(action.child)}" if action.child else ""
    yield line(
        Span(one_line(action.tool), "kind"), Span(" " + _shown(given, whole)),
        Span(f"  {action.state}", _STATES.get(action.state, "")), Span(f"{spent}{attempts}{child}", "dim"),
        indent=indent,
    )  # fmt: skip
    if action.allowed:
        yield line(Span(_who(action), "warn" if action.allowed.approved is None else "dim"), indent=indent + 2)
    if action.reason:
        yield from _words("not run: ", action.reason, "warn", indent + 2, whole)
    if action.failure:
        yield line(Span(one_line(f"{action.failure.code}: {action.failure.message}"), "bad"), indent=indent + 2)
    if action.state == "completed":
        yield from _words("= ", _told(action.observation), "", indent + 2, whole)


def _told(observation: Any) -> str:
    """As the model was told it: words as they are, else JSON."""
    return observation if isinstance(observation, str) else msgspec.json.encode(observation).decode()


def _who(action: Action) -> str:
    allowed = action.allowed
    assert allowed is not None
    if allowed.approved is None:
        return "somebody has to allow it: callboard approvals"
    word = "allowed" if allowed.approved else "not allowed"
    by = f" by {', '.join(allowed.by)}" if allowed.by else ", nobody answered in time"
    edited = f", with {msgspec.json.encode(allowed.edited).decode()}" if allowed.edited else ""
    said = f": {'; '.join(allowed.comments)}" if allowed.comments else ""
    return one_line(f"{word}{by}{edited}{said}")


def _words(label: str, text: str, style: Style, indent: int, whole: bool) -> Iterator[Line]:
    """Words as they are, line by line, or the beginning of them on one line."""
    if not text.strip():
        return
    lines = clean(text.strip()).splitlines() if whole else [one_line(text, 300)]
    for number, words in enumerate(lines):
        yield line(Span(label if number == 0 else " " * len(label), "dim"), Span(words, style), indent=indent)


def _shown(text: str, whole: bool) -> str:
    return clean(text) if whole else cut(clean(text), 160)
