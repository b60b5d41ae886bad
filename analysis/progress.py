"""What a long run says of itself: a bar with what runs now on a terminal, a plain line now and then elsewhere."""

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
    """Counts finished pieces of work, and says how many there are, how long the rest may take, and what runs.

    ``names`` are those of the pieces in the order in which they are begun, ``count`` how many run at once, ``finished``
    how many more were there before.
    """

    def __init__(self, title: str, names: Sequence[str], count: int, finished: int) -> None:
        self.title, self.names, self.count, self.before = title, names, count, finished
        self.done: set[int] = set()
        self.start = time.monotonic()

    def finish(self, place: int) -> None:
        """Count the piece at a place of ``names``."""
        self.done.add(place)

    @property
    def running(self) -> str:
        """What runs now: of the pieces that are not finished, the first begun."""
        names = [self.names[i] for i in range(len(self.names)) if i not in self.done][: self.count]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    @property
    def line(self) -> str:
        """How many of how many, the time so far and left, and what runs now, in one line."""
        spent = time.monotonic() - self.start
        left = spent / len(self.done) * (len(self.names) - len(self.done)) if self.done else None
        parts = [f"{self.title}: {self.before + len(self.done)} of {self.before + len(self.names)}, {_time(spent)}"]
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
    """A bar with a line below it that says what runs."""

    report: Report | None = None

    def follow(self, report: Report) -> None:
        """Show a report from now on."""
        self.report = report
        self.add_task(report.title, total=report.before + len(report.names))

    def get_renderables(self) -> Iterator[Any]:
        """Return the bar and the line, as they are now."""
        if self.report is not None:
            for task in self._tasks.values():
                task.completed = self.report.before + len(self.report.done)
        yield self.make_tasks_table(self.tasks)
        if self.report is not None and self.report.running:
            yield Text(f"now {self.report.running}", overflow="ellipsis", no_wrap=True)
