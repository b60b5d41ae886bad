"""Functions of many items, run in parallel: in processes here, or on a Dask cluster.

Processes end with the one that started them. Failures of processes or of a cluster raise ``WorkersError`` with a
message of one line that names the cause.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import joblib
from joblib.externals.loky import get_reusable_executor
from joblib.externals.loky.process_executor import BrokenProcessPool

from analysis import checks

BACKENDS = ("loky", "dask")
ANSWER, JOIN = 10.0, 60.0  # seconds to wait for a scheduler's answer, and for a cluster without workers to have one
POLL = 0.2
Item = TypeVar("Item")
Result = TypeVar("Result")


class WorkersError(RuntimeError):
    """Work cannot go on; the message is one line for the user."""


@dataclass(frozen=True)
class Workers:
    """The processes or the cluster on which work runs.

    Attributes
    ----------
    jobs : processes here, not 0; -1 is one per core, -2 one less
    backend : "loky", processes here, or "dask"
    scheduler : address of a Dask scheduler, such as "tcp://host:8786"; None starts a cluster here
    environment : variables of processes here, set before they import what work needs

    Raises
    ------
    ValueError
        For an unknown backend, or jobs that are no whole number or 0.
    """

    jobs: int = -1
    backend: str = "loky"
    scheduler: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        checks.known("backend", self.backend, BACKENDS)
        if isinstance(self.jobs, bool) or not isinstance(self.jobs, int) or self.jobs == 0:
            raise ValueError(f"jobs must be a whole number other than 0 (-1: one per core), got {self.jobs!r}")

    @property
    def count(self) -> int:
        """The number of items that run at once here."""
        return joblib.effective_n_jobs(self.jobs)

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """Apply a function to all items.

        Returns
        -------
        Iterator
            Of function(item), in the order in which items finish.

        Raises
        ------
        WorkersError
            If workers die, or a cluster is not there, has no workers or cannot run this package.
        """
        return self._on_dask(function, items) if self.backend == "dask" else self._here(function, items)

    @contextmanager
    def importing(self, modules: Iterable[str], most: int) -> Iterator[None]:
        """Let at most ``most`` processes here start and import modules, if any, while the block goes on.

        Raises
        ------
        WorkersError
            If a process dies.
        """
        modules = [*modules]
        if not modules or self.backend == "dask" or self.count == 1:
            yield
            return
        with self._running(_import, [modules] * min(self.count, most)) as begun:
            try:
                yield
            finally:  # to cancel tasks that have just begun can end loky's own thread
                for _ in begun:
                    pass

    def _here(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        with self._running(function, items) as results:
            yield from results

    @contextmanager
    def _running(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Iterator[Result]]:
        """Apply a function to items in processes here, in a block that has the results as they finish."""
        _end_other(self.environment)
        parallel = joblib.Parallel(
            n_jobs=max(1, min(self.count, len(items))), return_as="generator_unordered", batch_size=1
        )
        bound = partial(_bound_to, os.getpid(), self.environment, function)
        try:
            with warnings.catch_warnings(), closing(parallel(joblib.delayed(bound)(item) for item in items)) as results:
                # A worker whose memory has grown is replaced between items; one that crashes is an exception.
                warnings.filterwarnings("ignore", message="A worker stopped while some jobs")
                warnings.filterwarnings("ignore", message=".*(not used|still being processed)")  # by a run that stops
                yield results
        except BrokenProcessPool as error:
            if isinstance(error.__context__, KeyboardInterrupt):  # a Ctrl-C that ended a process, too
                raise KeyboardInterrupt from error
            raise WorkersError(
                "a worker process was ended from outside, perhaps for want of memory; fewer --jobs need less"
            ) from error

    def _on_dask(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        with _client(self, function) as client:
            futures = client.map(function, items, pure=False, batch_size=1)
            try:
                yield from _finished(client, futures, self.scheduler)
            finally:
                client.cancel(futures)


_started: dict[str, Mapping[str, str]] = {}  # the environment of the processes that joblib keeps for the next call


def _end_other(environment: Mapping[str, str]) -> None:
    """End processes that were started with another environment: what they have imported depends on it."""
    if _started.setdefault("here", environment) != environment:
        get_reusable_executor(reuse=True).shutdown(wait=True)
        _started["here"] = environment


def _import(modules: Iterable[str]) -> None:
    for name in modules:
        importlib.import_module(name)


def _bound_to(parent: int, environment: Mapping[str, str], function: Callable[[Item], Result], item: Item) -> Result:
    """Run a function in a process that ends when its parent does, and logs no warning that all of them would log."""
    if os.getpid() != parent:
        os.environ.update(environment)
        _end_with(parent)
        logging.disable(logging.WARNING)
    return function(item)


_watching = threading.Lock()


def _end_with(parent: int) -> None:
    """Make this process end soon after its parent, and leave Ctrl-C to the parent."""
    if not _watching.acquire(blocking=False):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os._exit(1)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _client(workers: Workers, function: Callable[..., Any]) -> Iterator[Any]:
    """Connect to a Dask cluster whose workers can import a function; without a scheduler's name, start one here."""
    try:
        import distributed
    except ImportError as error:
        raise WorkersError('backend "dask" needs: pip install -e ".[cluster]"') from error
    for name in ("distributed", *logging.root.manager.loggerDict):  # some have a level of their own
        if name.partition(".")[0] == "distributed":  # it would log, with tracebacks, what is said here
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        where = workers.scheduler
        if where is None:
            options = {"n_workers": workers.count, "threads_per_worker": 1, "dashboard_address": ":0"}
            where = stack.enter_context(distributed.LocalCluster(**options)).scheduler_address
        client = stack.enter_context(_connected(distributed, where))
        _can_import(client.run_on_scheduler, function, "the Dask scheduler")  # it reads what it hands on
        try:
            client.wait_for_workers(1, timeout=JOIN)
        except TimeoutError as error:
            raise WorkersError(f"the Dask cluster at {where} has had no workers for {JOIN:g} s") from error
        _can_import(client.run, function, "a Dask worker")
        yield client


def _connected(distributed: Any, where: str) -> Any:
    """Connect to a scheduler, after a check that it is one: otherwise a client waits for an answer forever."""
    try:
        asyncio.run(_identity(where))
        return distributed.Client(where, timeout=ANSWER, set_as_default=False)
    except TimeoutError as error:
        raise WorkersError(f"no Dask scheduler answers at {where} within {ANSWER:g} s") from error
    except (ValueError, TypeError) as error:
        raise WorkersError(f"{where!r} is no address of a Dask scheduler, such as tcp://host:8786 ({error})") from error
    except Exception as error:  # what another protocol's bytes make of the reader is not known beforehand
        raise WorkersError(f"what answers at {where} is no Dask scheduler ({type(error).__name__})") from error


async def _identity(where: str) -> None:
    from distributed.core import connect

    async with asyncio.timeout(ANSWER):
        # connect tries again until its own timeout, whose error is another one: it must not come first.
        comm = await connect(where, timeout=2 * ANSWER)
        await comm.write({"op": "identity", "reply": True})
        kind = (await comm.read())["type"]
        await comm.close()
    if kind != "Scheduler":
        raise OSError(f"it is a {kind}")


def _can_import(ask: Callable[..., Any], function: Callable[..., Any], who: str) -> None:
    try:
        ask(_ready, function)
    except Exception as error:
        raise WorkersError(f"{who} cannot run this package ({error}): install it where it runs") from error


def _ready(function: Callable[..., Any]) -> None:
    """Do nothing; a worker that can be called so has imported this package and the function's module.

    A worker that meets a function it cannot import as a task ends, and the cluster is left without workers.
    """


def _finished(client: Any, futures: list[Any], where: str | None) -> Iterator[Any]:
    """Yield the results of futures as they finish, while the scheduler and workers exist."""
    from distributed import as_completed

    completed, left, since = as_completed(futures, loop=client.loop), len(futures), time.monotonic()
    while left:
        for future in completed.next_batch(block=False):
            left, since = left - 1, time.monotonic()
            yield _result(future, where)
        if client.status != "running":
            raise WorkersError(f"the Dask scheduler at {where} is gone")
        if client.scheduler_info(n_workers=-1)["workers"]:
            since = time.monotonic()
        elif time.monotonic() - since > JOIN:
            raise WorkersError(f"the Dask cluster at {where} has had no workers for {JOIN:g} s")
        time.sleep(POLL)


def _result(future: Any, where: str | None) -> Any:
    from distributed import CancelledError, KilledWorker

    if future.status in ("cancelled", "lost"):
        raise WorkersError(f"the Dask scheduler at {where} is gone")
    try:
        return future.result()
    except CancelledError as error:
        raise WorkersError(f"the Dask scheduler at {where} is gone") from error
    except KilledWorker as error:
        raise WorkersError(
            "Dask workers died, one after the other, on the same cell, perhaps for want of memory"
        ) from error
    except ImportError as error:
        raise WorkersError(f"a Dask worker cannot run this package ({error}): install it where it runs") from error
