"""Controls by each optimiser: the truth is the sampler called by hand, and a table of outcomes written by hand."""

import json

import pandas as pd
import pytest

from analysis.experiment import measure_cell
from analysis.guidance import SAMPLERS
from analysis.guidance.regimes import gradient_in
from analysis.settings import Options
from toy_models.experiments import control_optimisers
from toy_models.experiments.regime_outcomes import AIMS, ESTIMATORS, batches


@pytest.mark.parametrize("optimiser", control_optimisers.OPTIMISERS)
def test_a_row_is_what_the_sampler_gives_with_that_optimiser(optimiser):
    (cell,) = (
        c
        for c in control_optimisers.cells(Options(quick=True))
        if c.extra_dict["optimiser"] == optimiser and c.variants[0].estimator == "end_to_end"
    )
    table = measure_cell(cell)
    rows = table[(table["aim"] == "misfit") & (table["metric"] == "misfit")]
    flow, _, reported = batches(cell)
    trial, count = json.loads(rows["chosen"].iloc[0]), int(rows["count"].iloc[0])
    assert trial["optimiser"] == optimiser
    options = control_optimisers.CONTROLS.call(trial, gradient_in("controls", "end_to_end", ESTIMATORS), 0.1, count)
    scale = 1 if optimiser == control_optimisers.LINE_SEARCH else 16 / count
    assert options["learning_rate"] == pytest.approx(trial["learning_rate"] * scale)
    sample = SAMPLERS["optimise_controls"](flow, reported.loss(), reported.x0, **options)
    assert rows["value"].tolist() == reported.misfit(reported.sets(sample.x)).tolist()
    assert sample.cost.evaluations + sample.cost.vjps <= cell.extra_dict["budgets"][-1]


def test_the_largest_budget_pays_end_to_end_for_a_hundred_iterations():
    cells = control_optimisers.cells(Options())
    assert {c.extra_dict["budgets"][-1] for c in cells} == {control_optimisers.BUDGETS[-1]}
    move = 2 * 8 * 2  # products and evaluations of eight intervals of two steps
    assert (control_optimisers.BUDGETS[-1] - move) // move >= 100


def test_outcomes_are_in_ratio_to_greedy_by_adam_at_the_same_budget():
    rows = [
        {"optimiser": o, "budget": budget, "aim": aim, "metric": metric, "estimator": name, "operator": operator}
        | {"value": value * size * k, "count": 7}
        for budget, size in ((100, 4.0), (200, 2.0))
        for o, value in (("sgd", 3.0), ("adam", 2.0), ("lbfgs_line_search", 1.0))
        for name, k in (("greedy", 1.0), ("end_to_end", 0.5))
        for operator in "abc"
        for aim in AIMS
        for metric in AIMS
    ]
    tables = control_optimisers.derive(pd.DataFrame(rows))
    facts = tables["facts"].iloc[0]
    summary = tables["summary"].set_index(["optimiser", "budget", "aim", "estimator"])["mean"]
    assert summary["sgd", 100, "energy_distance", "greedy"] == pytest.approx(1.5)
    assert summary["lbfgs_line_search", 200, "energy_distance", "end_to_end"] == pytest.approx(0.25)
    assert (facts["budget"], facts["iterations"], facts["operators"]) == (200, 7, 3)
    assert facts["energy_distance_best_100_mean"] == pytest.approx(0.5)
    assert facts["energy_distance_sgd_mean"] == pytest.approx(0.5)
    assert facts["energy_distance_greedy_line_search_mean"] == pytest.approx(0.5)
    assert facts["misfit_lbfgs_line_search_mean"] == pytest.approx(0.5)  # 1 over 2
    assert facts["misfit_end_to_end_line_search_mean"] == pytest.approx(0.5)
