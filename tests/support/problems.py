"""Random problems and independent formulas that several test files share."""

import torch

from analysis.paths import PATHS, UserPath
from toy_models import GaussianMixture

EPS = torch.finfo(torch.float64).eps


def f64(values):
    return torch.tensor(values, dtype=torch.float64)


def randn(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rand(*shape, seed=0):
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def user_path(derivatives=True):
    """A path that is on no list, and that ends with noise left: sigma(1) = 0.1."""
    slopes = (lambda t: 1.2 * torch.cos(1.2 * t), lambda t: -2 * t) if derivatives else ()
    return UserPath(lambda t: torch.sin(1.2 * t), lambda t: 1.1 - t**2, *slopes)


def every_path():
    named = {name: build() for name, build in PATHS.items()}
    return named | {"user": user_path(), "user_autograd": user_path(derivatives=False)}


def random_rotation(d, seed=0):
    return torch.linalg.qr(randn(d, d, seed=seed))[0]


def random_covariance(d, condition, seed=0):
    """Eigenvalues log-spaced from 1/condition to 1."""
    q = random_rotation(d, seed)
    covariance = q * torch.logspace(0, -1, d, base=condition, dtype=torch.float64) @ q.T
    return (covariance + covariance.T) / 2


def random_mixture(k, d, condition=10.0, spread=1.5, seed=0):
    weights = 0.5 + rand(k, seed=seed)
    covariances = torch.stack([random_covariance(d, condition, seed + i) for i in range(k)])
    return GaussianMixture(weights / weights.sum(), spread * randn(k, d, seed=seed + 100), covariances)


def states(mixture, path, t, n, seed=0):
    """n draws of X_t: (n, d), where t is a float or (n,)."""
    noise = randn(n, mixture.dim, seed=seed + 200)
    data = mixture.sample(n, torch.Generator().manual_seed(seed))
    alpha, sigma = (torch.as_tensor(c(t)).reshape(-1, 1) for c in (path.alpha, path.sigma))
    return alpha * data + sigma * noise


def distance(actual, expected):
    """Relative distance in the maximum norm; NaN where either is not finite."""
    return float((actual - expected).abs().max() / expected.abs().max())


def relative_l2(actual, expected):
    """Relative L2 distance per sample, (B,)."""
    error, scale = (torch.linalg.vector_norm(v.flatten(1), dim=1) for v in (actual - expected, expected))
    return error / scale


def central_difference(function, x, direction, h):
    """Directional derivative of ``function`` at x, to O(h^4)."""
    near, far = (function(x + k * h * direction) - function(x - k * h * direction) for k in (1, 2))
    return (8 * near - far) / (12 * h)


class FromFormulas(torch.nn.Module):
    """The same prediction as ``flow``'s, computed by an ``nn.Module`` that only autograd can differentiate."""

    def __init__(self, flow, prediction):
        super().__init__()
        self.flow, self.prediction = flow, prediction

    def forward(self, x, t):
        return self.flow.predict(x, t, self.flow.path.readout(self.prediction, t))
