"""The facts that captions state. The truths are small tables made by hand, with numbers that can be counted."""

import numpy as np
import pandas as pd
import pytest

from toy_models.bounds import tightness
from toy_models.experiments import (
    adaptive,
    adjoints,
    best_horizon,
    convergence,
    cost_accuracy,
    dial,
    digits,
    estimators,
    gradient_field,
    greedy_error,
    greedy_shrinks,
    lookahead_surface,
    memory,
    outcome_windows,
    posterior_gallery,
    precision,
)
from toy_models.posteriors import guided_facts


def only_row(table):
    (row,) = table.to_dict("records")
    return row


def frame(columns, *rows, **same):
    return pd.DataFrame(rows, columns=columns.split()).assign(**same)


def errors(columns, *rows, **same):
    return frame(columns, *rows, metric="relative_error", **same)


def test_orders_near_the_declared_one_are_counted_and_the_farthest_named():
    table = frame(
        "solver path slope declared status",
        ("euler", "condot", 1.02, 1, "ok"),
        ("midpoint", "cosine", 2.4, 2, "ok"),
        ("rk4", "ve", np.nan, 4, "too few"),
        problem="ring8",
    )
    row = only_row(convergence.facts(table))
    assert (row["fitted"], row["near"], row["refused"]) == (2, 1, 1)
    assert (row["solver"], row["path"], row["slope"], row["declared"]) == ("midpoint", "cosine", 2.4, 2)
    assert "refused" not in convergence.facts(table[:1])
    assert "slope" not in convergence.facts(table[:1])


@pytest.mark.parametrize(("other", "verdict"), [(1.005, "agree"), (1.7, "differ")])
def test_paths_agree_where_their_errors_at_equal_zeta_do(other, verdict):
    table = errors(
        "path zeta value", ("a", 0.1, 1.0), ("a", 1.0, 2.0), ("b", 0.1, 1.0), ("b", 1.0, 2 * other), problem="p"
    )
    slopes = frame("slope points status", (1.9, 5, "ok"), (2.1, 5, "ok"), (np.nan, np.nan, "too few"))
    row = only_row(greedy_error.facts(table, slopes))
    assert row["spread"] == pytest.approx(other - 1)
    assert row["paths"] == verdict
    assert (row["slope"], row["slope_low"], row["slope_high"], row["fits"]) == (2.0, 1.9, 2.1, 2)
    alone = only_row(greedy_error.facts(table[table["path"] == "a"], slopes[2:]))
    assert not {"paths", "slope"} & set(alone)


def test_shrinking_says_how_far_mixtures_follow_and_whether_greedy_exceeds():
    directions = frame(
        "path variance deviation samples failed",
        ("a", 1.0, 1e-15, 4, 0),
        ("b", 2.0, 3e-15, 4, 1),
        ("a", None, 0.5, 4, 0),
    )
    mixtures = frame("problem ratio", ("p", 0.9), ("p", 1.1), ("p", 0.8), ("p", 0.7), ("q", 0.5))
    deviations = frame("problem zeta value", ("p", 0.1, 0.01), ("p", 1.0, 0.2), ("q", 0.1, 0.01), ("q", 2.0, 0.04))
    row = only_row(greedy_shrinks.facts(directions, mixtures, deviations))
    assert (row["gaussian"], row["paths"], row["failed"], row["total"]) == (3e-15, 2, 1, 12)
    assert row["law"]
    assert not only_row(greedy_shrinks.facts(directions.assign(deviation=2e-6), mixtures, deviations))["law"]
    assert (row["follows_low"], row["follows_high"]) == (0.1, 2.0)
    assert (row["above_low"], row["above_high"], row["exceeds"]) == (0.0, 0.25, True)


def test_digits_compare_greedy_with_one_step_in_the_middle_of_time():
    table = errors(
        "estimator steps t value",
        *[("greedy", np.nan, t, v) for t, v in ((0.1, 0.9), (0.4, 0.5), (0.9, 0.1))],
        *[("lookahead", n, t, v / n) for n in (1.0, 4.0) for t, v in ((0.1, 0.8), (0.4, 0.3), (0.9, 0.05))],
    )
    row = only_row(digits.derive(table)["facts"])
    assert [row[k] for k in ("first_t", "first", "last_t", "last")] == [0.1, 0.9, 0.9, 0.1]
    assert [row[k] for k in ("middle_t", "greedy", "lookahead")] == [0.4, 0.5, 0.3]


def test_bytes_grow_with_their_power_of_the_steps():
    table = errors(
        "options steps bytes evaluations",
        *[
            (f'{{"memory": "{strategy}"}}', n, n**power, 2 * n * work)
            for power, work, strategy in (
                (1, 1, "store"),
                (0.5, 2, "checkpoint"),
                (0, 3, "recursive"),
                (0, 4, "reversible"),
            )
            for n in (4, 8, 16)
        ],
        problem="p",
    )
    row = only_row(memory.derive(table)["facts"])
    assert [row[f"{s}_power"] for s in ("store", "checkpoint", "recursive")] == pytest.approx([1, 0.5, 0])
    assert [row[f"{s}_work"] for s in ("store", "checkpoint", "recursive", "reversible")] == [1, 2, 3, 4]


def test_arithmetic_is_counted_where_it_outweighs_the_rest():
    parts = ("total, float64", "discretisation", "adjoint inconsistency", "floating point, float32")
    sizes = {"a": (1.0, 1.0, np.nan, 0.1, 2.0), "b": (1.0, 0.5, 0.9, 0.1, 0.1), "c": (1.0, 1.0, np.nan, 3.0, 3.0)}
    rows = [(n, p, v) for n, vs in sizes.items() for p, v in zip((*parts, "floating point, bfloat16"), vs, strict=True)]
    table = frame("estimator part value", *rows, problem="p", solver="euler", steps=4)
    row = only_row(precision.derive(table)["facts"])
    assert (row["count"], row["float32"], row["bfloat16"]) == (3, 1, 2)
    assert (row["discretisation"], row["adjoint"], row["largest"]) == (1, 1, "both")


def test_backsolve_is_off_by_its_distance_to_the_discrete_gradient():
    rows = [("adjoint_backsolve", n, "discrete", 0.4 / n) for n in (8, 16)]
    rows += [("adjoint_backsolve", 16, "ideal", 0.3), ("end_to_end", 16, "ideal", 0.2)]
    table = frame("estimator steps against value", *rows, problem="p", solver="euler")
    row = only_row(adjoints.derive(table)["facts"])
    assert (row["steps"], row["off_low"], row["off_high"]) == (16, 0.025, 0.025)
    assert row["rate_low"] == row["rate_high"] == pytest.approx(-1)
    assert row["falls"]
    assert not only_row(adjoints.derive(table.assign(value=0.1))["facts"])["falls"]
    assert (row["nearest"], row["places"]) == (1, 1)


def test_the_methods_with_most_places_on_the_fronts_are_named():
    front = frame("estimator", ("end_to_end",), ("end_to_end",), ("greedy",), problem="p", t=0.2)
    row = only_row(cost_accuracy.facts(front))
    assert (row["count"], row["panels"], row["greedy"]) == (3, 1, 1)
    assert (row["first"], row["first_count"], row["second"], row["second_count"]) == ("end_to_end", 2, "greedy", 1)


@pytest.mark.parametrize(("score", "verdict"), [(0.1, "same"), (0.9, "differ")])
def test_the_estimators_nearest_each_reference(score, verdict):
    rows = [("a", "ideal gradient", 0.2, 4), ("b", "ideal gradient", 0.3, 1)]
    rows += [("a", "likelihood score", score, 4), ("b", "likelihood score", 0.5, 1)]
    chosen = errors("estimator against value evaluations", *rows)
    row = only_row(estimators.facts(pd.DataFrame({"problem": ["p", "q"], "t": 0.2}), chosen))
    assert (row["ideal"], row["ideal_error"], row["nearest"], row["problems"]) == ("a", 0.2, verdict, 2)
    assert (row["evaluations_low"], row["evaluations_high"]) == (1, 4)


def test_angles_to_the_ideal_gradient():
    late = gradient_field.label(gradient_field.VARIANTS[-1])
    rows = [
        (k, t, 0.0, 0.0, *v) for t in (0.2, 0.8) for k, v in (("ideal", (1, 0)), ("greedy", (0, t)), (late, (1, 1)))
    ]
    row = only_row(gradient_field.derive(frame("kind t x0 x1 v0 v1", *rows))["facts"])
    assert (row["early_t"], row["late_t"], row["steps"]) == (0.2, 0.8, 4)
    assert [row["early_greedy"], row["late_lookahead"]] == pytest.approx([90, 45])


def test_horizons_short_of_the_end_are_counted():
    best = frame("solver fraction", ("euler", 0.5), ("euler", 1.0), ("midpoint", 1.0), problem="p")
    row = only_row(lookahead_surface.facts(best))
    assert (row["euler_short"], row["euler_all"], row["midpoint_short"], row["stops"]) == (1, 2, 0, "some")
    assert (row["least"], row["most"]) == (0.5, 0.5)
    assert only_row(lookahead_surface.facts(best[1:]))["stops"] == "none"


def test_adaptive_is_compared_with_the_cheapest_fixed_steps_in_t():
    rows = [("all", "adaptive", 0.1, 0.97, 6, 6, "ok"), ("all", adaptive.TIME, 0.1, 0.96, 3, 3, "ok")]
    rows += [("p", "adaptive", 0.1, 0.99, 6, 6, "ok"), ("q", "adaptive", 0.1, 0.9, 6, 6, "ok")]
    row = only_row(adaptive.facts(frame("problem estimator tolerance within evaluations vjps status", *rows)))
    assert (row["ratio_low"], row["ratio_high"]) == (2, 2)
    assert (row["count"], row["reach"], row["within_low"]) == (2, 1, 0.97)


def test_chosen_steps_are_shared_among_bands_at_each_time_and_families_pooled():
    own = frame("problem t steps error", ("a_3", 0.1, 9, 0.2), ("a_4", 0.1, 12, 0.05), ("b_3", 0.9, 0, 0.01))
    own = own.assign(tolerance=0.1, within=(own["error"] <= 0.1).astype(float), evaluations=1.0, vjps=1.0)
    assert adaptive.chosen(own).values.tolist() == [["0 (greedy)", 0.9, 1.0], ["9–12", 0.1, 1.0]]
    found = adaptive.families(own).set_index("family")
    assert found["within"].to_dict() == {"a": 0.5, "b": 1.0}
    assert found["error_95"].to_dict() == {"a": 0.2, "b": 0.01}


def test_a_kind_is_covered_where_its_states_are_within_the_tolerance_or_unsure():
    rows = [
        ("levels_3", 0.3, 1.0, 0.0),
        ("levels_3", 0.3, 0.0, 1.0),
        ("levels_4", 0.1, 0.0, 0.0),
        ("levels_4", 0.1, 1.0, 1.0),
    ]
    rows += [("sheets_3", 0.3, 1.0, 0.0), ("grid_3", 0.3, 0.0, 0.0)]
    own = frame("problem tolerance within unsure", *rows).assign(evaluations=2.0, vjps=3.0)
    kinds = adaptive.by_kind(own)
    pooled = kinds[kinds["tolerance"].isna()].set_index("kind")
    assert pooled.loc["levels", ["within", "unsure", "either", "work", "thin"]].tolist() == [0.5, 0.5, 0.75, 5.0, True]
    assert pooled["either"].to_dict() == {"levels": 0.75, "sheets": 1.0, "grid": 0.0}
    assert only_row(kinds[(kinds["kind"] == "levels") & (kinds["tolerance"] == 0.1)])["either"] == 0.5
    row = only_row(adaptive.judgement(kinds))
    assert (row["covered_kind"], row["covered"], row["thin_within"], row["kinds"]) == ("levels", 0.75, 0.5, 2)
    assert (row["unsure"], row["unsure_smooth"], row["knows"]) == (0.25, 0.0, False)
    few = kinds.assign(either=kinds["either"].clip(lower=0.92), unsure=kinds["unsure"].clip(upper=0.1))
    assert only_row(adaptive.judgement(few))["knows"]


def test_regrets_are_geometric_means_with_two_standard_errors():
    predicted = frame("form solver held_out regret", ("x", "euler", False, 1.0), ("x", "euler", False, np.e**2))
    row = only_row(best_horizon.regrets(predicted))
    assert row["mean"] == pytest.approx(np.e)
    assert [row["high"] / row["mean"], row["mean"] / row["low"]] == pytest.approx([np.exp(2)] * 2)  # logs 0 and 2


def test_bounds_hold_where_none_is_violated():
    overall = frame(
        "bound cases violated vacuous median", ("integral_form", 10, 0, 0, 0.8), ("a_priori", 20, 0, 15, 1e-8)
    )
    loosest = frame("bound problem zeta", ("integral_form", "ring8", 3.4))
    identity = frame("decade cases failed unresolved", (-1, 6, 0, 1), (0, 4, 0, 2))
    row = only_row(tightness.facts(overall, loosest, identity))
    assert (row["holds"], row["cases"], row["integral_form"], row["a_priori_vacuous"]) == (True, 10, 0.8, 0.75)
    assert (row["loosest"], row["loosest_zeta"]) == ("ring8", 3.4)
    assert (row["identity_holds"], row["identity_failed"], row["identity_resolved"]) == (True, 0, 7)
    assert not only_row(tightness.facts(overall.assign(violated=[0, 1]), loosest, identity))["holds"]
    assert not only_row(tightness.facts(overall, loosest, identity.assign(failed=[0, 2])))["identity_holds"]


def distances(*rows):
    table = frame("estimator family mean low high", *rows, operator="a", noise=0.2, measurements=5, samples=2)
    return table.assign(failed_samples=0)


def test_greedy_closes_its_share_of_the_distance_and_verdicts_need_three_comparisons():
    rows = [("unguided", "unguided", 2.0, 1, 3), ("exact", "exact", 0.0, -1, 1), ("oracle_ode", "oracle", 0.1, 0, 1)]
    summary = distances(*rows, ("likelihood:greedy", "likelihood", 0.5, -0.1, 1.0))
    further = [(f"likelihood:{n}", "likelihood", m, m - 0.1, m + 0.1) for n, m in (("a", -1), ("b", -1), ("c", 1))]
    row = only_row(guided_facts.facts(summary, distances(*further)))
    assert (row["closed_low"], row["closed_high"], row["reached"], row["cases"]) == (0.75, 0.75, 1, 1)
    assert (row["pays"], row["further"], row["better"], row["worse"]) == ("yes", 3, 2, 1)
    assert "pays" not in only_row(guided_facts.facts(summary, distances(*further[:2])))


def test_coverage_is_given_less_its_nominal_level():
    summary = frame(
        "estimator metric mean low high", ("likelihood:greedy", "coverage_0.9", 0.8, 0.7, 0.85), operator="a"
    )
    levels = guided_facts.coverage(summary)
    assert levels[["level", "mean", "excess", "low", "high"]].iloc[0].tolist() == pytest.approx(
        [0.9, 0.8, -0.1, -0.2, -0.05]
    )
    row = only_row(guided_facts.coverage_facts(levels))
    assert (row["level"], row["greedy_low"], row["operators"]) == (0.9, 0.8, 1)


def test_the_costly_third_of_time_is_the_one_where_greedy_costs_more():
    table = frame("start mean", (0.0, 0.1), (2 / 3, 0.4), kind="greedy", metric="energy_distance")
    row = only_row(outcome_windows.derive(table)["facts"])
    assert (row["early"], row["late"], row["costly"]) == (0.1, 0.4, "late")


def test_misfits_are_medians_over_images_and_not_over_pixels():
    rows = [
        ("exact", 0, 1.0),
        ("exact", 0, 1.0),
        ("exact", 1, 2.0),
        ("unguided", 0, 9.0),
        ("likelihood:greedy", 0, 3.0),
    ]
    table = frame("image member misfit", *rows, operator="a", noise=0.2)
    row = only_row(posterior_gallery.derive(table)["facts"])
    assert (row["exact"], row["unguided"], row["guided_low"], row["guided_high"]) == (1.5, 9.0, 3.0, 3.0)


@pytest.mark.parametrize(("low", "high", "verdict"), [(0.1, 0.9, "yes"), (-0.9, -0.1, "no"), (-0.1, 0.1, "unknown")])
def test_a_correlation_has_a_verdict_where_its_interval_leaves_zero_out(low, high, verdict):
    names = ["greedy", "midpoint", "euler_4", "end_to_end"]
    table = frame("estimator", *((n,) for n in names), noise=0.2, measurement=0, operator="a", value=1.0)
    ranks = frame("truth value low high", ("score", 0.5, low, high), operator="all", start=0.0, end=1.0, kind="tuned")
    rows = [("greedy", 0.0, 1 / 3, 0.6), ("greedy", 2 / 3, 1.0, 0.1)]
    summary = frame("estimator start end mean", *rows, operator="all", quantity="score_error")
    row = only_row(dial.facts(table, summary, ranks))
    assert (row["score"], row["score_pays"]) == (0.5, verdict)
    assert (row["greedy_early"], row["greedy_late"]) == (0.6, 0.1)
    assert "score" not in only_row(dial.facts(table[:3], summary, ranks))
