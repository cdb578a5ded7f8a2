"""A recorder of a model's answers: asked once with a key, they are given again without one.

    model = open_model("cassette:tests/answers.jsonl+anthropic:claude-sonnet-5")  # asks what is not recorded
    model = open_model("cassette:tests/answers.jsonl")                              # asks nobody

The file has one exchange a line, see ``actors.model.exchange``. It holds no key, since requests hold none; what tools
answered is in it.
"""

from __future__ import annotations

import asyncio
import difflib
import fcntl
import os
from collections import Counter
from pathlib import Path

from actors.model.exchange import (
    Exchange,
    KeptExchange,
    asked,
    digest_of,
    exchange_of,
    line_of,
    read_lines,
    whole_bytes,
)
from actors.model.model import Listen, Model, ModelReply, ModelRequest
from actors.model.model_ref import ModelRef, parse_model_ref, place_of
from actors.model.open_model import open_model
from actors.model.pieces import heard
from actors.model.request_difference import nearest, told
from actors.model.token_estimate import estimate_request
from bus.errors import UsageError
from bus.failure import TerminalError


class Cassette:
    """A Model that gives recorded answers, and records those of ``model`` to requests that it does not know.

    Of equal requests the first is given the first recorded answer, the second the second. One more than were recorded
    is asked of the model; if there is none, or it has no key, the last answer is given again. ``model`` is opened when
    it is first needed.

    Raises: UsageError if there is neither a file nor a model, and for a file that cannot be read.
    """

    def __init__(self, path: str | Path, model: str | Model | None = None) -> None:
        self.path = Path(path)
        self._through: ModelRef | Model | None = parse_model_ref(model) if isinstance(model, str) else model
        self._model: Model | None = None
        self._asked: Counter[str] = Counter()
        self._size_bytes = -1
        self._kept: list[KeptExchange] = []
        self._read()
        if self._through is None and not self._kept:
            raise self._empty()
        self.provider, self.name = self._identity()

    async def reply(self, request: ModelRequest, listen: Listen | None = None) -> ModelReply:
        """The recorded answer, or the model's.

        Raises: TerminalError with code ``not_recorded``, RetryableError and TerminalError of the model's.
        """
        plain = asked(request)
        digest = digest_of(plain)
        number = self._asked[digest]
        self._asked[digest] += 1
        if (kept := self._find(digest, number)) is not None:
            return await heard(kept.reply, listen)
        model, why = self._opened()
        if model is None:
            return await heard(self._last(request, digest, why), listen)
        try:
            return await self._record(model, request, listen)
        except BaseException:
            # What was not recorded is the same place of the tape when it is asked again.
            self._asked[digest] -= 1
            raise

    def count_tokens(self, request: ModelRequest) -> int:
        """About how many tokens the request is."""
        return estimate_request(request)

    async def close(self) -> None:
        """Close the model's connections, if it was asked."""
        if self._model is not None:
            await self._model.close()

    # ---- from the tape

    def _find(self, digest: str, number: int) -> Exchange | None:
        found = self._answers(digest)
        if number >= len(found):
            self._read()  # another process may have recorded it meanwhile
            found = self._answers(digest)
        return found[number] if number < len(found) else None

    def _answers(self, digest: str) -> list[Exchange]:
        return [each.exchange for each in self._kept if each.exchange.digest == digest]

    def _last(self, request: ModelRequest, digest: str, why: str) -> ModelReply:
        """The last answer to this request. ``why`` nobody can be asked, for the error."""
        if found := self._answers(digest):
            return found[-1].reply
        line, differences = nearest(self._kept, asked(request)) or (0, ())
        said = f"; the nearest is line {line}, which differs in {told(differences)}" if line else ""
        raise TerminalError(
            f"{self.path} has no exchange for this request (digest {digest}){said}{why}",
            code="not_recorded",
            details={"cassette": str(self.path), "line": line, "fields": [each.field for each in differences]},
        )

    def _read(self) -> None:
        try:
            size = self.path.stat().st_size
            if size == self._size_bytes:
                return
            self._kept = list(read_lines(self.path.read_bytes(), str(self.path)))
            self._size_bytes = size
        except FileNotFoundError:
            self._kept, self._size_bytes = [], -1
        except OSError as error:
            raise self._bad(error) from error

    def _bad(self, error: OSError) -> UsageError:
        return UsageError(f"cassette {self.path}: {error.strerror}", code="bad_cassette", path=str(self.path))

    # ---- onto the tape

    async def _record(self, model: Model, request: ModelRequest, listen: Listen | None) -> ModelReply:
        reply = await model.reply(request, listen)
        exchange = exchange_of(self.provider, self.name, request, reply)
        try:
            await asyncio.to_thread(append_line, self.path, line_of(exchange))
        except OSError as error:
            raise self._bad(error) from error
        self._read()
        return reply

    def _opened(self) -> tuple[Model | None, str]:
        """The model if it can be asked, else why not."""
        if self._model is None and self._through is not None:
            through = self._through
            try:
                self._model = open_model(str(through) if isinstance(through, ModelRef) else through)
            except UsageError as error:
                return None, f"; and {through} cannot be asked: {error}"
        return self._model, ""

    # ---- who it is

    def _identity(self) -> tuple[str, str]:
        """The model's, so that costs and limits are told by the same names as when it is asked."""
        through = self._through
        if isinstance(through, ModelRef) and through.base_url:
            return f"{through.provider}-{place_of(through.base_url)}", through.name
        if through is not None:
            return through.provider, through.name
        first = self._kept[0].exchange
        return first.provider, first.model

    def _empty(self) -> UsageError:
        there = sorted(each.name for each in self.path.parent.glob("*.jsonl")) if self.path.parent.is_dir() else []
        near = difflib.get_close_matches(self.path.name, [name for name in there if name != self.path.name], n=1)
        hint = (
            f"did you mean {self.path.parent / near[0]}?" if near else f"record it: cassette:{self.path}+PROVIDER:MODEL"
        )
        return UsageError(f"cassette {self.path} has no exchange", code="no_cassette", path=str(self.path), hint=hint)


def append_line(path: Path, line: bytes) -> None:
    """Put a line at the end of a cassette, on the disk, in place of one that was cut off. Safe among processes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(fd, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        body = file.read()
        end = whole_bytes(body)
        file.truncate(end)
        file.seek(end)
        file.write((b"\n" if end and not body[:end].endswith(b"\n") else b"") + line)
        file.flush()
        os.fsync(file.fileno())
