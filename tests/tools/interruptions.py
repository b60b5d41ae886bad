"""Interrupt a small run at random moments and damage its cells, many times: does it always end in the same bytes?

python -m tests.tools.interruptions --kills 40

Runs are interrupted by SIGKILL to all, SIGKILL or SIGTERM to the parent alone, SIGKILL to a worker, and Ctrl-C, with
one worker or two. Between runs one finished cell is damaged, in each way of ``tests.support.damage`` in turn. A run
that is through before its time is compared with one that was left alone, and another begins. The exit code is 1 where
bytes differ, processes are left, or anything is said with a traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from analysis.provenance import ROOT
from tests.support.command import cells, children, hashes, members, popen
from tests.support.damage import KINDS, damage


def kill_all(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGKILL)


def kill_the_parent(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)


def end_the_parent(process: subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGTERM)


def kill_a_worker(process: subprocess.Popen[str]) -> None:
    """The parent is killed where it works alone."""
    os.kill((children(process) or [process.pid])[0], signal.SIGKILL)


def press_ctrl_c(process: subprocess.Popen[str]) -> None:
    os.killpg(process.pid, signal.SIGINT)


# With the exit codes that they may end in, beside 0 where the run is through before; -2: Ctrl-C while Python starts.
INTERRUPTIONS = {kill_all: {-9}, kill_the_parent: {-9}, end_the_parent: {-15}, kill_a_worker: {1, -9}}
INTERRUPTIONS |= {press_ctrl_c: {130, -2}}


class Campaign:
    """Runs of some experiments below a folder, beside one that was left alone."""

    def __init__(self, folder: Path, only: list[str], seed: int) -> None:
        self.folder, self.only, self.draw = folder, only, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.bad: list[str] = []
        self.damaged: set[tuple[Path, int]] = set()
        start, out = time.monotonic(), folder / "whole"
        self._note("left alone", self._end(self._begin(out, 1), {0}))
        self.duration, self.whole = time.monotonic() - start, hashes(out / "tables")
        self.out = folder / "0"

    def _begin(self, out: Path, jobs: int) -> subprocess.Popen[str]:
        full = [ROOT / "reproduce.py", "compute", *self.only, "--quick", "--jobs", jobs, "--out", out]
        return popen(*full, start_new_session=True)

    def _end(self, process: subprocess.Popen[str], expected: set[int]) -> list[str]:
        """Wait for the end of a run and its workers; return what is not as it has to be."""
        said = process.communicate()[1]
        limit = time.monotonic() + 30
        while (left := members(process.pid)) and time.monotonic() < limit:
            time.sleep(0.1)
        problems = [f"processes {left} are left"] if left else []
        problems += [said] if "Traceback" in said else []
        return problems + ([f"exit code {process.returncode}: {said}"] if process.returncode not in expected else [])

    def _note(self, event: str, problems: list[str]) -> None:
        self.counts[event] += 1
        self.bad += problems
        print(f"{self.counts['interrupted']}: {event}: {'; '.join(problems) or 'as it should be'}", flush=True)

    def _compare(self) -> list[str]:
        self.counts["compared"] += 1
        return [] if hashes(self.out / "tables") == self.whole else ["other bytes"]

    def step(self) -> None:
        """Begin a run, interrupt it unless it is through before, and compare its tables or damage one of its cells."""
        jobs, interrupt = self.draw.choice([1, 2]), self.draw.choice(list(INTERRUPTIONS))
        process, start = self._begin(self.out, jobs), time.monotonic()
        try:
            process.wait(self.draw.uniform(0.3, 1) * self.duration)  # before that, modules are imported
            event, expected = "through before its time", {0}
            self.duration = 0.8 * (time.monotonic() - start)  # a machine is not always as busy
        except subprocess.TimeoutExpired:
            event, expected = f"{interrupt.__name__}, {jobs} jobs", INTERRUPTIONS[interrupt] | {0}
            with contextlib.suppress(ProcessLookupError):  # it has just ended
                interrupt(process)
        problems = self._end(process, expected)
        self.counts["interrupted"] += process.returncode != 0
        if process.returncode == 0:
            problems += self._compare()
            self.out = self.folder / str(self.counts["compared"])
        else:
            self._damage()
        self._note(event, problems)

    def _damage(self) -> None:
        """Damage a finished cell, whole as yet, in the way that has been used least."""
        whole = [path for path in sorted(cells(self.out)) if (path, path.stat().st_mtime_ns) not in self.damaged]
        if whole:
            kind, path = min(KINDS, key=lambda kind: self.counts[f"damage: {kind}"]), self.draw.choice(whole)
            damage(path, kind)
            self.damaged.add((path, path.stat().st_mtime_ns))
            self.counts[f"damage: {kind}"] += 1

    def finish(self) -> None:
        """Let the last run go to its end, and again after each kind of damage that has had no turn."""
        while True:
            problems = self._end(self._begin(self.out, 1), {0})
            self._note("to the end", problems + self._compare())
            if all(self.counts[f"damage: {kind}"] for kind in KINDS):
                return
            for _ in cells(self.out):
                self._damage()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=["greedy_error"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        campaign = Campaign(Path(folder), options.only, options.seed)
        while campaign.counts["interrupted"] < options.kills:
            campaign.step()
        campaign.finish()
    bad = campaign.bad
    for event, count in sorted(campaign.counts.items()):
        print(f"{count:4d} {event}")
    print(f"{len(bad)} not as they should be: {bad}" if bad else "all as it should be")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
