"""The page of advice writes gradients as samplers take them. The truth is the samplers, and the ladder's options."""

import ast
import re

import pytest
import torch

from analysis.guidance import optimise_controls, optimise_source, sample
from analysis.guidance.dial import ladder, rule_of
from analysis.guidance.tuning import Range
from analysis.paths import CondOT
from analysis.provenance import ROOT
from tests.docs.published import PLACES
from tests.support.guidance import LOSS, MIXTURE, X0
from toy_models.experiments.regime_outcomes import DIAL
from toy_models.experiments.regime_searches import SEARCHED
from toy_models.mixtures.gaussian import MixtureFlow

TEXT = (ROOT / "docs" / "pages" / "which-gradient.md").read_text().partition("| Gradient | Argument |")[2]
GRADIENTS, _, AFTER = TEXT.partition("\n\n")
WRITTEN = {
    name: ast.literal_eval(said) for name, said in re.findall(r"^\| ([^|`]+) \| `([^`]+)`", GRADIENTS, re.MULTILINE)
}
FLOW = MixtureFlow(MIXTURE, CondOT())


def test_there_are_gradients_to_try():
    assert {"greedy", "end-to-end, as measured here", "exact adjoint of the controlled solve"} <= {*WRITTEN}


@pytest.mark.parametrize("name", WRITTEN)
def test_a_sampler_takes_the_gradient_as_it_is_written(name):
    if WRITTEN[name] == "adjoint":
        made, plain = (
            optimise_controls(FLOW, LOSS, X0, iterations=1, learning_rate=0.1, **options).x
            for options in ({"gradient": "adjoint"}, {})
        )
        assert torch.equal(made, plain)
    else:
        assert sample(FLOW, X0, LOSS, lookahead=WRITTEN[name], steps=2).x.isfinite().all()


def test_end_to_end_as_measured_is_that_of_the_experiments_and_the_plain_name_has_twice_its_steps():
    measured = WRITTEN["end-to-end, as measured here"]
    assert rule_of(measured)[1]["steps"] == rule_of(DIAL["end_to_end"])[1]["steps"] == 16
    assert rule_of("end_to_end")[1] == rule_of(ladder(32)["end_to_end"])[1]


def searched(regime):
    """What is searched in a regime: (option, the values of the separate searches that share it) by what is written."""
    shared = {}
    for value, one in SEARCHED[regime].items():
        for name, values in one.space.items():
            if isinstance(values, Range):
                shared.setdefault((name, f"{values.low:g} to {values.high:g}"), []).append(f'"{value}"')
            elif values != (value,):
                shared[name, ", ".join(f'`"{v}"`' if isinstance(v, str) else f"{v:g}" for v in values)] = []
    return shared


@pytest.mark.parametrize("regime", PLACES)
def test_the_options_to_tune_are_those_that_were_searched(regime):
    section = AFTER.partition("## What to tune")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith(f"| {PLACES[regime]} |")]
    written = {(what.partition("=")[0].strip("`"), values): re.findall(r'"\w+"', what) for _, what, values in rows}
    assert written == searched(regime)


def test_a_step_of_greedy_and_a_gradient_cost_what_the_page_says():
    costs = [sample(FLOW, X0, LOSS, lookahead="greedy", steps=n).cost for n in (1, 2)]
    first, second = (cost.evaluations + cost.vjps for cost in costs)
    assert f"A step guided by greedy costs {second - first:.0f};" in AFTER
    options = {"learning_rate": 0.1, "gradient": DIAL["end_to_end"], "optimiser": "adam", "t": 0.2}
    costs = [optimise_source(FLOW, LOSS, X0, iterations=n, **options).cost for n in (1, 2)]
    first, second = (cost.evaluations + cost.vjps for cost in costs)
    assert f"an iteration of the source by end-to-end costs {second - first:.0f}." in AFTER
