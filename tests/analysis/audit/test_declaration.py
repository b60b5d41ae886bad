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


FEW = "are not checked, since {} rows of the data are too few to tell their spread: pass more of the data"


def judged(flow, data, seed=0, **declared):
    made = {"path": CondOT(), "prediction": "velocity"} | declared
    return declaration.judge(subject.of(Audited(lambda x, t: flow.velocity(x, t), data, **made), "mine", "cpu"), seed)


@pytest.mark.parametrize("n", [2, 3, 4, 6, 8, 12, 16])
def test_too_few_rows_to_judge_are_said_and_never_refused(n):
    """The flow is that of the data: whatever else fits a few of them better fits their chance."""
    flow = MixtureFlow(mixture(), CondOT())
    for seed in range(20):
        found = judged(flow, mixture().sample(n, torch.Generator().manual_seed(seed)), seed)
        assert not found.refused
        assert FEW.format(n) in found.sentence


def test_samples_that_are_not_finite_are_refused_also_with_few_rows():
    data = mixture().sample(4, torch.Generator().manual_seed(0))
    made = Audited(lambda x, t: torch.full_like(x, torch.nan), data, path=CondOT())
    assert declaration.judge(subject.of(made, "mine", "cpu"), 0) == declaration.Verdict(
        True, "4 of 4 samples of a 32-step solve are not finite"
    )


WITH_64 = {
    "time": ({"time": DIRECTION[1]}, "pass time='noise_to_data'"),
    "path": ({"path": LinearVP()}, "pass path=CondOT()"),
    "prediction": ({"prediction": "source"}, "pass prediction='velocity'"),
    "scale": ({}, "pass data / 1"),
}


@pytest.mark.parametrize("seed", range(3))
def test_64_rows_are_enough_for_the_right_declaration_and_to_refuse_wrong_ones(seed):
    flow, data = MixtureFlow(mixture(), CondOT()), mixture().sample(64, torch.Generator().manual_seed(seed))
    assert judged(flow, data, seed) == declaration.Verdict(False, None)
    for kind, (declared, said) in WITH_64.items():
        found = judged(flow, 10 * data if kind == "scale" else data, seed, **declared)
        assert found.refused
        assert said in found.sentence


def test_rows_of_many_dimensions_are_enough_where_they_are_few():
    data = torch.randn(10, 40, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert misfit.degrees(data) > declaration.DEGREES > misfit.degrees(data[:, :1])
    found = declaration.judge(subject.of(Audited(lambda x, t: x, 10 * data, path=CondOT()), "mine", "cpu"), 0)
    assert found.sentence
    assert "too few" not in found.sentence


def test_the_degrees_of_freedom_of_a_variance_tell_its_standard_error():
    """Of many sets of samples; the truth is the spread of their variances."""
    generator, deviations = torch.Generator().manual_seed(0), torch.tensor([2.0, 1.0, 1.0, 0.5], dtype=torch.float64)
    sets = deviations * torch.randn(2000, 200, 4, generator=generator, dtype=torch.float64)
    variances = sets.var(1).mean(1)
    expected = float(2 / (variances.std() / variances.mean()).square())
    assert misfit.degrees(sets[0]) == pytest.approx(expected, rel=0.15)


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
