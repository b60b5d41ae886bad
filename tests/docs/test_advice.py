"""The page of advice writes gradients as samplers take them. The truth is the samplers, and the ladder's options."""

import ast
import re

import pytest
import torch

from analysis.guidance import optimise_controls, sample
from analysis.guidance.dial import ladder, rule_of
from analysis.paths import CondOT
from analysis.provenance import ROOT
from tests.support.guidance import LOSS, MIXTURE, X0
from toy_models.experiments.regime_outcomes import DIAL
from toy_models.mixtures.gaussian import MixtureFlow

TEXT = (ROOT / "docs" / "pages" / "which-gradient.md").read_text().partition("| Gradient | Argument |")[2]
WRITTEN = {name: ast.literal_eval(said) for name, said in re.findall(r"^\| ([^|`]+) \| `([^`]+)`", TEXT, re.MULTILINE)}
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
