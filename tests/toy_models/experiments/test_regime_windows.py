"""Windows of guidance: the truth is samplers called by hand, and a table of outcomes written by hand."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from analysis.experiment import measure_cell
from analysis.flow import from_velocity
from analysis.guidance import SAMPLERS
from analysis.guidance.windows import inside
from analysis.losses import HalfSquaredDistance
from analysis.paths import CondOT
from analysis.settings import Options
from tests.support.problems import f64, randn
from toy_models.experiments import regime_windows
from toy_models.experiments.regime_outcomes import ESTIMATORS, batches

FLOW = from_velocity(lambda x, t: torch.tanh(x) * (1 + t[:, None]), CondOT())
LOSS = HalfSquaredDistance(f64([1.0, 0.0, -1.0]))
X0 = randn(5, 3)
OPTIONS = {
    "posterior_guidance": {"steps": 6, "scale": 0.3, "rule": "constant"},
    "optimise_steps": {"steps": 6, "learning_rate": 0.1, "inner": 2},
    "optimise_controls": {"iterations": 3, "learning_rate": 0.3, "intervals": 6, "steps": 2},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_the_whole_of_time_is_the_default_and_no_time_in_it_is_no_guidance(name):
    run, options = SAMPLERS[name], OPTIONS[name]
    assert torch.equal(run(FLOW, LOSS, X0, **options).x, run(FLOW, LOSS, X0, **options, window=(0, 1)).x)
    free = dict(options) | ({"scale": 0.0} if "scale" in options else {"learning_rate": 1e-300})
    none = run(FLOW, LOSS, X0, **options, window=(0.01, 0.02))  # between two steps
    assert torch.allclose(none.x, run(FLOW, LOSS, X0, **free).x, atol=1e-14)
    assert not torch.allclose(none.x, run(FLOW, LOSS, X0, **options).x, atol=1e-3)


def test_a_window_of_a_guided_solve_is_that_part_of_the_loop():
    found = SAMPLERS["posterior_guidance"](FLOW, LOSS, X0, steps=4, scale=0.3, rule="constant", window=(0.5, 1)).x
    half = SAMPLERS["posterior_guidance"](FLOW, LOSS, X0, steps=4, scale=0.0, rule="constant")
    assert not torch.allclose(found, half.x, atol=1e-3)
    seen = []

    def loss(x):
        seen.append(x.detach())
        return LOSS(x)

    SAMPLERS["posterior_guidance"](FLOW, loss, X0, steps=4, scale=0.3, rule="constant", window=(0.5, 1))
    assert len([x for x in seen if x.shape == X0.shape]) - 1 == 2  # and once at the end


@pytest.mark.parametrize("window", [(0.5, 0.5), (0.7, 0.2), (-0.1, 0.5), (0.5, 1.5), (0.2,), (0.1, 0.2, 0.3)])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_window_that_is_none_is_refused(name, window):
    with pytest.raises(ValueError, match="window must be two times, start before end"):
        SAMPLERS[name](FLOW, LOSS, X0, **OPTIONS[name], window=window)
    with pytest.raises(ValueError, match="window must be two times"):
        inside(f64([0.1]), window)


@pytest.fixture(scope="module")
def cells():
    return {(c.extra_dict["regime"], c.variants[0].estimator): c for c in regime_windows.cells(Options(quick=True))}


def test_a_row_is_what_the_sampler_gives_in_that_window(cells):
    cell = cells["guidance", "greedy"]
    table = measure_cell(cell)
    rows = table[(table["start"] == 1 / 3) & (table["aim"] == "misfit")]
    flow, _, reported = batches(cell)
    trial = json.loads(rows["chosen"].iloc[0])
    options = regime_windows.within("guidance", (1 / 3, 2 / 3)).call(trial, ESTIMATORS["greedy"], 0.1, 6)
    sample = SAMPLERS["posterior_guidance"](flow, reported.loss(), reported.x0, **options)
    assert options["steps"] == 6
    assert rows["value"].tolist() == reported.misfit(reported.sets(sample.x)).tolist()
    assert set(table["start"]) == {0, 1 / 3, 2 / 3}


def test_a_source_s_window_is_the_time_of_the_optimised_state(cells):
    regime = regime_windows.within("source", (1 / 3, 2 / 3))
    assert regime.options["t"] == 1 / 3
    assert "t" not in regime.space
    table = measure_cell(cells["source", "end_to_end"])
    assert set(zip(table["start"], table["end"], strict=True)) == set(regime_windows.WINDOWS[:-1])


@pytest.mark.parametrize(("late", "matters"), [(2.0, "early"), (0.5, "late"), (1.0, None)])
def test_the_window_that_matters_is_that_of_the_lower_outcome(late, matters):
    values = {(0.0, 1 / 3): 1.0, (1 / 3, 2 / 3): 1.0, (2 / 3, 1.0): late, (0.0, 1.0): 0.5}
    rows = [
        {"regime": "guidance", "estimator": name, "aim": "misfit", "start": start, "end": end, "operator": operator}
        | {"value": value * (1 + 0.01 * k * np.cos(start))}
        for (start, end), value in values.items()
        for name in regime_windows.NAMES
        for k, operator in enumerate("abc")
    ]
    facts = regime_windows.derive(pd.DataFrame(rows))["facts"].iloc[0]
    assert facts["guidance_misfit_matters"] == matters
    assert facts["guidance_misfit"] == pytest.approx(1 / late, rel=0.02)
    assert (facts["early"], facts["late"], facts["cases"]) == (matters == "early", matters == "late", 1)
