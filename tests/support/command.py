"""The command line in a process of its own."""

import functools
import hashlib
import os
import signal
import subprocess
import sys
import time

from analysis.provenance import ROOT

ONE = ["lookahead_surface"]  # a figure that takes seconds
FAST = [*ONE, "--quick", "--jobs", "1"]
SLEEPY = ("-m", "tests.support.sleepy", "compute", "greedy_error")


def command(*arguments, cwd=ROOT, stdout=subprocess.PIPE, **changed):
    """Run the command line with changes of the environment."""
    full = [sys.executable, str(ROOT / "reproduce.py"), *map(str, arguments)]
    pipes = {"stdout": stdout, "stderr": subprocess.PIPE}
    return subprocess.run(full, cwd=cwd, env=os.environ | changed, check=False, **pipes)


def popen(*arguments, **options):
    """Begin a Python process that Ctrl-C stops, also where a background job of a shell, which ignores it, runs this."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    restore = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen([sys.executable, *map(str, arguments)], preexec_fn=restore, **pipes, **options)


def begin(*arguments, out):
    """Begin a run of ``tests.support.sleepy`` in a group of its own; return it when it has finished a cell."""
    before = cells(out)
    process = popen(*SLEEPY, *arguments, "--out", out, start_new_session=True)
    limit = time.monotonic() + 300
    while cells(out) == before:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < limit, "no cell in five minutes"
        time.sleep(0.02)
    return process


def cells(out):
    """The finished cells of a folder."""
    return set(out.glob("cells/*.parquet"))


def hashes(folder):
    """The hash of every file but those of wall times."""
    files = [p for p in sorted(folder.glob("*")) if "_timings" not in p.name]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def children(process):
    """The worker processes of a process."""
    return [pid for pid, parent, _, what in _processes() if parent == process.pid and "LokyProcess" in what]


def members(group):
    """The processes of a group that are not yet ended."""
    return [pid for pid, _, other, _ in _processes() if other == group]


def _processes():
    """(process, parent, group, command line) of all that are not yet ended."""
    columns = [part for name in ("pid", "ppid", "pgid", "stat", "args") for part in ("-o", f"{name}=")]
    listed = subprocess.run(["ps", "-e", "-ww", *columns], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines():
        pid, parent, group, state, *what = line.split()
        if not state.startswith("Z"):
            yield int(pid), int(parent), int(group), " ".join(what)
