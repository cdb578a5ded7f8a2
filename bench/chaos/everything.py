"""A workflow document that uses every kind of step, the two that it starts, and the tools that they call.

The tools tell what they did to ``effects``, outside of everything that is killed: one line for each attempt.
"""

from __future__ import annotations

from pathlib import Path

from actors import App, Retry, ToolContext
from actors.interpreter.component import workflow_component
from actors.workflow.document import Document
from actors.workflow.source import read_source
from actors.workflow_rules.validation import check_source
from bus.failure import TerminalError

EVERYTHING = (Path(__file__).parent / "everything.yaml").read_text()
PART = """
name: part-NUMBER
version: 1.0.0
input: {type: object, required: [n], properties: {n: {type: integer}}}
steps: [{id: one, kind: tool, run: work, with: {n: "${ input.n }"}}]
result: ${ steps.one.output }
"""
LOST = """
name: lost-NUMBER
version: 1.0.0
steps: [{id: ever, kind: wait, signal: never}]
"""
effects: list[str] = []
tools = App("everything", version="1.0.0")


@tools.tool
async def work(ctx: ToolContext, n: int) -> int:
    """One more."""
    effects.append(ctx.idempotency_key)
    return n + 1


@tools.tool
async def tick(ctx: ToolContext) -> int:
    """How often its step has come by."""
    effects.append(ctx.idempotency_key)
    return int(ctx.call.rpartition(":")[2])


@tools.tool(retry=Retry(attempts=1))
async def broken(ctx: ToolContext, n: int = 0) -> int:  # noqa: ARG001
    """Fails for good."""
    effects.append(ctx.idempotency_key)
    raise TerminalError("it is broken", code="broken")


@tools.tool(breaker=None)
async def shaky(ctx: ToolContext, n: int) -> int:
    """Fails the first time."""
    effects.append(ctx.idempotency_key)
    if ctx.attempt == 1:
        raise RuntimeError("shaken")
    return n + 1


@tools.tool
async def undo(ctx: ToolContext, what: str | int) -> None:  # noqa: ARG001
    """Undoes something."""
    effects.append(ctx.idempotency_key)


def document(text: str, number: str = "0") -> Document:
    """The document in a text. Raises: ValueError if it is not valid."""
    made, findings = check_source(read_source("made.yaml", text.replace("NUMBER", number).encode(), None))
    if made is None or findings:
        raise ValueError("\n".join(map(str, findings)))
    return made


def app_of(number: str, *texts: str) -> App:
    """An app of its own with these documents, and the tools to call."""
    app = App("everything", version="1.0.0")
    app.components.extend(tools.components)
    for text in texts or (EVERYTHING, PART, LOST):
        app.components.append(workflow_component(document(text, number), app=app.name))
    return app


def names_of(app: App) -> list[str]:
    """The workflows of an app."""
    return [component.name for component in app.components if component.kind == "job"]


__all__ = ["EVERYTHING", "LOST", "PART", "app_of", "document", "effects", "names_of", "tools"]
