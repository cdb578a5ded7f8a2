"""A thread: the prompts and answers of earlier runs, under a name. Pure.

It keeps words alone, not what tools were used in between: those are in the logs of the jobs, other agents may not have
them, and providers take thoughts back from nobody but the model that had them. So any agent can go on with any thread.

What is new stands in the thread itself. Once that is large it is sealed: put into the object store, never to change.
"""

from __future__ import annotations

from datetime import datetime

import msgspec

from actors.locks.claim import token_of
from bus.errors import UsageError

NAME_LIMIT_BYTES = 500  # the name of its lock is longer
SEAL_BYTES = 200 * 1024


class Exchange(msgspec.Struct, frozen=True, kw_only=True):
    """One run: what was asked, and what was answered in the end. ``id``: job and operation that added it."""

    id: str
    job: str
    agent: str
    at: datetime
    prompt: str
    answer: str


class Sealed(msgspec.Struct, frozen=True):
    """So many exchanges, as a list in the object store."""

    sha256: str
    exchanges: int
    size_bytes: int


class Thread(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """As the bucket holds it: what is ``sealed`` is older than ``exchanges``.

    ``summary`` stands for the oldest ``summed_up``, if there is one.
    """

    name: str
    began_at: datetime
    last_at: datetime
    last_agent: str
    last_id: str
    count: int = 0
    exchanges: tuple[Exchange, ...] = ()
    sealed: tuple[Sealed, ...] = ()
    summary: str = ""
    summed_up: int = 0


class Earlier(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a run begins with: pairs of prompt and answer. ``first``: how many older ones the thread has.

    Of these the ``summary`` stands for ``summed_up``.
    """

    thread: str
    exchanges: tuple[tuple[str, str], ...] = ()
    first: int = 0
    summary: str = ""
    summed_up: int = 0


class Summary(msgspec.Struct, frozen=True):
    """Words that stand for the oldest ``exchanges`` of a thread from now on."""

    words: str
    exchanges: int


def check_thread(name: object) -> str:
    """Raises: UsageError (``bad_thread``) for what cannot be the name of a thread."""
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{name!r} is no name of a thread", code="bad_thread", path="thread", hint="a text, not empty")
    if len(name.encode()) > NAME_LIMIT_BYTES:
        raise UsageError("the name of the thread is too long", code="bad_thread", path="thread",
                         hint=f"at most {NAME_LIMIT_BYTES} bytes")  # fmt: skip
    return name


def thread_key(workspace: str, name: str) -> str:
    """The key in the bucket."""
    return f"{workspace}.{token_of(name)}"


def lock_of(name: str) -> str:
    """The lock of the workspace that a run on the thread holds."""
    return f"thread-{name}"


def added(thread: Thread | None, name: str, exchange: Exchange, summary: Summary | None = None) -> Thread:
    """The thread with one exchange more; as it was, if it has that one already."""
    if thread is None:
        return Thread(
            name=name, began_at=exchange.at, last_at=exchange.at, last_agent=exchange.agent, last_id=exchange.id,
            count=1, exchanges=(exchange,),
        )  # fmt: skip
    if exchange.id == thread.last_id or any(exchange.id == each.id for each in thread.exchanges):
        return thread
    longer = msgspec.structs.replace(
        thread, last_at=exchange.at, last_agent=exchange.agent, last_id=exchange.id, count=thread.count + 1,
        exchanges=(*thread.exchanges, exchange),
    )  # fmt: skip
    # A thread that was forgotten and begun anew meanwhile has nothing of what was summed up.
    if summary is None or not thread.summed_up <= summary.exchanges <= thread.count:
        return longer
    return msgspec.structs.replace(longer, summary=summary.words, summed_up=summary.exchanges)


def to_seal(thread: Thread) -> bytes | None:
    """What has to go into the object store before the thread can be written, if anything."""
    body = msgspec.json.encode(thread.exchanges)
    return body if len(body) > SEAL_BYTES else None


def sealed(thread: Thread, sha256: str, size_bytes: int) -> Thread:
    """With its exchanges sealed under that digest."""
    new = Sealed(sha256, len(thread.exchanges), size_bytes)
    return msgspec.structs.replace(thread, exchanges=(), sealed=(*thread.sealed, new))


def earlier_of(thread: Thread, newest: tuple[Exchange, ...]) -> Earlier:
    """What a run begins with, of the ``newest`` exchanges: those that are not summed up."""
    first = max(thread.count - len(newest), thread.summed_up)
    left = newest[len(newest) - (thread.count - first) :]
    return Earlier(
        thread=thread.name, exchanges=tuple((each.prompt, each.answer) for each in left), first=first,
        summary=thread.summary, summed_up=thread.summed_up,
    )  # fmt: skip
