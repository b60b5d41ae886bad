"""Problems and calls on which the cheap estimators are tested."""

from analysis import losses
from analysis.gradients import ESTIMATORS
from tests.support.problems import f64, randn, random_mixture, states
from toy_models import MixtureFlow

A, Y, R = randn(2, 3, seed=50), f64([0.5, -1.0]), f64([[0.3, 0.1], [0.1, 0.2]])
LOSS = losses.LinearGaussian(A, Y, R)
PER_SAMPLE = f64([0.1, 0.3, 0.5, 0.7, 0.9])
CALLS = {
    "identity_jacobian": {},
    "truncated": {"steps": 4, "keep": 2, "solver": "midpoint"},
    "lgd": {"samples": 3},
    "pigdm": {},
    "tmpd": {},
    "dtmpd": {},
}


def problem(path, t=0.4, n=5):
    mixture = random_mixture(3, 3)
    return MixtureFlow(mixture, path), states(mixture, path, t, n)


def run(name, flow, loss, x, t, **options):
    return ESTIMATORS[name](flow, loss, x, t, **CALLS[name] | options)
