"""What is played while hosts are killed: documents, and a function, under names of their own for each run."""

from __future__ import annotations

from pathlib import Path

from actors import App, Job
from actors.interpreter.component import workflow_component
from actors.workflow.document import Document
from actors.workflow.source import read_source
from actors.workflow_rules.validation import check_source
from bench.chaos import players
from bus.failure import TerminalError

_PART = """
name: part-NUMBER
version: 1.0.0
input: {type: object, required: [n], properties: {n: {type: integer}}}
steps: [{id: one, kind: tool, run: work, with: {n: "${ input.n }"}}]
result: ${ steps.one.output }
"""
_LOST = """
name: lost-NUMBER
version: 1.0.0
steps: [{id: ever, kind: wait, signal: never}]
"""


def _text(name: str) -> str:
    return (Path(__file__).parent / f"{name}.yaml").read_text()


_TEXTS = {"everything": (_text("everything"), _PART, _LOST), "errand": (_text("errand"), _PART, _LOST)}


async def outing(job: Job, waits: bool = False) -> int:
    """A function that has put on record how it is undone."""
    total = 0
    for n in range(4):
        await job.undo_with(players.undo, what=n)
        total += await job.call(players.work, n=n)
    if waits:
        await job.wait_for("go")
    raise TerminalError("it rains", code="rain")


def app_of(piece: str, number: str) -> App:
    """An app of its own for one run of a piece, with the tools to call."""
    app = App("piece", version="1.0.0")
    app.components.extend(players.app.components)
    for text in _TEXTS.get(piece, ()):
        app.components.append(workflow_component(_document(text, number), app=app.name))
    if piece == "outing":
        app.job(name=f"outing-{number}")(outing)
    return app


def _document(text: str, number: str) -> Document:
    made, findings = check_source(read_source("piece.yaml", text.replace("NUMBER", number).encode(), None))
    if made is None or findings:
        raise ValueError("\n".join(map(str, findings)))
    return made


def names_of(app: App) -> list[str]:
    """The workflows of an app."""
    return [component.name for component in app.components if component.kind == "job"]
