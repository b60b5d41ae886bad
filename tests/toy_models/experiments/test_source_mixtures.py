"""Source optimisation on mixtures in small: samplers called by hand, and outcomes written by hand."""

import json
import math

import numpy as np
import pandas as pd
import pytest

from analysis.experiment import measure_cell
from analysis.guidance import SAMPLERS
from analysis.settings import Options
from toy_models.experiments import regime_outcomes, regime_searches, regimes, source_mixtures

QUICK = source_mixtures.cells(Options(quick=True))
FULL = source_mixtures.cells(Options())


@pytest.fixture(scope="module")
def table():
    return pd.concat([measure_cell(cell) for cell in QUICK], ignore_index=True)


def test_a_row_is_what_the_sampler_gives_with_the_options_that_were_chosen(table):
    key = {"regime": "source", "estimator": "end_to_end", "budget": 192, "aim": "misfit", "metric": "misfit"}
    rows = table.loc[(table[list(key)] == pd.Series(key)).all(axis=1)]
    cell = next(c for c in QUICK if c.variants[0].estimator == "end_to_end")
    trial, count = json.loads(rows["chosen"].iloc[0]), int(rows["count"].iloc[0])
    flow, _, reported = regime_outcomes.batches(cell)
    estimator = regimes.ESTIMATORS["end_to_end"]
    options = regime_searches.SOURCE.call(trial, estimator, cell.extra_dict["noise"], count)
    sample = SAMPLERS["optimise_source"](flow, reported.loss(), reported.x0, **options)
    assert rows["value"].tolist() == reported.misfit(reported.sets(sample.x)).tolist()
    assert (rows["evaluations"] + rows["vjps"]).max() <= 192


def test_cells_are_those_of_regimes_at_its_main_noise():
    theirs = {
        c
        for c in regimes.cells(Options())
        if c.extra_dict["regime"] in source_mixtures.STARTS and c.extra_dict["noise"] == 0.1
    }
    assert {*FULL} == theirs
    assert {c.problem for c in FULL} == {"digits", "mnist"}


def test_facts_are_those_of_outcomes_written_by_hand():
    chosen = json.dumps({"optimiser": "adam"})
    rows = []
    for budget, (greedy, end) in {96: (1.0, 4.0), 384: (2.0, 1.0), 1536: (2.0, 0.5)}.items():
        for name, value in (("greedy", greedy), ("end_to_end", end)):
            place = {"problem": "digits", "noise": 0.1, "regime": "source", "budget": budget, "status": "ok", "seed": 0}
            place |= {
                "estimator": name,
                "count": 1,
                "at_end_of_range": False,
            }
            rows += [
                place | {"aim": aim, "metric": aim, "chosen": chosen, "operator": operator, "value": value * factor}
                for aim in ("misfit", "energy_distance")
                for operator, factor in (("a", 1.0), ("b", 3.0))
            ]
    ran = pd.DataFrame(rows)
    other = ran.assign(seed=1, value=ran["value"] * np.where(ran["estimator"] == "greedy", 1, 3))
    found = source_mixtures.derive(pd.concat([ran, other]))["facts"].iloc[0]
    assert (found["digits_energy_distance_seeds"], found["digits_misfit_seeds"]) == (2, 2)
    ends = [found[f"digits_energy_distance_seeds_{end}"] for end in ("low", "high")]
    assert ends == pytest.approx([0.25, 0.75])  # of end-to-end over greedy, by seed
    row = source_mixtures.derive(ran)["facts"].iloc[0]
    assert row["digits_misfit_from"] == 384
    assert row["digits_budget"] == 1536
    assert row["digits_misfit_end_to_end_over_mean"] == pytest.approx(0.25)
    assert row["digits_energy_distance_end_to_end"] == pytest.approx(1.0)
    assert (row["line_search"], row["at_end_of_range"]) == (0, 0)
    late = ran.assign(regime="source_late", value=ran["value"] * np.where(ran["estimator"] == "greedy", 1, 2))
    both = source_mixtures.derive(pd.concat([ran, late]))["facts"].iloc[0]
    assert both["digits_late_misfit_end_to_end_over_mean"] == pytest.approx(0.5)
    assert both["digits_misfit_end_to_end_over_mean"] == pytest.approx(0.25)
    assert both["digits_energy_distance_seeds"] == 1
    assert row["digits_floored_mean"] == pytest.approx(((1 / 2) * (1.5 / 6)) ** 0.5)  # 0.5 counts as 1
    never = pd.DataFrame({"end_to_end": [0.5, 2.0], "greedy": [1.0, 1.0]}, index=pd.Index([96, 384]))
    assert math.isnan(source_mixtures._meets(never))
    assert source_mixtures._meets(never[["end_to_end"]] / 4) == 96
    assert math.isnan(source_mixtures._meets(never[["greedy"]]))


def test_a_negative_distance_counts_as_a_small_one_in_ratios_alone(table):
    rows = (table["metric"] == "energy_distance") & (table["estimator"] == "end_to_end")
    table = table[table["regime"] == "source"]
    changed = table.assign(value=table["value"].where(~rows, -0.01))
    summary = source_mixtures.derive(changed)["summary"].set_index(["estimator", "aim", "metric", "budget"])
    place = ("energy_distance", "energy_distance", 192)
    assert summary.loc[("end_to_end", *place), "mean"] == pytest.approx(-0.01)
    greedy = summary.loc[("greedy", *place), "mean"]
    assert summary.loc[("end_to_end", *place), "over_greedy_mean"] == pytest.approx(0.05 / greedy)
    before = source_mixtures.derive(table)["summary"].set_index(["estimator", "aim", "metric", "budget"])
    kept = ("end_to_end", "misfit", "misfit", 192)
    assert summary.loc[kept, "over_greedy_mean"] == before.loc[kept, "over_greedy_mean"]


def test_every_chosen_trial_names_its_optimiser(table):
    made = source_mixtures.derive(table)
    assert {*made["summary"]["estimator"]} == {"greedy", "midpoint", "end_to_end"}
    assert np.isfinite(made["facts"]["digits_misfit_end_to_end_over_mean"]).all()
    assert {json.loads(one)["optimiser"] for one in made["choices"]["chosen"]} <= {*regime_searches.OPTIMISERS}
