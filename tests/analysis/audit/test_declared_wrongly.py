"""Models of a mixture that are declared wrongly in one, two or three respects: the advice is the truth, in one round.

The truth is the closed form of the mixture: a model is the formula of one prediction on one path in one direction of
time, on data of one scale, and all else that may be declared of it is wrong.
"""

import itertools
import math
import re

import pytest
import torch

from analysis.audit import Audited, declaration, subject
from analysis.audit.readings import Compared, Reading
from analysis.flow import PredictionFlow, from_velocity
from analysis.paths import PATHS, PREDICTIONS, CondOT, Polynomial, UserPath
from tests.support.problems import f64
from toy_models import GaussianMixture, MixtureFlow

DIRECTION = ("noise_to_data", "data_to_noise")
MIXTURE = GaussianMixture(f64([0.5, 0.5]), f64([[-1.0, 0.0], [1.0, 0.5]]), 0.04 * torch.eye(2).double().repeat(2, 1, 1))
DATA = MIXTURE.sample(500, torch.Generator().manual_seed(1))


def formula(path, prediction, turned=False):
    """The exact prediction of the mixture as a function (x, t); a velocity of turned time s is dx/ds."""
    flow, sign = MixtureFlow(MIXTURE, path), -1 if turned and prediction == "velocity" else 1

    def predicted(x, t):
        return sign * flow.named(prediction, x, 1 - t if turned else t)

    return predicted


def judged(model, path, prediction, turned, data=DATA):
    return declaration.judge(
        subject.of(Audited(model, data, None, path, prediction, None, DIRECTION[turned]), "m", "cpu"), 0
    )


def table():
    """Every prediction and direction, on paths in turn, each declared wrongly in some ways."""
    named = list(PATHS)
    kinds = itertools.cycle([("prediction", "time"), ("path", "time"), ("path", "prediction"), ("time",), ("path",)])
    for i, (prediction, turned) in enumerate(itertools.product(PREDICTIONS, (False, True))):
        truth = named[i % 5], prediction, turned
        for kind in itertools.islice(kinds, 3):
            yield (
                truth,
                named[(i + 2) % 5] if "path" in kind else truth[0],
                PREDICTIONS[(PREDICTIONS.index(prediction) + 1 + i % 3) % 4] if "prediction" in kind else prediction,
                turned != ("time" in kind),
                1.0,
            )
    yield ("condot", "velocity", True), "condot", "target", False, 1.0
    yield ("condot", "velocity", False), "polynomial", "velocity", False, 1.0
    yield ("vp_linear", "source", True), "vp_linear", "source", False, 10.0
    yield ("cosine", "velocity", True), "cosine", "source", True, 0.1
    yield ("ve", "source", False), "polynomial", "source", False, 100.0


@pytest.mark.parametrize(("truth", "path", "prediction", "turned", "scale"), list(table()))
def test_a_wrong_declaration_is_refused_and_the_truth_advised(truth, path, prediction, turned, scale):
    name, true_prediction, true_turned = truth
    model = formula(PATHS[name](), true_prediction, true_turned)
    found = judged(model, PATHS[path](), prediction, turned, scale * DATA)
    assert found.refused
    advised = found.advised
    assert (advised.path, advised.prediction) == (PATHS[name](), true_prediction)
    assert advised.turned == (turned != true_turned)
    assert abs(math.log(advised.divisor / scale)) <= (0 if scale == 1 else math.log(1.3))
    assert advised.misfit < 1
    for passed, wrong in (
        ("time", advised.turned),
        ("prediction", prediction != true_prediction),
        ("path", path != name),
    ):
        assert (f"pass {passed}=" in found.sentence) == wrong
    assert (" / " in found.sentence.partition("looks like")[2]) == (scale != 1)


def test_a_flow_whose_time_was_turned_where_it_was_made_is_read_with_its_sign():
    """A noise predictor of turned time that was taken for a velocity, whose sign was changed with its time."""
    model = formula(CondOT(), "source", True)
    flow = PredictionFlow(lambda x, t: -model(x, 1 - t), CondOT(), "velocity")
    found = declaration.judge(subject.of(Audited(flow, DATA), "m", "cpu"), 0)
    assert found.refused
    assert found.sentence.partition("looks like ")[2].startswith(
        "a model that predicts the noise: make the flow with prediction='source' (0."
    )


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_the_truth_is_not_doubted_on_a_path_that_starts_at_rest(prediction):
    """The velocity of the polynomial path vanishes at t = 0, where it determines no other prediction."""
    assert judged(formula(Polynomial(), prediction), Polynomial(), prediction, False) == declaration.Verdict(
        False, None
    )


def test_what_is_advised_raises_no_alarm_in_the_next_round():
    model, data = formula(CondOT(), "velocity", True), 10 * DATA
    advised = judged(model, Polynomial(), "source", False, data).advised
    again = judged(model, advised.path, advised.prediction, advised.turned, (data - advised.shift) / advised.divisor)
    assert again == declaration.Verdict(False, None)


@pytest.mark.parametrize(
    ("path", "prediction", "turned"), [(CondOT(), "source", True), (Polynomial(), "target", False)]
)
def test_nothing_is_advised_where_nothing_fits(path, prediction, turned):
    """A model of other data: every reading of it is worse than a straight line."""
    found = judged(lambda x, t: 5 * torch.sin(3 * x.flip(1)) + 2, path, prediction, turned)
    assert found.advised is None
    assert "nor with another path, prediction, direction of time or scale that was tried" in found.sentence
    assert "pass " not in found.sentence


def test_a_reading_that_fits_worse_than_a_straight_line_is_never_advised():
    x1, x0 = DATA[:256], torch.randn(256, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    compared = Compared(from_velocity(formula(CondOT(), "velocity"), CondOT()), DIRECTION, x1, x0)
    declared, fits = Reading(CondOT(), "source", misfit=7.0), Reading(CondOT(), "velocity", misfit=0.9)
    worse = Reading(Polynomial(), "velocity", misfit=1.05)
    assert declaration._best(compared, declared, [worse]) is None
    assert declaration._best(compared, declared, [worse, fits]) is fits


def test_a_velocity_on_a_path_that_is_not_known_is_not_named_as_another():
    """Whatever is advised fits the data better than the declaration and no worse than a straight line."""
    own = UserPath(lambda t: t**5, lambda t: 1 - t**5)
    found = judged(formula(own, "velocity"), CondOT(), "velocity", True)
    assert found.sentence
    assert found.advised is None or found.advised.misfit <= declaration.FITS


def spoilt(value, times, model):
    """The model, with a value in the first number of those samples whose second number is positive, at some times."""

    def predicted(x, t):
        at = times(t) & (x[:, 1] > 0)
        spoil = torch.zeros_like(x)
        spoil[:, 0] = torch.where(at, value, 0.0)
        return model(x, t) + spoil

    return predicted


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_samples_that_are_not_finite_refuse_a_declaration(value):
    """Half of the samples are spoilt near noise, where no one-step prediction is looked at."""
    found = judged(spoilt(value, lambda t: t < 0.01, formula(CondOT(), "velocity")), CondOT(), "velocity", False)
    assert found.refused
    bad, n = map(
        int, re.search(r"and (\d+) of (\d+) samples of a 32-step solve are not finite", found.sentence).groups()
    )
    assert 0 < bad < n == 256
    assert "nan" not in found.sentence
    assert found.sentence.endswith("; no other path, prediction, direction of time or scale that was tried fits them")


def test_predictions_that_are_not_finite_refuse_a_declaration():
    found = judged(spoilt(math.nan, lambda t: t > 0.3, formula(CondOT(), "velocity")), CondOT(), "velocity", False)
    assert found.refused
    assert "its one-step predictions are not finite, and " in found.sentence


def test_samples_that_are_not_finite_do_not_hide_what_fits():
    """A wrong prediction drives the solve to where the model returns NaN; read as it is, it stays at the data."""
    model = formula(CondOT(), "velocity")
    found = judged(lambda x, t: torch.where(x.abs() < 9, model(x, t), torch.nan), CondOT(), "score", False)
    assert found.refused
    assert (
        "samples of a 32-step solve are not finite; this looks like a model that predicts the velocity: pass pred"
        in found.sentence
    )
