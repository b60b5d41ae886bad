"""What an audit says of a model that is declared wrongly, and of one that is declared rightly.

The truth is how a network was trained, which is written in ``tests.support.trained``.
"""

import re

import pytest
import torch

from analysis.audit import Audited, AuditError, audit, declaration, misfit, subject
from analysis.flow import from_velocity
from analysis.paths import CondOT, Cosine, LinearVP
from tests.support.trained import moons, trained
from toy_models import GaussianMixture, MixtureFlow

DATA = moons(2000, torch.Generator().manual_seed(5))
DIRECTION = ("noise_to_data", "data_to_noise")
TRUE = {
    "velocity": (CondOT(), "velocity", False),
    "velocity, turned": (CondOT(), "velocity", True),
    "noise, turned": (LinearVP(), "source", True),
    "data": (Cosine(), "target", False),
    "score": (Cosine(), "score", False),
}


def verdict(kind, data=DATA, **changed):
    path, prediction, turned = TRUE[kind]
    made = {"path": path, "prediction": prediction, "time": DIRECTION[turned]} | changed
    return declaration.judge(subject.of(Audited(trained(*TRUE[kind]), data, **made), "mine", "cpu"), 0)


@pytest.mark.parametrize("kind", TRUE)
def test_a_true_declaration_raises_no_alarm(kind):
    assert verdict(kind) == declaration.Verdict(False, None)


@pytest.mark.parametrize("data", [DATA[:1], DATA[:1].expand(4, -1)])
def test_data_without_a_spread_leave_a_declaration_unchecked_and_the_audit_says_so(data):
    judged = verdict("velocity, turned", data, time=DIRECTION[0])
    assert not judged.refused
    assert "are not checked, since the data have one row or equal rows" in judged.sentence


WRONG = {
    "backwards": (
        "velocity, turned",
        {"time": DIRECTION[0]},
        "whose time runs from data to noise: pass time='data_to_n",
    ),
    "forwards": ("velocity", {"time": DIRECTION[1]}, "whose time runs from noise to data: pass time='noise_to_data'"),
    "noise backwards": ("noise, turned", {"time": DIRECTION[0]}, "time runs from data to noise: pass time='data_to_n"),
    "path": ("velocity", {"path": LinearVP()}, r"trained on the path CondOT\(\): pass path=CondOT\(\)"),
    "path of the noise": (
        "noise, turned",
        {"path": CondOT()},
        r"on the path LinearVP\(.*\): pass path=LinearVP\(beta_m",
    ),
    "prediction": ("velocity", {"prediction": "source"}, "that predicts the velocity: pass prediction='velocity'"),
    "denoiser": ("data", {"prediction": "velocity"}, "that predicts the data: pass prediction='target'"),
    "score": ("score", {"prediction": "source"}, "that predicts the score: pass prediction='score'"),
    "ten times": ("velocity", {"data": 10 * DATA}, r"trained on data (9|10|11)(\.\d)? times smaller: pass data / "),
    "a tenth": (
        "noise, turned",
        {"data": DATA / 10},
        r"trained on data [89.\d]+|1[0-2.]+ times larger: pass data / 0.1",
    ),
    "moved": (
        "velocity",
        {"data": 3 * DATA - 4},
        r"trained on data [23.\d]+ times smaller: pass \(data \+ [45.\d]+\) / ",
    ),
    "two": (
        "noise, turned",
        {"prediction": "velocity", "path": CondOT(), "time": DIRECTION[0]},
        "pass time='data_to_noise', pass prediction='source', pass path=LinearVP",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_declaration_is_refused_with_what_the_data_look_like(wrong):
    kind, changed, said = WRONG[wrong]
    found = verdict(kind, **changed)
    assert found.refused
    assert found.sentence.startswith("the model does not fit the data as it is declared: its one-step ")
    assert re.search(f"this looks like a model .*{said}", found.sentence), found.sentence


def test_a_model_of_other_data_is_doubted_and_not_refused():
    """Of a random network nothing else fits either: there is nothing to advise."""
    made = Audited(lambda x, t: 5 * torch.sin(3 * x.flip(1)) + 2, DATA, path=CondOT())
    found = declaration.judge(subject.of(made, "mine", "cpu"), 0)
    assert not found.refused
    assert "does not predict these data as it is declared, nor with another path" in found.sentence
    assert found.sentence.endswith("it may not be trained, or not on these data")


def mixture():
    cov = 0.04 * torch.eye(2, dtype=torch.float64)[None].expand(2, 2, 2)
    means = torch.tensor([[-1.0, 0.0], [1.0, 0.5]], dtype=torch.float64)
    return GaussianMixture(torch.tensor([0.5, 0.5], dtype=torch.float64), means, cov)


def test_the_misfit_of_the_exact_prediction_is_below_one_and_that_of_a_straight_line_is_one():
    flow, generator = MixtureFlow(mixture(), CondOT()), torch.Generator().manual_seed(0)
    x1 = mixture().sample(4000, generator)
    x0 = torch.randn(4000, 2, generator=generator, dtype=torch.float64)
    assert misfit.misfit_of_flow(flow, x1, x0) < 0.9
    mean, variance = x1.mean(0), float(x1.var(0).mean())

    def line(x, t):
        alpha, sigma = t[:, None], 1 - t[:, None]
        return mean + alpha * variance / (alpha**2 * variance + sigma**2) * (x - alpha * mean)

    of_line = misfit.misfits(from_velocity(line, CondOT()), CondOT(), False, x1, x0)["target", False]
    assert of_line == pytest.approx(1, rel=1e-10)


def test_a_flow_of_closed_form_is_judged_and_its_scale_is_seen():
    flow = MixtureFlow(mixture(), CondOT())
    data = mixture().sample(2000, torch.Generator().manual_seed(1))
    judged = [declaration.judge(subject.of(Audited(flow, k * data), "mine", "cpu"), 0) for k in (1, 10)]
    assert judged[0].sentence is None
    assert judged[1].refused
    assert "trained on data 10 times smaller: pass data / 10" in judged[1].sentence


def test_an_audit_refuses_a_wrong_declaration_unless_it_is_told_not_to_look():
    network = trained(*TRUE["velocity, turned"])
    options = {"path": CondOT(), "times": [0.7], "samples": 2, "quick": True}
    with pytest.raises(
        AuditError,
        match=r"Small: the model does not .* pass time='data_to_noise' .*check=False, or --unchecked, audits",
    ):
        audit(network, DATA, **options)
    report = audit(network, DATA, check=False, **options)
    assert report.lines[0].startswith("Greedy's relative error (median of 2 states) is ")
