"""Gradients of mixtures on a device beside the floor: the rows say what was done, and a device gives the CPU's numbers.

The device is one that every machine has, and whose numbers are those of the CPU; a GPU is used where there is one.
"""

import dataclasses

import pytest
import torch

import reproduce
from analysis.runner import Workers
from analysis.runner import run as run_cells
from analysis.settings import DTYPES, Options
from figures import gpu_bench as figure
from tests.support.devices import AWAY, away
from toy_models.bench import contenders
from toy_models.experiments import gpu_bench

SIZES = ((3, 2, 2), (70, 4, 3))
SMALL = {"sizes": SIZES, "steps": 4, "repetitions": 3, "product": 16}
LIMITS = {"float64": 1e-10, "float32": 1e-3}


def tiny(patch, device="cpu"):
    patch.setitem(gpu_bench.SPEC, "quick", SMALL)
    return gpu_bench.cells(Options(quick=True, device=device))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return run_cells(tiny(patch), tmp_path_factory.mktemp("cells"), Workers(jobs=1))


def test_every_size_is_measured_in_both_dtypes(table):
    assert len(table) == len(SIZES) * len(gpu_bench.WORKLOADS) * 2
    assert set(table["dtype"]) == set(LIMITS)
    assert table["device"].str.startswith("cpu").all()
    assert table["compared"].tolist() == [3] * 4 + [gpu_bench.COMPARED] * 4


def test_gradients_agree_with_the_cpu_in_float64(table):
    for dtype, limit in LIMITS.items():
        assert table.loc[table["dtype"] == dtype, "agreement"].max() < limit
    assert table.loc[table["dtype"] == "float32", "agreement"].min() > 0


def test_the_floor_is_operations_over_the_rate(table):
    assert (table["floor_seconds"] * table["rate"]).tolist() == pytest.approx(table["operations"].tolist())
    assert (table["floor_seconds"] * table["ratio"]).tolist() == pytest.approx(table["seconds"].tolist())
    assert (table["products_seconds"] * table["products_ratio"]).tolist() == pytest.approx(table["seconds"].tolist())
    assert (table["seconds_min"] <= table["seconds"]).all()
    assert (table["seconds"] <= table["seconds_max"]).all()
    # Four products of 2 B d K d operations in each of the four evaluations of each of the four steps.
    (one,) = table[(table["problem"] == "3x2x2") & (table["workload"] == "end_to_end")]["operations"].unique()
    assert one == 4 * 4 * 4 * 2 * 3 * 2 * 2 * 2


@pytest.mark.parametrize("dtype", LIMITS)
def test_a_rate_is_that_of_its_dtype(monkeypatch, dtype):
    """Two rates may be equal by the clock's resolution, so the test looks at what is multiplied."""
    seen, product = set(), torch.mm

    def watched(a, b, out):
        seen.update({a.dtype, b.dtype, out.dtype})
        return product(a, b, out=out)

    monkeypatch.setattr(torch, "mm", watched)
    gpu_bench.rate.cache_clear()
    assert gpu_bench.rate(dtype, "cpu", 8) > 0
    assert seen == {DTYPES[dtype]}


@pytest.mark.parametrize("workload", gpu_bench.WORKLOADS)
def test_a_device_gives_the_gradients_of_the_cpu(monkeypatch, workload):
    (cell,) = [
        c
        for c in tiny(monkeypatch)
        if (c.problem, c.dtype, c.extra_dict["workload"]) == ("70x4x3", "float64", workload)
    ]
    expected = gpu_bench.expected(cell)
    with away():
        here = contenders.work(cell)
        flow = here.flow.to(torch.float64, AWAY)
        loss = dataclasses.replace(here.loss, target=here.loss.target.to(AWAY))
        job = dataclasses.replace(here, flow=flow, loss=loss, x=here.x.to(AWAY))
        found = [g[: gpu_bench.COMPARED].cpu() for g in contenders.CONTENDERS[workload]["ours"](job)()]
    assert gpu_bench.agreement(found, expected) < 1e-10


def test_the_figure_draws_and_answers(table):
    tables = {"gpu_bench": table, "gpu_bench_facts": gpu_bench.derive(table)["facts"]}
    assert "(B × d × K = 70x4x3)" in figure.answer(tables)
    assert len(figure.draw(tables).axes) == 2


def test_it_is_made_on_request():
    assert "gpu_bench" in reproduce.selected(reproduce.parse(["run", "gpu_bench"]))
    assert "gpu_bench" not in reproduce.selected(reproduce.parse(["run", "bench"]))
    assert "gpu_bench" not in reproduce.selected(reproduce.parse([]))


def test_a_full_run_has_a_size_that_fills_a_gpu():
    cells = {(c.problem, c.extra_dict["workload"]): c.extra_dict["steps_max"] for c in gpu_bench.cells(Options())}
    assert cells["16384x64x64", "surface"] == contenders.LARGE_STEPS
    assert cells["16384x64x64", "end_to_end"] == contenders.STEPS[-1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured(monkeypatch, tmp_path):
    table = run_cells(tiny(monkeypatch, "cuda"), tmp_path, Workers(jobs=1))
    assert table["device"].eq(torch.cuda.get_device_name()).all()
    for dtype, limit in LIMITS.items():
        assert table.loc[table["dtype"] == dtype, "agreement"].max() < limit
