"""Controls, each optimiser searched separately: samplers called by hand, and outcomes written by hand."""

import json

import pandas as pd
import pytest

from analysis.experiment import measure_cell
from analysis.guidance import SAMPLERS
from analysis.guidance.regimes import gradient_in
from analysis.settings import Options
from toy_models.experiments import control_mixtures, control_outcomes, regimes, which_gradient
from toy_models.experiments.regime_outcomes import AIMS, ESTIMATORS, batches

QUICK = control_mixtures.cells(Options(quick=True))
FULL = [cell for cell in control_mixtures.cells(Options()) if cell.measure.endswith("control_outcomes:measure")]


def test_a_row_is_what_the_sampler_gives_with_the_options_that_were_chosen():
    (cell,) = (one for one in QUICK if one.variants and one.variants[0].estimator == "end_to_end")
    table = measure_cell(cell)
    rows = table[(table["budget"] == 192) & (table["aim"] == "misfit") & (table["metric"] == "misfit")]
    trial, count = json.loads(rows["chosen"].iloc[0]), int(rows["count"].iloc[0])
    flow, _, reported = batches(cell)
    choice = gradient_in("controls", "end_to_end", ESTIMATORS)
    regime = control_outcomes.SEARCHED[trial["optimiser"]]
    options = regime.call(trial, choice, cell.extra_dict["noise"], count)
    sample = SAMPLERS["optimise_controls"](flow, reported.loss(), reported.x0, **options)
    assert rows["value"].tolist() == reported.misfit(reported.sets(sample.x)).tolist()
    assert (rows["evaluations"] + rows["vjps"]).max() <= 192


@pytest.mark.parametrize("name", ["greedy", "adaptive"])
def test_every_optimiser_has_a_search_of_its_own(name, monkeypatch):
    asked = []
    for kind in ("Search", "FittedSearch"):
        monkeypatch.setattr(control_outcomes, kind, lambda *given, kind=kind: asked.append((kind, given[1].space)))
    monkeypatch.setattr(control_outcomes, "over_budgets", lambda *_: [{}])
    control_outcomes.measure(next(c for c in FULL if c.variants[0].estimator == name))
    assert {kind for kind, _ in asked} == {"FittedSearch" if name == "adaptive" else "Search"}
    assert [space["optimiser"] for _, space in asked] == [("sgd",), ("adam",), ("lbfgs_line_search",)]
    assert all(space["weight"][-1] == 10 for _, space in asked)


def test_with_a_line_search_alone_a_rate_does_not_depend_on_the_number_of_moves():
    for name, rate in (("sgd", 0.5), ("adam", 0.5), ("lbfgs_line_search", 2.0)):
        trial = {"learning_rate": 2.0, "optimiser": name, "weight": 0.0}
        assert control_outcomes.SEARCHED[name].call(trial, "greedy", 0.1, 64)["learning_rate"] == rate


def test_a_choice_is_at_an_end_by_the_range_of_its_own_optimiser():
    for name, expected in (("sgd", True), ("adam", False)):
        row = {"chosen": json.dumps({"optimiser": name, "learning_rate": 0.99, "weight": 0.0})}
        assert control_outcomes.at_end(row | {"at_end_of_range": None})["at_end_of_range"] is expected
    assert control_outcomes.at_end({"status": "none"}) == {"status": "none"}


def test_measurements_and_gradients_are_those_of_regimes():
    theirs = [c for c in regimes.cells(Options()) if c.extra_dict["regime"] == "controls" and c.problem == "digits"]
    place = {(c.problem, c.extra_dict["operator"], c.variants[0].estimator): c for c in theirs}
    assert {(c.problem, c.extra_dict["operator"], c.variants[0].estimator) for c in FULL} == place.keys()
    for cell in FULL:
        other = place[cell.problem, cell.extra_dict["operator"], cell.variants[0].estimator]
        for size in ("members", "held_out", "exact", "noise", "budgets"):
            assert cell.extra_dict[size] == other.extra_dict[size]
        assert (cell.samples, cell.seed) == (other.samples, other.seed)


def test_errors_of_gradients_are_the_cells_of_which_gradient():
    for cells in (QUICK, control_mixtures.cells(Options())):
        errors = [c for c in cells if c.measure == "toy_models.experiments.which_gradient:measure"]
        measured = {c.extra_dict["operator"] for c in cells if c.problem == "digits"}
        assert [c.extra_dict["operator"] for c in errors] == [o for o in regimes.OPERATORS if o in measured]


def written():
    rows = []
    for budget, (greedy, end) in {96: (1.0, 4.0), 384: (2.0, 1.0), 1536: (2.0, 0.02)}.items():
        for name, value, optimiser in (("greedy", greedy, "sgd"), ("end_to_end", end, "adam")):
            place = {"problem": "digits", "noise": 0.1, "regime": "controls", "budget": budget, "status": "ok"}
            place |= {"estimator": name, "count": budget // 96, "at_end_of_range": False}
            place["chosen"] = json.dumps({"optimiser": optimiser, "weight": 10.0 if budget > 96 else 0.0})
            rows += [
                place | {"aim": aim, "metric": aim, "operator": o, "value": value * factor, "measurement": i}
                for aim in AIMS
                for o, factor in (("a", 1.0), ("b", 2.0))
                for i in range(2)
            ]
    error = {"metric": "gradient_error", "estimator": "greedy", "t": 0.5, "value": 0.1}
    rows += [error | {"truth": truth, "operator": o} for truth in ("ideal", "score") for o in "ab"]
    return pd.DataFrame(rows)


def test_facts_are_those_of_outcomes_written_by_hand():
    row = control_mixtures.derive(written())["facts"].iloc[0]
    assert (row["chosen_greedy_sgd"], row["chosen_end_to_end_adam"], row["chosen_greedy_adam"]) == (1, 1, 0)
    assert (row["moves_greedy"], row["price_misfit_10"], row["price_misfit_0"]) == (16, pytest.approx(2 / 3), 1 / 3)
    assert row["misfit_mean"] == pytest.approx((1 / 2 * 1 / 4) ** 0.5)  # below 1 is 1
    assert row["energy_distance_mean"] == pytest.approx((0.05 / 2 * 0.05 / 4) ** 0.5)  # below 0.05 is 0.05
    assert row["controls_energy_distance_crossing"] == 384


def test_the_rule_is_that_of_which_gradient_for_controls_alone():
    table = written()
    made, theirs = control_mixtures.derive(table), which_gradient.derive(table)
    pd.testing.assert_frame_equal(made["recommended"], theirs["recommended"])
    assert not {"first_time", "ideal_first", "score_last_error"} & {*made["facts"]}
    assert made["facts"]["controls_near"].item() == theirs["facts"]["near"].item()
    assert made["facts"]["controls_greedy_mean"].item() == theirs["facts"]["greedy_mean"].item()
