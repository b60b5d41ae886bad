"""Options held at values beyond their lists: the truth is a search by hand, and a table of outcomes written by hand."""

from dataclasses import replace

import pandas as pd
import pytest

from analysis.experiment import measure_cell
from analysis.search import Search
from analysis.settings import Options
from toy_models.experiments import option_lists, regime_tables
from toy_models.experiments.regime_outcomes import AIMS, ESTIMATORS, batches, metrics
from toy_models.experiments.regime_searches import SEARCHED, WEIGHTS


def test_every_list_is_held_at_its_values_and_farther():
    for (regime, option), values in option_lists.VALUES.items():
        known = option_lists.regime_of(regime).space[option]
        assert values[: len(known)] == tuple(known)
        assert sum(value > option_lists.last(regime, option) for value in values) >= 2
    kept = {(c.extra_dict["regime"], c.extra_dict["option"]) for c in option_lists.cells(Options())}
    assert kept == set(option_lists.VALUES)


def test_all_options_that_regimes_chooses_from_a_list_of_numbers_are_there_but_weights():
    listed = {
        (name, option)
        for name in regime_tables.USES
        for one in SEARCHED[name].values()
        for option, values in one.space.items()
        if isinstance(values, tuple) and not isinstance(values[0], str) and values != WEIGHTS
    }
    assert listed | {("source", "t")} == {*option_lists.VALUES}


def test_a_row_is_the_best_of_the_trials_with_that_value():
    (cell,) = option_lists.cells(Options(quick=True))
    table = measure_cell(cell)
    flow, tuning, _ = batches(cell)
    regime = option_lists.regime_of("source")
    held = replace(regime, space={**regime.space, "t": (0.8,)})
    search = Search(flow, held, ESTIMATORS["greedy"], tuning, metrics, AIMS, cell.seed)
    tried = search.wide(cell.extra_dict["trials"], cell.extra_dict["budget"])
    assert {one.options["t"] for one in tried} == {0.8}
    for aim in AIMS:
        row = table[(table["chosen"] == 0.8) & (table["aim"] == aim)]
        assert row["value"].item() == min(one.score(aim) for one in tried)


@pytest.mark.parametrize(("beyond", "share"), [(0.5, 1.0), (2.0, 0.0)])
def test_facts_compare_the_best_beyond_with_the_best_within(beyond, share):
    values = {0.0: 4.0, 0.2: 3.0, 0.4: 1.5, 0.6: 2.0, 0.7: 1.5 * beyond, 0.9: 9.0}
    rows = [
        {"regime": "source", "option": "t", "operator": operator, "estimator": name, "aim": aim, "chosen": t}
        | {"value": value, "budget": 768}
        for operator in "abc"
        for name in option_lists.NAMES
        for aim in AIMS
        for t, value in values.items()
    ]
    tables = option_lists.derive(pd.DataFrame(rows))
    facts, summary = tables["facts"].iloc[0], tables["summary"]
    floored = max(1.5 * beyond, 1) / 1.5
    assert facts["source_t_energy_distance_beyond"] == facts["source_t_misfit_beyond"] == share
    assert facts["source_t_energy_distance_gain"] == pytest.approx(beyond)
    assert facts["source_t_misfit_gain"] == pytest.approx(floored)
    assert (facts["cases"], facts["operators"]) == (9, 3)
    one = summary[(summary["aim"] == "energy_distance") & (summary["estimator"] == "greedy")].set_index("chosen")
    assert one["mean"].to_dict() == pytest.approx({t: (1.5 * beyond if t == 0.7 else v) / 2 for t, v in values.items()})
    assert one["beyond"].to_dict() == {t: t > 0.6 for t in values}
