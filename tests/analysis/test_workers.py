"""Where work runs, and what is said when it cannot; the truth is what the functions return, and a cluster made here."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from joblib.externals.loky import get_reusable_executor

from analysis import workers
from analysis.workers import Workers, WorkersError


def double(x):
    return 2 * x


def refused(x):
    raise ValueError(f"no {x}")


def killed(x):
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_item_has_its_result(jobs):
    assert sorted(Workers(jobs).map(double, [3, 1, 2])) == [2, 4, 6]
    assert list(Workers(jobs).map(double, [])) == []


@pytest.mark.parametrize("jobs", [0, 1.5, "2", True, None])
def test_jobs_are_a_whole_number_other_than_0(jobs):
    with pytest.raises(ValueError, match="jobs must be a whole number other than 0"):
        Workers(jobs)


def test_an_unknown_backend_lists_the_known_ones():
    with pytest.raises(ValueError, match="dask, loky"):
        Workers(backend="threads")


def test_a_functions_own_error_is_passed_on():
    with pytest.raises(ValueError, match="no 3"):
        list(Workers(1).map(refused, [3]))


def test_a_worker_that_is_killed_is_one_line():
    with pytest.raises(WorkersError, match="a worker process was ended from outside"):
        list(Workers(2).map(killed, [1, 2]))


def knows_colorsys(_):
    return os.getpid(), "colorsys" in sys.modules


def test_processes_import_while_the_block_goes_on():
    two = Workers(2)
    with two.importing(["colorsys"], 2):
        pass
    known = dict(two.map(knows_colorsys, range(8)))
    assert os.getpid() not in known
    assert all(known.values())
    with Workers(1).importing(["no_such_module"], 1):  # one process: this one, which imports what it needs itself
        assert "no_such_module" not in sys.modules


def variable(_):
    return os.getpid(), os.environ.get("GUIDANCE_TEST")


def test_an_environment_is_that_of_processes_here_alone():
    known = dict(Workers(2, environment={"GUIDANCE_TEST": "1"}).map(variable, range(8)))
    assert {*known.values()} == {"1"}
    assert dict(Workers(1, environment={"GUIDANCE_TEST": "1"}).map(variable, [0])) == {os.getpid(): None}
    after = dict(Workers(2).map(variable, range(8)))
    assert {*after.values()} == {None}
    assert not {*after} & {*known}
    assert "GUIDANCE_TEST" not in os.environ


def test_no_more_processes_than_items():
    many = Workers(1000)
    with many.importing(["colorsys"], 2):
        assert len({pid for pid, _ in many.map(variable, range(2))} | {os.getpid()}) <= 3
    assert len(get_reusable_executor(reuse=True)._processes) <= 2


def test_an_error_of_the_block_is_passed_on_and_processes_serve_later():
    two = Workers(2)
    with pytest.raises(ValueError, match="no 7"), two.importing(["colorsys"], 2):
        refused(7)
    assert sorted(two.map(double, [3, 1])) == [2, 6]


def test_ctrl_c_that_ends_a_process_too_is_ctrl_c(monkeypatch):
    monkeypatch.setattr(workers, "_import", killed)
    with pytest.raises(KeyboardInterrupt), Workers(2).importing(["os"], 2):
        raise KeyboardInterrupt


def test_a_process_that_dies_while_it_imports_is_one_line(monkeypatch):
    monkeypatch.setattr(workers, "_import", killed)
    with pytest.raises(WorkersError, match="a worker process was ended from outside"), Workers(2).importing(["os"], 2):
        pass


@pytest.fixture
def soon(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr(workers, "ANSWER", 2.0)
    monkeypatch.setattr(workers, "JOIN", 2.0)


@pytest.fixture
def cluster(soon):
    import distributed

    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=":0"
    ) as cluster:
        yield cluster


def on(address):
    return Workers(backend="dask", scheduler=address)


def test_a_cluster_gives_the_same_results(cluster):
    assert sorted(on(cluster.scheduler_address).map(double, [3, 1, 2])) == [2, 4, 6]
    with pytest.raises(ValueError, match="no 3"):
        list(on(cluster.scheduler_address).map(refused, [3]))


def waits(x):
    threading.Event().wait(0.3)
    return x


def test_a_cluster_that_loses_its_workers_is_one_line(cluster):
    results = on(cluster.scheduler_address).map(waits, range(50))
    assert next(results) in range(50)
    cluster.scale(0)
    with pytest.raises(WorkersError, match=r"has had no workers for 2 s"):
        list(results)


def test_a_cluster_without_workers_is_one_line(soon):
    import distributed

    with (
        distributed.LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as cluster,
        pytest.raises(WorkersError, match=r"has had no workers for 2 s"),
    ):
        list(on(cluster.scheduler_address).map(double, [1]))


@pytest.mark.parametrize("address", ["nonsense", "host:port", "http://host:80", "host:"])
def test_an_address_of_no_scheduler_is_one_line(soon, address):
    with pytest.raises(WorkersError, match=f"'{address}' is no address of a Dask scheduler"):
        list(on(address).map(double, [1]))


def test_a_scheduler_that_is_not_there_is_one_line(soon):
    with pytest.raises(WorkersError, match=r"no Dask scheduler answers at tcp://127.0.0.1:1 within 2 s"):
        list(on("tcp://127.0.0.1:1").map(double, [1]))


@pytest.mark.parametrize(
    ("greeting", "said"), [(b"", "no Dask scheduler answers"), (b"SSH-2.0-OpenSSH_9.6\r\n" * 9, "is no Dask scheduler")]
)
def test_another_service_is_one_line(soon, greeting, said):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve():
            connections.append(server.accept()[0])
            connections[0].sendall(greeting)

        connections = []
        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(WorkersError, match=said):
            list(on(f"tcp://127.0.0.1:{server.getsockname()[1]}").map(double, [1]))
        thread.join()
        connections[0].close()


def test_workers_that_cannot_import_the_package_are_one_line(soon, tmp_path, monkeypatch):
    """A worker started in another folder, with no path to this package."""
    import distributed

    monkeypatch.setattr(workers, "JOIN", 60.0)
    options = {"processes": False, "dashboard_address": ":0", "protocol": "tcp", "host": "127.0.0.1"}
    with distributed.LocalCluster(n_workers=0, **options) as cluster:
        command = [sys.executable, "-P", "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        worker = subprocess.Popen(
            [*command, "--no-dashboard", "--no-nanny", "--nthreads", "1"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with pytest.raises(WorkersError, match=r"a Dask worker cannot run this package \(.*No module named"):
                list(on(cluster.scheduler_address).map(double, [1]))
        finally:
            worker.kill()
            worker.wait()


def test_a_scheduler_that_cannot_import_the_package_is_one_line(soon, tmp_path):
    """A scheduler started in another folder, which hides this package where it is installed."""
    (tmp_path / "analysis.py").write_text("")
    (tmp_path / "tests.py").write_text("")
    command = [sys.executable, "-P", "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    scheduler = subprocess.Popen(
        [*command, "--no-dashboard", "--no-show"],
        cwd=tmp_path,
        env=dict(os.environ) | {"PYTHONPATH": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        address = next(found[0] for line in scheduler.stderr if (found := re.search(r"tcp://[\d.:]+", line)))
        with pytest.raises(WorkersError, match=r"the Dask scheduler cannot run this package \(.*No module named"):
            list(on(address).map(double, [1]))
    finally:
        scheduler.kill()
        scheduler.wait()
        scheduler.stderr.close()
