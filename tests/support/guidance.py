"""The small linear-Gaussian problem that the tests of the samplers share."""

from analysis import losses
from analysis.paths import CondOT, Cosine, LinearVP, VarianceExploding
from tests.support.problems import f64, randn, random_mixture
from toy_models.posteriors.dense import likelihood_score

A, Y, R = f64([[1.0, 0.5, 0.0], [0.0, -0.3, 1.0]]), f64([0.8, -0.5]), f64([[0.3, 0.1], [0.1, 0.2]])
LOSS = losses.LinearGaussian(A, Y, R)
MIXTURE = random_mixture(3, 3)
GAUSSIAN = random_mixture(1, 3)
PATHS = {"condot": CondOT(), "cosine": Cosine(), "vp": LinearVP(), "ve": VarianceExploding(10.0)}
X0 = randn(6, 3)


def score_of(flow):
    return lambda x, t: likelihood_score(flow, A, Y, R, x, t)


def noise(path, n, seed=0):
    """Draws of X_0 where the data is far smaller than the noise, or nothing of it is left."""
    return float(path.sigma(0.0)) * randn(n, 3, seed=seed)
