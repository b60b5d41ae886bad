"""Gradients on the flow of molecules in small: the truth is a table by hand, and estimators called by hand."""

import pandas as pd
import pytest
import torch

from analysis.settings import Options
from real_models.experiments import molecule_gradients
from tests.support.tables import shipped


@pytest.fixture(scope="module")
def quick():
    return shipped("molecule_gradients")


def test_the_full_run_has_one_cell_with_every_estimator():
    (cell,) = molecule_gradients.cells(Options())
    assert [variant.estimator for variant in cell.variants] == list(molecule_gradients.DIAL)
    assert sorted(cell.times) == list(cell.times)
    assert torch.tensor(cell.times[cell.extra_dict["solved"]]) == pytest.approx(0.2)


def test_one_euler_step_is_greedy(quick):
    errors = quick[quick["metric"] == "relative_error"]
    greedy = errors[(errors["estimator"] == "greedy") & (errors["t"] == 0.5)]["value"].iloc[0]
    one = errors[(errors["family"] == "steps") & (errors["solver"] == "euler") & (errors["steps"] == 1)]["value"].iloc[
        0
    ]
    assert one == pytest.approx(greedy, rel=1e-4)


def test_symmetries_hold_to_round_off(quick):
    rows = quick[quick["family"] == "symmetries"]
    assert set(rows["metric"]) == {"turned", "renumbered"}
    assert rows["value"].max() < 1e-3  # in float32


def by_hand(power=2.0, far=1e5):
    """Greedy's error is zeta to a power, the midpoint's half of that; from noise the midpoint goes far out."""
    rows = []
    for zeta in (4.0, 1.0, 0.1, 0.01, 0.001):
        for name, factor in (("greedy", 1.0), ("midpoint", 0.5)):
            row = {"estimator": name, "family": "dial", "metric": "relative_error", "zeta": zeta, "t": 1 / (1 + zeta)}
            row["dtype"] = "float64"
            rows.append(row | {"value": factor * zeta**power, "reference_bound": 1e-12, "samples": 6, "high": 1.0})
            rows.append(row | {"metric": "one_minus_cosine", "value": 0.25})
    for dtype, size in (("float32", 1e-5), ("float64", 1e-13)):
        for metric in ("turned", "renumbered"):
            rows.append({"family": "symmetries", "metric": metric, "dtype": dtype, "high": size, "value": size})
    for name, ratio in (("greedy", 0.1), ("midpoint", far)):
        rows.append({"family": "endpoints", "metric": "endpoint_norm", "estimator": name, "high": ratio, "value": 1.0})
    return pd.DataFrame(rows).assign(status="ok")


def test_facts_state_slopes_symmetries_and_what_goes_far_out():
    tables = molecule_gradients.derive(by_hand())
    facts = tables["facts"].iloc[0]
    assert (facts["slope_low"], facts["slope"], facts["slope_high"]) == pytest.approx((2, 2, 2))
    assert (facts["greedy"], facts["midpoint"], facts["best"]) == (16.0, 8.0, "midpoint")
    assert (facts["t"], facts["molecules"], facts["greedy_cosine"]) == (0.2, 6, 0.75)
    assert (facts["turned_float32"], facts["renumbered_float64"]) == (1e-5, 1e-13)
    assert (facts["wild"], facts["farthest"]) == ("midpoint", 1e5)
    assert "fewer" not in tables["fits"]["status"].iloc[0]


def test_what_cannot_be_fitted_is_said_and_stays_within_reach_is_not():
    facts = molecule_gradients.derive(by_hand(far=2.0).query("zeta != 0.1"))["facts"].iloc[0]
    assert not {"wild", "farthest", "practical"} & {*facts.index}
