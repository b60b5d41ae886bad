"""Cells and their tables: medians and keys by hand, on flows whose ideal gradient is exact."""

import dataclasses
import json
import zlib

import pandas as pd
import pytest
import torch

from analysis import experiment, provenance, reference, sources
from analysis.experiment import Cell, measure_cell
from analysis.gradients import ESTIMATORS, register
from analysis.runner import Workers, run
from analysis.settings import Options, Variant
from toy_models.cells import error_cell
from toy_models.experiments import convergence, cost_accuracy

VARIANTS = (Variant.of("greedy"), Variant.of("end_to_end", solver="rk4", steps=2))


def cell(problem="gaussian", path="condot", variants=VARIANTS, **fields) -> Cell:
    return error_cell(Options(), problem, path, [0.3, 0.7], 5, variants, **fields)


def without_times(frame):
    return frame.drop(columns="seconds")


def test_rows_are_tidy_and_carry_what_identifies_them():
    table = measure_cell(cell())
    assert len(table) == 2 * 2 * 3  # variants x times x metrics
    assert set(table["metric"]) == {"relative_error", "one_minus_cosine", "norm_ratio"}
    named = {"problem", "truth", "path", "estimator", "solver", "steps", "horizon", "t", "dtype", "device", "seed"}
    assert named | {"metric", "value", "low", "high", "evaluations", "vjps", "seconds", "bytes"} <= set(table)
    assert (table["truth"] == "exact").all()
    rk4 = table[table["solver"] == "rk4"]
    assert (rk4["evaluations"] == 8).all()


def test_values_are_medians_of_the_estimators_own_errors():
    found = cell()
    batch = experiment.sample_states(found)
    estimate = experiment.estimate(found, batch, VARIANTS[0])
    errors = (estimate.gradient - batch.reference.gradient).norm(dim=1) / batch.reference.gradient.norm(dim=1)
    table = measure_cell(found)
    mine = table[(table["estimator"] == "greedy") & (table["t"] == 0.7) & (table["metric"] == "relative_error")]
    assert mine["value"].item() == pytest.approx(float(errors[5:].median()), rel=1e-12)


def test_states_at_different_times_share_data_and_noise():
    batch = experiment.sample_states(cell())
    early, late = batch.x[:5], batch.x[5:]  # x_t = t data + (1 - t) noise
    noise = (0.7 * early - 0.3 * late) / (0.7 * 0.7 - 0.3 * 0.3)
    data = (early - 0.7 * noise) / 0.3
    torch.testing.assert_close(late, 0.7 * data + 0.3 * noise)
    mean, deviation = (
        batch.subject.reference_flow.mixture.means[0],
        batch.subject.reference_flow.mixture.eigenvalues.max().sqrt(),
    )
    assert ((data - mean).abs() < 5 * deviation).all()
    assert (noise.abs() < 5).all()


def test_a_setting_that_cannot_run_is_a_row_with_its_reason():
    table = measure_cell(cell(variants=[Variant.of("end_to_end", solver="heun_gamma", steps=2)]))
    assert len(table) == 1
    assert "infinite" in table["status"].item()
    assert table["failed"].item() == 5


def test_bytes_are_measured_when_asked_and_repeat():
    first, second = (measure_cell(cell(track_memory=True)) for _ in range(2))
    assert (first["bytes"] > 0).all()
    pd.testing.assert_frame_equal(without_times(first), without_times(second))


@pytest.mark.parametrize("problem", ["gaussian", "ring8"])
def test_float32_loses_digits_and_says_so(problem):
    variant = [Variant.of("end_to_end", solver="rk4", steps=64)]
    exact = measure_cell(cell(problem, variants=variant))
    single = measure_cell(dataclasses.replace(cell(problem, variants=variant), dtype="float32"))
    error = single[single["metric"] == "relative_error"]
    assert (error["dtype"] == "float32").all()
    assert (error["value"] > 1e-8).all()
    assert (error["value"] < 1e-3).all()
    assert (exact.loc[exact["metric"] == "relative_error", "value"] < 1e-5).all()


CHANGES = {
    "measure": "analysis.audit.measure:measure",
    "factory": "toy_models.problems.jacobian_rows:subject",
    "problem": "ring8",
    "path": "cosine",
    "times": (0.25, 0.5),
    "samples": 6,
    "variants": (Variant.of("greedy"), Variant.of("end_to_end", steps=5)),
    "seed": 1,
    "dtype": "float32",
    "device": "cuda",
    "track_memory": True,
    "extra": (("steps", 3),),
}


def test_the_key_covers_every_field_of_a_cell(monkeypatch):
    monkeypatch.setattr(sources.Sources, "closure", lambda self, names: sources.Closure("the same for all", (), ()))
    assert CHANGES.keys() == {field.name for field in dataclasses.fields(Cell)}
    base = cell()
    others = {name: dataclasses.replace(base, **{name: value}) for name, value in CHANGES.items()}
    assert [name for name, other in others.items() if other.key() == base.key()] == []


def test_the_key_covers_sources_and_versions(monkeypatch):
    base = cell()
    before = base.key()
    with monkeypatch.context() as patch:
        patch.setattr(sources.Sources, "closure", lambda self, names: sources.Closure("other", (), ()))
        assert base.key() != before
    with monkeypatch.context() as patch:
        patch.setattr(provenance, "versions", lambda: {"torch": "3.0"})
        assert base.key() != before
    assert base.key() == before


@pytest.mark.parametrize("seed", [0, 20250101123456, 2**63 - 1])
def test_every_seed_of_the_command_line_seeds_a_cell(seed):
    generator = dataclasses.replace(cell(), seed=seed).generator()
    assert generator.initial_seed() == (seed * 1_000_003 + zlib.crc32(b"gaussian")) % 2**64


def test_a_run_finds_finished_cells_again_and_lets_nothing_depend_on_the_workers(tmp_path):
    cells = [cell(), cell("ring8")]
    first = run(cells, tmp_path / "a", Workers(jobs=2))
    files = sorted((tmp_path / "a").iterdir())
    stamp = files[0].stat().st_mtime_ns
    files[1].unlink()  # as if killed before the second cell
    again = run(cells, tmp_path / "a", Workers(jobs=1))
    assert files[0].stat().st_mtime_ns == stamp
    pd.testing.assert_frame_equal(without_times(first), without_times(again))


def test_a_reference_that_is_not_good_enough_fails_its_sample_and_no_other(monkeypatch):
    ideal = reference.ideal_gradient

    def second_is_bad(*arguments, **options):
        found = ideal(*arguments, **options)
        bound = found.error_bound.clone()
        bound[1] = 1e-3
        return dataclasses.replace(found, error_bound=bound)

    greedy = cell(variants=(Variant.of("greedy"),))
    batch = experiment.sample_states(greedy)
    gradient = experiment.estimate(greedy, batch, greedy.variants[0]).gradient
    values = (gradient - batch.reference.gradient).norm(dim=1) / batch.reference.gradient.norm(dim=1)
    monkeypatch.setattr(reference, "ideal_gradient", second_is_bad)
    table = measure_cell(greedy)
    rows = table[table["metric"] == "relative_error"].set_index("t")
    assert rows["failed"].to_dict() == {0.3: 1, 0.7: 0}
    assert rows["samples"].to_list() == [5, 5]
    assert rows["status"].to_dict() == {0.3: "some samples are not finite or have no reference", 0.7: "ok"}
    assert rows.loc[0.3, "value"] == pytest.approx(float(values[[0, 2, 3, 4]].quantile(0.5)), rel=1e-12)
    assert rows.loc[0.7, "value"] == pytest.approx(float(values[5:].quantile(0.5)), rel=1e-12)
    assert (rows["reference_bound"] < 1e-6).all()


def test_wall_times_are_kept_apart():
    parts = experiment.split_timings(measure_cell(cell()))
    assert "seconds" not in parts[""]
    assert len(parts["_timings"]) == 2


@pytest.mark.parametrize("name", ["no_such_module:f", "toy_models.problems.zoo:no_such", "toy_models.problems.zoo"])
def test_a_factory_that_cannot_be_imported_is_named(name):
    with pytest.raises(ValueError, match=name):
        experiment.resolve(name)


def test_slopes_of_a_table_are_beside_the_declared_orders():
    small = [c for c in convergence.cells(Options(quick=True)) if c.path == "condot"]
    orders = convergence.derive(measure_cell(small[0]))["orders"]
    assert set(orders["solver"]) == {"euler", "midpoint", "heun", "rk4", "ddim"}
    assert ((orders["slope"] - orders["declared"]).abs() < 0.1).all()


def test_a_new_estimator_is_in_the_sweeps_with_no_other_change():
    @register("half_greedy", variants=[{}])
    def half_greedy(flow, loss, x, t):
        gradient, endpoint, _ = ESTIMATORS["greedy"].rule(flow, loss, x, t)
        return gradient / 2, endpoint

    try:
        cells = cost_accuracy.cells(Options(quick=True))
        assert all(Variant.of("half_greedy") in c.variants for c in cells)
        table = measure_cell(cell(variants=[Variant.of("half_greedy"), Variant.of("greedy")]))
        ratio = table[table["metric"] == "norm_ratio"].pivot(index="t", columns="estimator", values="value")
        assert ratio["half_greedy"].tolist() == pytest.approx((ratio["greedy"] / 2).tolist())
    finally:
        ESTIMATORS.pop("half_greedy")


def test_cells_are_plain_data():
    assert json.loads(json.dumps(dataclasses.asdict(cell())))["problem"] == "gaussian"
