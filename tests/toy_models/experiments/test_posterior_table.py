"""The posteriors of many measurements under a low-rank mixture, and the table on real held-out images in small.

They are compared with those of single measurements, and with those of the same mixture with dense covariances.
"""

import dataclasses

import pandas as pd
import pytest
import torch

from analysis.experiment import measure_cell, split_timings
from analysis.measurements import LEVELS
from analysis.operators import OPERATORS, InverseProblem, from_matrix
from analysis.settings import Options, Variant
from figures import posterior_table as figure
from tests.support.low_rank import random_low_rank
from tests.support.problems import randn
from toy_models.experiments import outcome, outcome_windows, posterior_table
from toy_models.problems import digits

MIXTURE = random_low_rank(3, 5, 2)
A = randn(2, 5, seed=4)
PROBLEM = InverseProblem(from_matrix(A), 0.4)


@pytest.fixture(scope="module")
def table():
    return pd.concat([measure_cell(cell) for cell in posterior_table.cells(Options(quick=True))], ignore_index=True)


@pytest.fixture(scope="module")
def tables(table):
    return with_derived(split_timings(table)[""])


def with_derived(main):
    found = {f"posterior_table_{name}": part for name, part in posterior_table.derive(main).items()}
    return {"posterior_table": main} | found


def test_the_full_table_has_every_method_on_every_operator_and_100_images():
    cells = posterior_table.cells(Options())
    main = [cell for cell in cells if cell.path == posterior_table.PATH]
    expected = {(d, o, m) for d, data in posterior_table.DATASETS.items() for o in OPERATORS for m in data.methods}
    assert {(c.problem, c.extra_dict["operator"], c.variants[0].estimator) for c in main} == expected
    assert len(main) == len(expected)
    assert min(cell.samples for cell in cells) >= 100
    assert {c.variants[0].estimator for c in cells if c not in main} == set(posterior_table.CHEAP)
    tuned = [m for data in posterior_table.DATASETS.values() for m in data.methods.values() if m.tuned]
    assert {len(method.candidates) for method in tuned} == {6}


def test_all_operators_are_in_the_table_of_noise_levels_and_times():
    cells = outcome_windows.cells(Options())
    places = {(cell.extra_dict["operator"], cell.extra_dict["noise"]) for cell in cells}
    assert len(places) == len(cells) == 3 * len(OPERATORS)


def test_tuning_and_report_see_different_real_images_the_same_for_every_operator(monkeypatch):
    seen = []
    monkeypatch.setattr(outcome, "measure_method", lambda cell, method, flow, *batches: seen.append(batches))
    for cell in posterior_table.cells(Options(quick=True)):
        if cell.problem == "digits":
            posterior_table.measure(cell)
    real = torch.from_numpy(digits.held_out()[0])
    tuning, reported = ({s[i].clean.numpy().tobytes() for s in seen} for i in (0, 1))
    assert len(tuning) == len(reported) == 1
    indices = []
    for measured in seen[0]:
        same = (measured.clean[:, None] == real).all(-1)
        assert (same.sum(1) == 1).all()
        indices += same.nonzero()[:, 1].tolist()
    assert len(set(indices)) == len(indices) == 2 + 6


def test_rows_are_per_measurement_and_the_oracle_beats_greedy_which_beats_no_guidance(table, tables):
    cells = posterior_table.cells(Options(quick=True))
    assert len(table) == len(cells) * 6 * (len(outcome.METRICS) + len(LEVELS))
    assert (table["status"] == "ok").all()
    rows = tables["posterior_table_summary"].query("metric == 'energy_distance' and problem == 'digits'")
    means = rows.groupby("estimator")["mean"].mean()
    assert means["oracle_ode"] < means[outcome.BASELINE] < means["unguided"]
    paired = tables["posterior_table_paired"].query("metric == 'energy_distance'").set_index("estimator")
    assert (paired.loc[outcome.BASELINE, ["mean", "low", "high"]] == 0).all(axis=None)
    assert (paired.loc["unguided", "mean"] > 0).all()


def first_cell(name, path="condot"):
    cell = posterior_table.cells(Options(quick=True))[0]
    return dataclasses.replace(cell, path=path, variants=(Variant.of(name),))


@pytest.fixture(scope="module")
def dear():
    names = ("likelihood:adaptive", "likelihood:end_to_end", "d_flow", "flowgrad", "oc_flow")
    return {name: measure_cell(first_cell(name)) for name in names}


def test_every_dear_method_runs_reports_its_cost_and_draws_samples_of_its_own(dear):
    for found in dear.values():
        assert set(found["status"]) == {"ok"}
        assert found["vjps"].iloc[0] > 8
        assert found["value"].notna().all()
    assert len({found["value"].sum() for found in dear.values()}) == len(dear)


def test_another_path_is_another_solve_to_the_same_posterior(table):
    found = measure_cell(first_cell("oracle_ode", "cosine")).query("metric == 'energy_distance'")["value"]
    rows = table.query("metric == 'energy_distance' and estimator == 'oracle_ode' and operator == 'box_inpainting'")
    assert not (found.to_numpy() == rows["value"].to_numpy()).all()
    assert abs(found.mean()) < 0.5 > abs(rows["value"].mean())


def test_the_printed_table_has_a_column_per_operator_and_costs(tables):
    paper = tables["posterior_table_paper"]
    rows = paper.query("metric == 'energy_distance' and problem == 'digits'").set_index("estimator")
    assert "[" in rows.loc[outcome.BASELINE, "box_inpainting"]
    assert rows.loc[outcome.BASELINE, ["evaluations", "vjps"]].tolist() == [8, 4]
    assert len(paper) == len(outcome.METRICS) * (5 + 3)
    assert {"box_inpainting", "super_resolution_2", "super_resolution_4", "bytes"} <= set(paper.columns)


def test_latex_has_a_table_per_data_set_and_one_best_entry_per_operator(tables):
    texts = figure.latex(tables)
    assert list(texts) == ["posterior_table_digits", "posterior_table_mnist"]
    for text, operators, methods in zip(texts.values(), (2, 1), (5, 3), strict=True):
        assert text.count("{") == text.count("}")
        assert text.count(r"\textbf{") == operators
        assert r"\caption{Energy distance to the exact posterior" in text
        body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert len(body) == methods
        assert {line.count("&") for line in body} == {2 + operators}
        assert "_" not in text.replace("tab:posterior_", "")


@pytest.fixture
def failed(tables):
    table = tables["posterior_table"].copy()
    table.loc[table["estimator"] == "dps:greedy", "value"] = float("nan")
    return with_derived(table)


def test_a_method_that_failed_everywhere_is_printed_so_and_not_drawn(failed):
    text = figure.latex(failed)["posterior_table_digits"]
    assert next(line for line in text.splitlines() if line.startswith("DPS")).count("failed") == 2
    assert "DPS could not run" in figure.answer(failed)
    drawn = figure.draw(failed)
    assert "DPS" not in [text.get_text() for text in drawn.legends[0].get_texts()]


def test_the_figure_has_a_panel_per_data_set_and_says_numbers(tables):
    drawn, said = figure.draw(tables), figure.answer(tables)
    assert [ax.get_title() for ax in drawn.axes] == ["8×8 digits", "MNIST"]
    left = tables["posterior_table_relative"].query("estimator == 'likelihood:greedy' and problem == 'mnist'")
    assert f"On MNIST it leaves {left['mean'].iloc[0]:.0%}, in the median {left['median'].iloc[0]:.0%}." in said
    assert "nan" not in said


def test_distances_are_over_the_unguided_mean(tables):
    rows, summary = tables["posterior_table_relative"], tables["posterior_table_summary"]
    assert rows.loc[rows["estimator"] == "unguided", "mean"].tolist() == [1, 1, 1]
    greedy, unguided = (
        summary.query("metric == 'energy_distance' and problem == 'mnist'").set_index("estimator")["mean"][name]
        for name in ("likelihood:greedy", "unguided")
    )
    found = rows.query("estimator == 'likelihood:greedy' and problem == 'mnist'")["mean"]
    assert found.tolist() == pytest.approx([greedy / unguided])


def test_order_along_two_paths_is_counted_pair_by_pair():
    rows = [
        {"problem": "digits", "path": path, "operator": "a", "noise": 0.2, "estimator": name, "mean": mean}
        for path, means in (("condot", (1, 2, 3)), ("cosine", (1, 3, 2)))
        for name, mean in zip(("likelihood:greedy", "d_flow", "flowgrad"), means, strict=True)
    ]
    assert posterior_table._other_path(pd.DataFrame(rows)) == {"same_order": 2, "path_pairs": 3}
