"""What ``callboard amend`` does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from actors.command_bodies.jobs import decode_data, user_name
from actors.command_bodies.session import EXIT_DONE, Session
from actors.console.page import Span, line
from bus.amendment import AddItems, AddSteps, Change, FinishMap, SetPolicy, SkipStep, in_words
from bus.errors import UsageError


async def set_policy(
    session: Session, job: str, target: str, retry: dict[str, Any], *, timeout_s: float | None, on_open: str | None
) -> int:
    """Change how calls of a job are made."""
    fields = {name: value for name, value in retry.items() if value is not None}
    return await _amend(session, job, SetPolicy(target, fields or None, timeout_s, on_open))


async def inject(session: Session, job: str, steps: list[str], into: str) -> int:
    """Inject steps into a workflow document that runs."""
    found = [each for text in steps for each in _steps_in(text)]
    return await _amend(session, job, AddSteps(msgspec.Raw(msgspec.json.encode(found)), into))


async def add(session: Session, job: str, step: str, items: list[str]) -> int:
    """Give a map more instances."""
    raw = msgspec.json.encode([decode_data(item) for item in items])
    return await _amend(session, job, AddItems(step, msgspec.Raw(raw)))


async def finish(session: Session, job: str, step: str) -> int:
    """Complete a map now."""
    return await _amend(session, job, FinishMap(step))


async def skip(session: Session, job: str, step: str) -> int:
    """Give a step up."""
    return await _amend(session, job, SkipStep(step))


def _steps_in(text: str) -> list[Any]:
    """One step, or a list of them: JSON as it is, else a file of YAML, which JSON is too. Raises: UsageError."""
    import yaml

    is_json = text.lstrip().startswith(("{", "["))
    try:
        value = msgspec.json.decode(text) if is_json else yaml.safe_load(Path(text).read_text())
    except (msgspec.DecodeError, yaml.YAMLError) as error:
        raise UsageError(f"--step cannot be read: {error}", code="bad_argument", path="--step") from error
    except (OSError, UnicodeDecodeError) as error:
        hint = "a step as JSON in quotes, or a file that holds one"
        raise UsageError(f"cannot read {text}: {error}", code="no_file", path="--step", hint=hint) from error
    return value if isinstance(value, list) else [value]


async def _amend(session: Session, job: str, change: Change) -> int:
    async with await session.client() as client:
        amended = await client.amend(job, change, by=user_name())
    screen = session.screen()
    if session.json or not screen.is_tty:
        screen.show_json({"job": job, "sequence": amended.sequence, "in_flight": amended.in_flight})
        return EXIT_DONE
    screen.show([line("job ", Span(job, "name"), f" is amended at {amended.sequence}: {in_words(change)}")])
    if amended.in_flight:
        screen.show([line(Span(f"from the next attempt on: {', '.join(amended.in_flight)}", "dim"))])
    return EXIT_DONE
