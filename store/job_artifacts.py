"""The files that a job's tools have made, as its log tells: found in the outputs of its calls and in its own. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec

from bus.messages import CallAgent, CallJob, Event, JobCompleted, ReplyCompleted
from store.artifact import Artifact, artifacts_in


class MadeArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact and where it was found first: in the reply to ``call`` of ``job``, or (empty) in the job's output."""

    artifact: Artifact
    job: str
    call: str = ""


def made_in(job: str, events_of: Callable[[str], Iterable[Event]]) -> list[MadeArtifact]:
    """All artifacts of the job and of the jobs below it, each once, where it came from first."""
    found: dict[Artifact, MadeArtifact] = {}
    for made in _walk(job, events_of, set()):
        found.setdefault(made.artifact, made)
    return list(found.values())


def _walk(job: str, events_of: Callable[[str], Iterable[Event]], seen: set[str]) -> Iterator[MadeArtifact]:
    seen.add(job)
    answered: set[str] = set()
    for event in events_of(job):
        match event:
            case CallAgent() | CallJob() if event.child not in seen:
                yield from _walk(event.child, events_of, seen)
            case ReplyCompleted() if event.call not in answered:  # of two replies the first one counts
                answered.add(event.call)
                yield from _found(event.output, job, event.call)
            case JobCompleted():
                yield from _found(event.output, job, "")
            case _:
                continue


def _found(output: msgspec.Raw, job: str, call: str) -> Iterator[MadeArtifact]:
    if b'"artifact"' not in bytes(output):
        return
    value: Any = msgspec.json.decode(output)
    yield from (MadeArtifact(artifact=artifact, job=job, call=call) for artifact in artifacts_in(value))
