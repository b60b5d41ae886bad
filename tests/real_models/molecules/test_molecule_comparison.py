"""Statistics of guided molecules. The truth is a table written by hand, of errors with known means and differences."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import pdist

from real_models.molecules import comparison, dft, gallery, judging, targets
from real_models.molecules.data import property_index
from real_models.molecules.flow import encode
from real_models.molecules.network import event
from real_models.molecules.property_loss import predictor

METHANE = [[0.0, 0, 0], [0.63, 0.63, 0.63], [-0.63, -0.63, 0.63], [-0.63, 0.63, -0.63], [0.63, -0.63, -0.63]]
METHANE_TEXT = judging.text(encode("CHHHH", METHANE))[0]
COUNT = 12
NAMES = {"unguided": 1.0, "greedy": 0.9, "end_to_end": 0.1}
SPREAD = {name: targets.SPREAD[name] for name in ("alpha", "gap")}


def by_hand(factors=NAMES, xtb=True, budgets=(96, 384)):
    """Errors of ``COUNT`` targets per property: the noise of the target times a factor per estimator."""
    noise = np.random.default_rng(0).uniform(0.5, 1.5, (len(SPREAD), COUNT))
    rows = []
    for name, factor in factors.items():
        for budget in (32,) if name == "unguided" else budgets:
            place = {"setting": "source", "estimator": name, "budget": budget, "count": 1, "chosen": None}
            place |= {"evaluations": budget / 2, "vjps": budget / 2, "status": "ok"}
            place |= {"at_end_of_range": None if name == "unguided" else (name, budget) == ("greedy", 96)}
            if name != "unguided":
                rows.append(place | {"metric": "tuning", "value": 0.5, "chosen": json.dumps({"prior": 0.0})})
            for i, (key, spread) in enumerate(SPREAD.items()):
                for k in range(COUNT):
                    row = place | {"property": key, "wanted": 1.0, "order": i * COUNT + k, "spread": spread}
                    error = spread * noise[i, k] * factor
                    values = {"error": error, "guide_error": error / 2, "stable": float(k % 2), "stable_atoms": 0.9}
                    values |= {"valid": 1.0, "xtb_error": error if k else np.nan} if xtb else {}
                    row |= {"molecule": METHANE_TEXT}
                    rows += [row | {"metric": metric, "value": value} for metric, value in values.items()]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def tables():
    return comparison.derive(by_hand())


def select(table, **columns):
    for name, value in columns.items():
        table = table[table[name] == value]
    return table.iloc[0]


def test_means_are_over_molecules_and_stable_ones_alone(tables):
    noise = np.random.default_rng(0).uniform(0.5, 1.5, (len(SPREAD), COUNT))
    place = {"estimator": "greedy", "budget": 384, "metric": "error", "property": "gap"}
    every, stable = (select(tables["summary"], **place, over=over) for over in ("all", "stable"))
    assert every["mean"] == pytest.approx(881 * 0.9 * noise[1].mean())
    assert stable["mean"] == pytest.approx(881 * 0.9 * noise[1][1::2].mean())
    assert (every["measurements"], stable["measurements"]) == (COUNT, COUNT // 2)
    assert every["relative_mean"] == pytest.approx(0.9 * noise[1].mean())
    assert every["low"] < every["mean"] < every["high"]
    assert np.isnan(stable["low"])  # of six molecules
    assert every["work"] == 384


def test_pooled_errors_are_over_the_spread_of_their_property(tables):
    noise = np.random.default_rng(0).uniform(0.5, 1.5, (len(SPREAD), COUNT))
    row = select(tables["summary"], estimator="end_to_end", budget=384, metric="error", property="all", over="all")
    assert row["mean"] == pytest.approx(0.1 * noise.mean())
    assert row["measurements"] == 2 * COUNT


def test_differences_to_greedy_are_of_equal_targets(tables):
    noise = np.random.default_rng(0).uniform(0.5, 1.5, (len(SPREAD), COUNT))
    place = {"estimator": "end_to_end", "budget": 384, "property": "alpha", "over": "all"}
    row = select(tables["paired"], **place, metric="error")
    assert row["mean"] == pytest.approx(3.53 * -0.8 * noise[0].mean())
    assert row["high"] < 0
    assert select(tables["paired"], **place, metric="xtb_error")["measurements"] == COUNT - 1


def test_facts_state_the_order_by_every_judge(tables):
    facts = tables["facts"].iloc[0]
    assert (facts["best"], facts["worst"], facts["budget"], facts["molecules"]) == ("end_to_end", "greedy", 384, 24)
    for judge in ("evaluator", "guide", "xtb"):
        assert facts[f"{judge}_order"] == "end"
        assert (facts[f"{judge}_lower"], facts[f"{judge}_higher"], facts[f"{judge}_compared"]) == (2, 0, 2)
    assert facts["evaluator_ratio_alpha"] == pytest.approx(1 / 9)
    assert (facts["judged"], facts["unjudged"]) == (2 * 2 * COUNT, 2 * 2)  # of two estimators, at the largest budget
    assert facts["stable_greedy"] == 0.5
    assert facts["at_end_of_range"] == 0.25  # one of two estimators at two budgets


@pytest.mark.parametrize(("end", "order"), [(2.0, "greedy"), (0.9, "none")])
def test_the_order_may_be_another(end, order):
    facts = comparison.derive(by_hand(NAMES | {"end_to_end": end}))["facts"].iloc[0]
    assert facts["evaluator_order"] == order


def test_too_few_pairs_have_no_order():
    made = by_hand()
    some = made[(made["metric"] == "tuning") | (made["order"] % COUNT < 3)]
    facts = comparison.derive(some)["facts"].iloc[0]
    assert (facts["evaluator_order"], facts["evaluator_pairs"], facts["xtb_pairs"]) == ("few", 6, 4)
    assert not {"evaluator_lower", "best_stable"} & {*facts.index}


def test_without_end_to_end_or_physics_the_others_are_stated():
    facts = comparison.derive(by_hand({"unguided": 1.0, "greedy": 0.5}, xtb=False))["facts"].iloc[0]
    assert facts["best"] == "greedy"
    assert not {"evaluator_order", "xtb_order", "judged", "valid_greedy"} & {*facts.index}


def test_errors_are_over_the_spread_in_molecules_of_as_many_atoms():
    plain, made = by_hand(), by_hand()
    made["spread"] *= 2
    one, other = (comparison.derive(table)["summary"] for table in (plain, made))
    errors = one["metric"] == "error"
    np.testing.assert_allclose(other.loc[errors, "relative_mean"], one.loc[errors, "relative_mean"] / 2)


def test_density_functional_theory_is_a_judge_like_the_others(monkeypatch):
    made = by_hand()
    rows = made[(made["metric"] == "error") & (made["budget"] == 384)]
    monkeypatch.setattr(dft, "errors", lambda made: rows.assign(metric="dft_error", value=rows["value"] * 3))
    facts = comparison.derive(made)["facts"].iloc[0]
    assert (facts["dft_order"], facts["dft_pairs"]) == ("end", 2 * COUNT)
    assert facts["dft_ratio_alpha"] == pytest.approx(1 / 9)
    assert facts["dft_greedy"] == pytest.approx(3 * facts["evaluator_greedy"])


def test_the_tuning_table_has_every_candidate(tables):
    assert len(tables["tuning"]) == 4
    assert set(tables["tuning"]["chosen"]) == {'{"prior": 0.0}'}


def test_drawn_molecules_are_turned_but_keep_their_distances():
    made = by_hand()
    made = made[made["metric"] != "tuning"]
    tables = gallery.drawn(made)
    one = tables["atoms"].query("property == 'gap' and estimator == 'greedy'")
    position = one[["x", "y", "depth"]].to_numpy()
    np.testing.assert_allclose(pdist(position), pdist(METHANE), atol=2e-3)
    assert one["element"].tolist() == ["C", "H", "H", "H", "H"]
    assert len(tables["atoms"]) == 5 * 2 * 3
    assert set(tables["bonds"]["order"]) == {1}
    assert len(tables["bonds"]) == 4 * 2 * 3
    types, place = torch.tensor([[1, 0, 0, 0, 0]]), torch.tensor(METHANE, dtype=torch.float32)[None]
    seen = predictor("evaluator")(event(types, place))[0, property_index("gap")]
    assert one["value"].to_list() == pytest.approx([float(seen)] * 5, rel=1e-3)
