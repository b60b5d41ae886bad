"""The recommendation and its test; the truth is tables of outcomes written by hand, and one operator measured alone."""

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.experiment import measure_cell
from analysis.gradients import greedy
from analysis.settings import Options
from toy_models.experiments import dial, regimes, which_gradient
from toy_models.experiments.regime_outcomes import batches

ERRORS = ("greedy", "midpoint", "midpoint_4", "end_to_end")


def ran(regime="source", budget=96, aim="misfit", **values):
    """Rows of estimators' outcomes: for each a list over operators, the same on all of four measurements."""
    rows = []
    for name, by_operator in values.items():
        for operator, value in zip("abc", by_operator, strict=False):
            place = {"regime": regime, "budget": budget, "aim": aim, "metric": aim, "status": "ok"}
            place |= {"operator": operator, "estimator": name, "problem": "digits", "noise": 0.1}
            rows += [place | {"measurement": i, "value": value} for i in range(4)]
    return pd.DataFrame(rows)


def errors(**values):
    """Rows of errors on operators a, b and c: to the ideal gradient as given, to the score 1 less that."""
    rows = []
    for (name, value), operator in ((pair, o) for pair in values.items() for o in "abc"):
        row = {"operator": operator, "estimator": name, "t": 0.5, "measurement": 0, "metric": "gradient_error"}
        rows += [row | {"truth": "ideal", "value": value}, row | {"truth": "score", "value": 1 - value}]
    return pd.DataFrame(rows)


def test_the_least_geometric_mean_is_recommended_with_its_ratio_to_greedy():
    table = ran(greedy=[4.0, 9.0, 2.0], midpoint=[2.0, 3.0, 4.0], end_to_end=[8.0, 8.0, 8.0])
    (row,) = which_gradient.recommended(which_gradient.outcomes(table)).to_dict("records")
    assert (row["estimator"], row["operators"]) == ("midpoint", 3)
    assert row["mean"] == pytest.approx((1 / 2 * 1 / 3 * 2) ** (1 / 3))
    assert row["low"] <= row["mean"] <= row["high"]


def test_of_equal_outcomes_the_cheapest_is_recommended():
    table = ran(end_to_end=[0.5, 0.7], midpoint_4=[0.9, 0.2], midpoint=[0.8, 0.3], greedy=[1.5, 1.0])
    assert which_gradient.rule(which_gradient.outcomes(table)).tolist() == ["midpoint"]


def test_a_misfit_below_that_of_the_noise_is_no_better_than_it():
    values = which_gradient.outcomes(ran(greedy=[0.2], midpoint=[3.0]))
    assert values.iloc[0].to_dict() == {"greedy": 1.0, "midpoint": 3.0}
    values = which_gradient.outcomes(ran(aim="energy_distance", greedy=[0.2], midpoint=[3.0]))
    assert values["greedy"].tolist() == [0.2]


def test_an_estimator_that_diverges_or_could_not_run_has_no_outcome():
    table = pd.concat([ran(greedy=[2.0, 2.0], midpoint=[1.5, 1.5]), ran(end_to_end=[1.2])], ignore_index=True)
    table.loc[(table["estimator"] == "midpoint") & (table["measurement"] == 3), "value"] = np.nan
    values = which_gradient.outcomes(table)
    assert values["midpoint"].tolist() == [np.inf, np.inf]
    assert values["end_to_end"].tolist() == [1.2, np.inf]
    assert which_gradient.rule(values).tolist() == ["greedy"]


def test_the_rule_is_tested_on_an_operator_and_images_that_had_no_part_in_it():
    table = ran(greedy=[2.0, 2.0, 2.0], midpoint=[1.5, 1.5, 8.0], end_to_end=[3.0, 3.0, 4.0])
    found = which_gradient.held_out(table).set_index("operator")
    assert found["estimator"].to_dict() == {"a": "greedy", "b": "greedy", "c": "midpoint"}
    assert found.loc["c", ["over_best", "over_greedy", "over_end_to_end"]].tolist() == [4.0, 4.0, 2.0]
    other = table.copy()
    other.loc[(table["operator"] == "c") | (table["measurement"] % 2 == 1), "value"] *= 7.0  # has no part in c's rule
    assert which_gradient.held_out(other).set_index("operator").loc["c", "estimator"] == "midpoint"


def test_curves_cross_at_the_budget_from_which_end_to_end_stays_ahead():
    parts = [
        ran(budget=budget, greedy=[2.0, 2.0], end_to_end=[end, end])
        for budget, end in ((48, 1.5), (96, 3.0), (192, 2.0), (384, 1.5))
    ]
    (row,) = which_gradient.crossings(which_gradient.outcomes(pd.concat(parts))).to_dict("records")
    assert (row["regime"], row["aim"], row["budget"]) == ("source", "misfit", 192)
    (never,) = which_gradient.crossings(which_gradient.outcomes(parts[1])).to_dict("records")
    assert np.isnan(never["budget"])


def test_an_error_in_the_order_of_the_outcomes_correlates_by_one():
    table = ran(greedy=[9.0, 8.0], midpoint=[4.0, 5.0], midpoint_4=[3.0, 2.5], end_to_end=[1.5, 2.0])
    table = pd.concat([table, errors(greedy=0.9, midpoint=0.5, midpoint_4=0.2, end_to_end=0.1)], ignore_index=True)
    made = which_gradient.derive(table)
    ranks = made["correlation"].set_index("truth")
    assert ranks["mean"].to_dict() == pytest.approx({"ideal": 1.0, "score": -1.0})
    facts = made["facts"].iloc[0]
    assert facts["source_misfit_best"] == "end_to_end"
    assert facts["source_misfit_ratio"] == pytest.approx((1.5 / 9 * 2 / 8) ** 0.5)  # a geometric mean over operators
    assert (facts["cases"], facts["near"], facts["source_misfit_crossing"]) == (2, 1.0, 96)
    assert facts["greedy_mean"] == pytest.approx((1.5 / 9 * 2 / 8) ** 0.5)
    assert facts["source_greedy_mean"] == facts["greedy_mean"]  # the only regime here
    assert (facts["greedy_near"], facts["end_to_end_near"]) == (0.0, 1.0)  # what always using one would give
    assert (facts["source_cases"], facts["source_near"]) == (2, 1.0)


def test_outcomes_that_are_all_alike_have_no_correlation():
    table = ran(greedy=[0.9, 0.8], midpoint=[0.4, 0.5], midpoint_4=[0.3, 0.25], end_to_end=[0.15, 0.2])
    table = pd.concat([table, errors(greedy=0.9, midpoint=0.5, midpoint_4=0.2, end_to_end=0.1)], ignore_index=True)
    assert which_gradient.derive(table)["correlation"].empty


def test_errors_are_those_of_gradients_at_the_states_of_the_exact_sampler():
    options = Options(quick=True)
    cell = which_gradient.cells(options)[-1]
    assert which_gradient.cells(options)[:-1] == regimes.cells(options)
    table = measure_cell(cell)
    flow, _, reported = batches(cell)
    t = cell.times[1]
    x = t * reported.exact.independent[:, 0] + (1 - t) * reported.x0.unflatten(0, (-1, reported.members))[:, 0]
    g, score = greedy(flow, reported.loss(1), x, t).gradient, -reported.score(flow.path, 1)(x, torch.full((len(x),), t))
    rows = table[(table["estimator"] == "greedy") & (table["truth"] == "score") & (table["t"] == t)]
    assert rows["measurement"].tolist() == list(range(len(x)))
    torch.testing.assert_close(torch.tensor(rows["value"].to_numpy()), dial.scaled_error(g, score))


def test_the_rule_is_applied_to_other_noise_levels_and_data():
    main = ran(greedy=[4.0, 9.0], midpoint=[2.0, 3.0], end_to_end=[8.0, 8.0])
    other = ran(greedy=[2.0, 8.0], midpoint=[4.0, 4.0], end_to_end=[1.0, 8.0]).assign(noise=0.3)
    (first, second) = which_gradient.transfer(which_gradient.outcomes(main), other).to_dict("records")
    assert (first["estimator"], first["noise"]) == ("midpoint", 0.3)
    assert (first["over_best"], first["over_greedy"], first["over_end_to_end"]) == (4.0, 2.0, 4.0)
    assert (second["over_best"], second["over_greedy"]) == (1.0, 0.5)


def test_errors_over_time_are_means_over_operators_and_the_least_is_named():
    early, late = errors(greedy=0.6, midpoint=0.2), errors(greedy=0.1, midpoint=0.3).assign(t=0.9)
    times = which_gradient.error_times(pd.concat([early, late], ignore_index=True))
    rows = times[(times["truth"] == "score") & (times["estimator"] == "greedy")].set_index("t")
    assert rows["mean"].to_dict() == pytest.approx({0.5: 0.4, 0.9: 0.9})
    assert rows["operators"].tolist() == [3, 3]
    table = pd.concat(
        [ran(greedy=[2.0, 2.0], midpoint=[1.5, 1.5], end_to_end=[3.0, 3.0]), early, late], ignore_index=True
    )
    found = which_gradient.derive(table)["facts"].iloc[0]
    assert (found["first_time"], found["last_time"]) == (0.5, 0.9)
    named = [found[f"{truth}_{end}"] for truth in ("ideal", "score") for end in ("first", "last")]
    assert named == ["midpoint", "greedy", "greedy", "midpoint"]
    assert found["score_first_error"] == pytest.approx(0.4)


def test_the_moved_rule_is_compared_with_always_greedy():
    table = ran(greedy=[2.0, 2.0], midpoint=[1.5, 1.5], end_to_end=[3.0, 3.0])
    moved = ran(greedy=[2.0, 8.0], midpoint=[1.0, 1.0], end_to_end=[4.0, 4.0]).assign(noise=0.3)
    both = pd.concat([table, moved, errors(greedy=0.1)], ignore_index=True)
    found = which_gradient.derive(both)["facts"].iloc[0]
    assert found["transfer_greedy_mean"] == pytest.approx(0.25)  # of 1 / 2 and 1 / 8
    assert found["transfer_end_to_end_mean"] == pytest.approx(0.25)
