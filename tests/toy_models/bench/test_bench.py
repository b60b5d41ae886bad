"""The bench: its contenders compute one gradient, and its rows and counts are right.

The truth of a gradient is agreement of three libraries that share no code: this package, torchdiffeq under autograd and
diffrax under jax. The truth of the work is the counter of evaluations of the estimator, and arithmetic on the sizes.
"""

import pytest
import torch

import reproduce
from analysis import gradients, results
from analysis.runner import Workers
from analysis.runner import run as run_cells
from analysis.settings import Options
from figures import bench as figure
from toy_models.bench import contenders, measure
from toy_models.experiments import bench
from toy_models.mixtures import compiled_solve

SIZE = (3, 2, 2)
EXACT = ("ours", "ours_torch", "ours_cells", "torchdiffeq", "diffrax", "diffrax_stored")
FLOORS = ("floor", "floor_loop")
# Optimise-then-discretise solves another equation backwards: with four steps its gradient is off by its own size.
OPTIMISE_FIRST = {"torchdiffeq_adjoint": 10.0, "diffrax_backsolve": 10.0}


def tiny(patch):
    patch.setitem(bench.SPEC, "quick", {"sizes": [SIZE], "steps": 4, "repetitions": 3, "scaling": 2})
    return bench.cells(Options(quick=True))


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    for peer in bench.PEERS:
        pytest.importorskip(peer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contenders, "STEPS", (1, 4))  # every step count is a compilation
        return run_cells(tiny(patch), tmp_path_factory.mktemp("cells"), Workers(jobs=1))


def rows(table, contender):
    return table[(table["contender"] == contender) & (table["workload"] != "estimators")]


def test_every_contender_of_the_discrete_gradient_agrees(table):
    assert set(table["contender"]) == {*EXACT, *OPTIMISE_FIRST, *FLOORS, *gradients.ESTIMATORS}
    for contender in EXACT:
        assert rows(table, contender)["agreement"].max() < 1e-10, contender


def test_backsolve_contenders_differ_within_bounds(table):
    for contender, limit in OPTIMISE_FIRST.items():
        assert rows(table, contender)["agreement"].between(1e-6, limit).all(), contender


def test_rows_carry_ratio_agreement_and_floor(table):
    timed = table[table["status"] == "ok"]
    assert (timed["ratio_min"] <= timed["ratio"]).all()
    assert (timed["ratio"] <= timed["ratio_max"]).all()
    assert (timed["repetitions"] >= 3).all()
    assert (rows(table, "diffrax")["compile_seconds"] > 0).all()
    for name in FLOORS:
        floor = rows(timed, name)
        assert (floor["seconds"] * floor["rate"]).tolist() == pytest.approx(floor["operations"].tolist())
        assert (floor["steps_max"] == 4).all()


def test_the_figure_draws_and_answers(table):
    facts = bench.derive(table)["facts"]
    timed = table[(table["status"] == "ok") & (table["agreement"] < 1e-8) & (table["workload"] == "surface")]
    peers = timed[~timed["contender"].isin(bench.OWN)]
    assert facts["surface_low"].tolist() == [peers["ratio"].min()]  # the tables here are of one size
    assert "The fastest peer takes" in figure.answer({"bench": table, "bench_facts": facts})
    drawn = figure.draw({"bench": table, "bench_facts": facts})
    assert len(drawn.axes) == 6
    lines = [line for ax in drawn.axes[3:] for line in ax.get_lines()]
    assert all(len(line.get_xdata()) == 2 for line in lines)
    scaled = table[table["workload"].isin(contenders.SCALING)]
    cost = 1e12 * scaled["ours_seconds"] / scaled["operations"]
    assert sorted(lines[0].get_ydata()) == pytest.approx(sorted(cost[scaled["workload"] == "samples"]))


def test_one_size_at_a_time_is_scaled(table):
    scaled = table[table["workload"].isin(contenders.SCALING)]
    for kind, column in {"samples": "B", "steps": "steps_max", "components": "K"}.items():
        points = scaled[scaled["workload"] == kind]
        assert sorted(points[column]) == list(contenders.SCALING[kind][:2])
        others = [name for name in ("B", "d", "K", "steps_max") if name != column]
        assert len(points[others].drop_duplicates()) == 1
        # Four products of 2 B d K d operations in each of the four evaluations of a step.
        expected = 32 * points["B"] * points["d"] ** 2 * points["K"] * points["steps_max"]
        assert points["operations"].tolist() == expected.tolist()


def test_without_a_compiled_loop_its_floor_says_so(monkeypatch):
    monkeypatch.setattr(bench, "require", dict)
    monkeypatch.setattr(compiled_solve, "installed", lambda: False)
    (cell,) = [
        c
        for c in tiny(monkeypatch)
        if (c.extra_dict["contender"], c.extra_dict["workload"]) == ("floor_loop", "surface")
    ]
    assert measure.measure(cell)["status"].tolist() == ["no compiled loop serves this problem here"]


def test_the_work_counts_what_the_surface_evaluates(monkeypatch):
    monkeypatch.setattr(bench, "require", dict)
    job = contenders.work(tiny(monkeypatch)[0])
    args = (job.flow, job.loss, job.x, contenders.T, job.steps, job.horizons)
    cost = gradients.lookahead_surface(*args, solver=job.solver).cost
    assert cost.evaluations == cost.vjps == job.pairs
    assert job.operations == job.pairs * 8 * 3 * 2 * 2 * 2


def test_a_new_estimator_is_timed_with_no_other_change(monkeypatch, tmp_path):
    monkeypatch.setattr(bench, "require", dict)
    own = gradients.register("own_for_bench")(lambda flow, loss, x, t: (torch.ones_like(x), x))
    try:
        (cell,) = [c for c in tiny(monkeypatch) if c.extra_dict["contender"] == own.name]
        frame = run_cells([cell], tmp_path, Workers(jobs=1))
    finally:
        del gradients.ESTIMATORS[own.name]
    assert frame["status"].tolist() == ["ok"]
    assert frame["ratio"].gt(0).all()


def test_steps_are_cut_for_all_contenders_of_a_large_size(monkeypatch):
    monkeypatch.setattr(bench, "require", dict)
    found = {}
    for cell in bench.cells(Options()):
        extra = cell.extra_dict
        found[cell.problem, extra["workload"], extra["contender"]] = extra["steps_max"]
    assert found["256x8x8", "surface", "diffrax"] == found["256x8x8", "surface", "ours"] == 64
    assert found["512x64x10", "surface", "diffrax"] == found["512x64x10", "surface", "floor"] == contenders.LARGE_STEPS
    assert found["512x64x10", "surface", "diffrax_backsolve"] == contenders.SLOW_STEPS
    assert found["512x64x10", "end_to_end", "torchdiffeq"] == 64


def test_a_missing_peer_is_named_with_its_install_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(bench, "PEERS", ("torch", "no_such_peer"))
    assert reproduce.main(["run", "bench", "--quick", "--out", str(tmp_path / "new")]) == 1
    assert 'error: bench needs no_such_peer: pip install -e ".[bench]"' in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_the_bench_is_made_on_request():
    assert "bench" in reproduce.selected(reproduce.parse(["run", "bench"]))
    assert "bench" not in reproduce.selected(reproduce.parse([]))
    assert "bench" not in reproduce.selected(reproduce.parse(["check"]))
    assert "bench" in reproduce.selected(reproduce.parse(["draw", "bench"]))
    assert "bench" in reproduce.selected(reproduce.parse(["list"]))


def test_the_verb_writes_table_and_figure(monkeypatch, tmp_path, table):
    monkeypatch.setattr(contenders, "STEPS", (1, 4))
    (size,) = [cell for cell in tiny(monkeypatch) if cell.extra_dict["contender"] == "diffrax_stored"][:1]
    monkeypatch.setattr(bench, "cells", lambda options: [size])
    assert reproduce.main(["run", "bench", "--quick", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "figures" / "bench.png").exists()
    made, about = results.read_with_provenance(tmp_path / "tables" / "bench.parquet")
    assert "seconds" in made
    assert set(about["versions"]) >= set(bench.PEERS)
