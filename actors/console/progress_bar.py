"""A bar for what takes long: on a terminal only, and on standard error, which a pipe does not carry."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Self

from actors.console.screen import Screen

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


class ProgressBar:
    """Counts up to ``total``; a context manager. Nothing is shown where ``screen`` is no terminal."""

    def __init__(self, screen: Screen, what: str, total: int | None) -> None:
        self._screen = screen
        self._what = what
        self._total = total
        self._progress: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._screen.is_tty:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._progress = Progress(*columns, console=self._screen.console, transient=True)
            self._progress.start()
            self._task = self._progress.add_task(self._what, total=self._total)
        return self

    def advance(self, number: int = 1) -> None:
        """So many more are done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
