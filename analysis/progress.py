"""Progress of a long run: on a terminal a bar with the running pieces, elsewhere a plain line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

EVERY = 60.0  # seconds between plain lines


class Report:
    """Count finished pieces of work, and report their number, the time left, and the running pieces.

    ``names`` are those of the pieces in the order of their start, ``count`` is the number that run at once,
    ``finished`` the number of further pieces that were finished before.
    """

    def __init__(self, title: str, names: Sequence[str], count: int, finished: int) -> None:
        self.title, self.names, self.count, self.before = title, names, count, finished
        self.done: set[int] = set()
        self.start = time.monotonic()

    def finish(self, place: int) -> None:
        """Count the piece at index ``place`` of ``names`` as finished."""
        self.done.add(place)

    @property
    def running(self) -> str:
        """The names of the running pieces: of those that are not finished, the first to start."""
        names = [self.names[i] for i in range(len(self.names)) if i not in self.done][: self.count]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    @property
    def count_line(self) -> str:
        """The title, and how many pieces of all are finished."""
        return f"{self.title}: {self.before + len(self.done)} of {self.before + len(self.names)}"

    @property
    def line(self) -> str:
        """One line with the pieces finished, the time so far and left, and the running pieces."""
        spent = time.monotonic() - self.start
        left = spent / len(self.done) * (len(self.names) - len(self.done)) if self.done else None
        parts = [f"{self.count_line}, {_time(spent)}"]
        parts += [f"about {_time(left)} left"] if left else []
        return ", ".join(parts) + (f"; now {self.running}" if self.running else "")


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


@contextmanager
def reported(report: Report) -> Iterator[None]:
    """Show a report on stderr inside the block."""
    console = Console(stderr=True)
    if not console.is_terminal:
        stop = threading.Event()
        thread = threading.Thread(target=_say, args=(report, stop), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with _Bar(*columns, TimeRemainingColumn(), console=console, transient=False) as bar:
        bar.follow(report)
        yield


def _say(report: Report, stop: threading.Event) -> None:
    while not stop.wait(EVERY):
        print(report.line, file=sys.stderr, flush=True)


class _Bar(Progress):
    """A bar above a line with the running pieces."""

    report: Report | None = None

    def follow(self, report: Report) -> None:
        """Show this report from now on."""
        self.report = report
        self.add_task(report.title, total=report.before + len(report.names))

    def get_renderables(self) -> Iterator[Any]:
        """Return the bar and the line in their present state."""
        if self.report is not None:
            for task in self._tasks.values():
                task.completed = self.report.before + len(self.report.done)
        yield self.make_tasks_table(self.tasks)
        if self.report is not None and self.report.running:
            yield Text(f"now {self.report.running}", overflow="ellipsis", no_wrap=True)
