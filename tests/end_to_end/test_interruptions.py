"""Runs that are killed, stopped, out of room or not alone; the truth is the bytes of a run left alone.

The runs are of the real command line, with an experiment in it whose cells do nothing for a while.
"""

import os
import re
import resource
import signal
import time

import pytest

from analysis.provenance import ROOT
from tests.support import sleepy
from tests.support.command import begin, cells, children, hashes, members, popen

STOPPED = "stopped; cells: {} of 12 are finished and kept; the same command goes on"


def run_here(out):
    """Run the command line in this process; return its exit code."""
    return sleepy.main(["compute", "greedy_error", "--jobs", "1", "--out", str(out)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    assert run_here(out) == 0
    return out


def ended(process):
    """Wait until all of a group have ended; return the exit code and the lines that were said."""
    said = process.communicate(timeout=300)[1]
    limit = time.monotonic() + 20
    while left := members(process.pid):
        assert time.monotonic() < limit, f"processes {left} are left"
        time.sleep(0.05)
    assert "Traceback" not in said
    return process.returncode, said.strip().splitlines()


def kill_the_parent(process, out):
    """Its workers end too."""
    assert len(children(process)) == 2
    os.kill(process.pid, signal.SIGKILL)
    assert ended(process)[0] == -signal.SIGKILL


def press_ctrl_c(process, out):
    """The whole group gets it; the line says how many cells are there."""
    os.killpg(process.pid, signal.SIGINT)
    code, lines = ended(process)
    assert (code, lines[-1]) == (130, STOPPED.format(len(cells(out))))


def test_a_run_that_is_interrupted_again_and_again_gives_the_same_bytes(tmp_path, whole):
    for interrupt in (kill_the_parent, press_ctrl_c):
        interrupt(begin("--jobs", 2, out=tmp_path), tmp_path)
        assert not (tmp_path / "tables").exists()
    finished = {path: path.stat().st_mtime_ns for path in cells(tmp_path)}
    assert 2 <= len(finished) < sleepy.CELLS
    assert run_here(tmp_path) == 0
    assert hashes(tmp_path / "tables") == hashes(whole / "tables")
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in finished.items())


def test_a_full_disk_is_one_line_and_with_room_again_the_run_goes_on(tmp_path, whole, capsys):
    """A limit on the size of files stands for the full disk: cells fit, and the table does not."""
    table, cell = whole / "tables" / "greedy_error.parquet", max(path.stat().st_size for path in cells(whole))
    assert cell < table.stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (cell, before[1]))
    try:
        assert run_here(tmp_path) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: cannot write ")
    assert lines[-1].endswith(": File too large")
    assert not list(tmp_path.rglob(".*.tmp"))
    assert run_here(tmp_path) == 0
    assert hashes(tmp_path / "tables") == hashes(whole / "tables")


def test_two_runs_share_a_folder(tmp_path, whole):
    other = begin("--jobs", 1, out=tmp_path)
    assert run_here(tmp_path) == 0
    assert ended(other)[0] == 0
    assert hashes(tmp_path / "tables") == hashes(whole / "tables")
    assert not list(tmp_path.rglob(".*.tmp"))


@pytest.fixture
def cluster():
    """A Dask scheduler and a worker, in processes of their own: the scheduler's process, and its address."""
    pytest.importorskip("distributed")
    quiet = ("--no-dashboard", "--host", "127.0.0.1")
    scheduler = popen("-m", "distributed.cli.dask_scheduler", *quiet, "--port", "0", "--no-show")
    address = next(found[0] for line in scheduler.stderr if (found := re.search(r"tcp://[\d.:]+", line)))
    worker = popen("-m", "distributed.cli.dask_worker", address, *quiet, "--no-nanny", "--nthreads", "1")
    yield scheduler, address
    for process in (worker, scheduler):
        process.kill()
        process.wait()
        process.stderr.close()


def test_a_scheduler_that_is_killed_is_one_line_and_finished_cells_are_kept(tmp_path, whole, cluster, monkeypatch):
    monkeypatch.setenv("DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT", "2s")  # until the run gives it up
    scheduler, address = cluster
    process = begin("--backend", "dask", "--scheduler", address, out=tmp_path)
    scheduler.kill()
    assert ended(process) == (1, [f"error: the Dask scheduler at {address} is gone"])
    finished = {path: path.stat().st_mtime_ns for path in cells(tmp_path)}
    assert 0 < len(finished) < sleepy.CELLS
    assert run_here(tmp_path) == 0
    assert hashes(tmp_path / "tables") == hashes(whole / "tables")
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in finished.items())


def test_ctrl_c_while_modules_are_imported_is_one_line():
    process = popen("-v", ROOT / "reproduce.py", "list")
    for line in process.stderr:  # what is imported, module by module
        if line.startswith("import 'numpy'"):
            break
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=300)[1].splitlines()
    assert process.returncode == 130
    assert "stopped; finished cells are kept; the same command goes on" in said
    assert not any("Traceback" in line for line in said)
