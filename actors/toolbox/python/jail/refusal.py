"""A sandbox that cannot be made says so as its answer, so that the asker knows more than an exit code."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

from actors.toolbox.python.jail.order import write_all


@contextmanager
def refusing(answer_fd: int) -> Iterator[None]:
    """End this process with a refusal if making the sandbox fails."""
    try:
        yield
    except (OSError, ValueError, EOFError, ImportError) as error:
        write_answer(answer_fd, {"refused": f"{type(error).__name__}: {error}"})
        os._exit(1)


def write_answer(answer_fd: int, answer: dict[str, object]) -> None:
    """The answer as JSON behind its length."""
    data = json.dumps(answer).encode()
    write_all(answer_fd, len(data).to_bytes(8, "big") + data)
