"""Arithmetic, cost on a device, and the table that ``reproduce.py run gpu_cost`` makes.

Each arithmetic is compared with the plain network in float32 or float64, within the round-off that its format has, and
with PyTorch's own flags. A device is replaced by one whose events and peaks the test sets, and errors are raised on
purpose to see how a row reports them.
"""

import contextlib
import copy

import pytest
import torch

import reproduce
from analysis import cost, losses, paths, results
from analysis.cost import Cost
from analysis.flow import PredictionFlow, from_velocity
from analysis.gradients import ESTIMATORS
from analysis.runner import Workers
from analysis.runner import run as run_cells
from analysis.settings import Options
from figures import gpu_cost as figure
from real_models.arithmetic import Arithmetic
from real_models.experiments import gpu_cost
from tests.support.networks import SIDE, Network, subject
from tests.support.problems import randn

EPS32 = torch.finfo(torch.float32).eps


def gradient(switches, device="cpu", **options):
    made = subject("", "", "float32", device)
    x = randn(5, SIDE**2).to(device, torch.float32)
    with switches.active():
        return ESTIMATORS["end_to_end"](switches.flow(made.flow), LOSS, x, 0.3, steps=2, **options).gradient.cpu()


LOSS = losses.HalfSquaredDistance(torch.zeros(SIDE**2, dtype=torch.float64))


def test_switches_change_the_arithmetic_and_no_more():
    plain = gradient(Arithmetic())
    assert plain.dtype == torch.float32
    assert (gradient(Arithmetic(channels_last=True)) - plain).norm() < 64 * EPS32 * plain.norm()
    assert (gradient(Arithmetic(compile="aot_eager"), memory="checkpoint") - plain).norm() < 64 * EPS32 * plain.norm()
    low = gradient(Arithmetic(bfloat16=True))
    assert low.dtype == torch.float32
    assert 64 * EPS32 * plain.norm() < (low - plain).norm() < 0.05 * plain.norm()


def test_switches_leave_the_network_as_it_was():
    network = Network()
    before = copy.deepcopy(network.state_dict())
    changed = Arithmetic(channels_last=True, bfloat16=True).applied(network)
    assert changed.module.first.weight.is_contiguous(memory_format=torch.channels_last)
    assert not network.first.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    given = from_velocity(network, paths.CondOT())
    given.event_shape, given.dtype = (SIDE**2,), torch.float32
    switched = Arithmetic(channels_last=True).flow(given)
    assert (switched.event_shape, switched.dtype, given.function) == ((SIDE**2,), torch.float32, network)


def flags():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize("tf32", [True, False])
def test_flags_of_the_process_are_put_back(tf32):
    before = flags()
    with contextlib.suppress(KeyError), Arithmetic(tf32=tf32).active():
        assert flags() == (tf32, tf32)
        raise KeyError
    assert flags() == before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Arithmetic(compile="fast"), "compile must be one of aot_eager, eager, inductor"),
        (lambda: Arithmetic(tf32=1), "tf32 must be True or False"),
        (lambda: Arithmetic(bfloat16=True).applied(Network().double()), "module must have float32 weights"),
        (lambda: Arithmetic().flow(PredictionFlow(torch.sin, paths.CondOT())), r"flow must hold an nn\.Module"),
    ],
)
def test_bad_choices_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class FakeCuda:
    """The clock and the allocator of a device that runs at the test's command."""

    def __init__(self):
        self.now = self.held = self.most = 0

    def hold(self, nbytes, milliseconds=0):
        self.held += nbytes
        self.most, self.now = max(self.most, self.held), self.now + milliseconds

    def install(self, patch):
        device = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self, stream):
                self.at = device.now

            def synchronize(self):
                pass

            def elapsed_time(self, end):
                return end.at - self.at

        found = {"Event": Event, "synchronize": lambda d: None, "current_stream": lambda d: None}
        found |= {"memory_allocated": lambda d: self.held, "max_memory_allocated": lambda d: self.most}
        found |= {"reset_peak_memory_stats": lambda d: setattr(self, "most", self.held)}
        for name, value in found.items():
            patch.setattr(torch.cuda, name, value)


def test_a_device_is_timed_by_its_events_and_blocks_inside_keep_the_peak(monkeypatch):
    device, outer, inner = FakeCuda(), Cost(), Cost()
    device.install(monkeypatch)
    device.hold(50)
    with cost.measured(outer, torch.device("cuda")):
        device.hold(700, milliseconds=20)
        device.hold(-600)
        with cost.measured(inner, torch.device("cuda")):
            device.hold(30, milliseconds=5)
            device.hold(-30)
        device.hold(-100)
    assert (inner.seconds, inner.bytes) == (0.005, 30)
    assert (outer.seconds, outer.bytes) == (0.025, 700)
    with pytest.raises(torch.OutOfMemoryError), cost.measured(Cost(), torch.device("cuda")):
        raise torch.OutOfMemoryError
    assert not any(cost._cuda_peaks.values())


FACTORIES = dict.fromkeys(gpu_cost.FACTORIES, "tests.support.networks:subject")


def tiny(**changed):
    return gpu_cost.cells(Options(quick=True, **changed), FACTORIES, (1, 2))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    store = tmp_path_factory.mktemp("cells")
    return run_cells(tiny(), store, Workers(jobs=1)), store


def test_the_table_names_the_device_and_covers_everything(made):
    table, _ = made
    assert table["device"].str.startswith("cpu").all()
    assert set(table["arithmetic"]) == {"float32", "bfloat16", "channels_last"}
    spent = table[table["kind"] == "cost"]
    assert (spent["status"] == "ok").all()
    assert (spent["seconds_min"] <= spent["seconds"]).all()
    assert (spent["seconds"] <= spent["seconds_max"]).all()
    assert (spent["bytes"] > 0).all()
    same = ["problem", "arithmetic", "estimator", "memory"]
    assert spent.groupby(same, dropna=False)["batch"].apply(set).eq({1, 2}).all()


def test_errors_are_those_of_the_arithmetic(made):
    worst = made[0][made[0]["kind"] == "precision"].groupby("arithmetic")["value"].max()
    assert worst["float32"] < 64 * EPS32
    assert worst["channels_last"] < 64 * EPS32
    assert torch.finfo(torch.bfloat16).eps / 64 < worst["bfloat16"] < 16 * torch.finfo(torch.bfloat16).eps


def test_finished_cells_are_not_measured_again(made, monkeypatch):
    table, store = made
    monkeypatch.setattr(gpu_cost, "_spent", None)
    again = run_cells(tiny(), store, Workers(jobs=1))
    assert again["seconds"].equals(table["seconds"])


def with_facts(table):
    return {"gpu_cost": table, "gpu_cost_facts": gpu_cost.derive(table)["facts"]}


def test_the_facts_are_those_of_the_table(made):
    row = gpu_cost.derive(made[0])["facts"].to_dict("records")[0]
    every = made[0][(made[0]["kind"] == "cost") & (made[0]["batch"] == row["batch"])]
    rows = every[every["problem"] == gpu_cost.IMAGES]
    greedy = rows[(rows["estimator"] == "greedy") & (rows["arithmetic"] == "float32")]["seconds"].iloc[0]
    assert row["greedy_ms"] == pytest.approx(1000 * greedy / row["batch"])
    end_to_end = every[(every["problem"] == gpu_cost.MOLECULES) & (every["estimator"] == "end_to_end")]
    assert row["molecule_ms"] == pytest.approx(1000 * end_to_end["seconds"].iloc[0] / row["molecule_batch"])
    assert row["batch"] == made[0].query("kind == 'cost'")["batch"].max()
    assert "full" not in row


def test_the_figure_draws_and_names_the_device(made):
    tables = with_facts(made[0])
    assert "On cpu" in figure.answer(tables)
    drawn = figure.draw(tables)
    assert len(drawn.axes) == 3


def test_the_figure_shows_what_did_not_fit(made):
    table = made[0].copy()
    images = table["problem"] == gpu_cost.IMAGES
    table.loc[images & (table["batch"] == 2) & (table["memory"] == "store"), "status"] = "out of memory"
    tables = with_facts(table)
    assert "3 cells of" in figure.answer(tables)
    figure.draw(tables)


def test_the_verb_writes_table_and_figure(monkeypatch, tmp_path, made):
    some = tiny()
    monkeypatch.setattr(gpu_cost, "cells", lambda options: some)
    assert reproduce.main(["run", "gpu_cost", "--quick", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "figures" / "gpu_cost.png").exists()
    assert results.read_provenance(tmp_path / "tables" / "gpu_cost.parquet")["device"].startswith("cpu")
    assert "gpu_cost" not in reproduce.selected(reproduce.parse([]))


def test_the_verb_refuses_a_device_that_is_not_there(tmp_path):
    with pytest.raises(SystemExit, match="--device: cuda:99"):
        reproduce.main(["run", "gpu_cost", "--device", "cuda:99", "--out", str(tmp_path)])


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "out of memory"),
        (ValueError("the solver came back too far away"), "ValueError: the solver came back too far away"),
    ],
)
def test_what_cannot_run_is_a_row(monkeypatch, error, status):
    def fails(*args, **options):
        raise error

    monkeypatch.setitem(ESTIMATORS, "greedy", fails)
    for kind in ("cost", "precision"):
        (row,) = (getattr(gpu_cost, kind)(tiny()[0])).to_dict("records")
        assert (row["status"], row["estimator"], row["kind"]) == (status, "greedy", kind)


def test_other_errors_stop_the_run(monkeypatch):
    def fails(*args, **options):
        raise RuntimeError("shapes do not agree")

    monkeypatch.setitem(ESTIMATORS, "greedy", fails)
    with pytest.raises(RuntimeError, match="shapes do not agree"):
        gpu_cost.cost(tiny()[0])


def test_what_is_measured_where():
    full = gpu_cost.cells(Options(device="cuda"), compiled=True)
    names = [cell.extra_dict["arithmetic"] for cell in full]
    assert set(names) == set(gpu_cost.ARITHMETICS)
    plain = gpu_cost.cells(Options(device="cuda"))
    assert full[: len(plain)] == plain
    assert not any(gpu_cost.ARITHMETICS[cell.extra_dict["arithmetic"]].compile for cell in plain)
    images = [cell for cell in gpu_cost.cells(Options()) if cell.problem == gpu_cost.IMAGES]
    assert {c.samples for c in images if c.measure.endswith(":cost")} == set(gpu_cost.BATCHES)
    assert "tf32" not in {cell.extra_dict["arithmetic"] for cell in images}


cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@cuda
def test_a_gpu_gives_the_gradients_of_the_cpu():
    plain = gradient(Arithmetic())
    assert (gradient(Arithmetic(), "cuda") - plain).norm() < 256 * EPS32 * plain.norm()
    assert (gradient(Arithmetic(tf32=True), "cuda") - plain).norm() < 0.02 * plain.norm()


@cuda
def test_a_gpu_is_measured(tmp_path):
    table = run_cells(tiny(device="cuda"), tmp_path, Workers(jobs=1))
    assert (table["status"] == "ok").all()
    assert (table.loc[table["kind"] == "cost", "bytes"] > 0).all()
    assert table["device"].eq(torch.cuda.get_device_name()).all()
