"""Problems and settings on which the continuous-adjoint estimators are tested."""

import pytest

from analysis import losses
from analysis.gradients._adjoint import INNER_STAGES
from tests.support.problems import f64, randn, random_mixture, states
from toy_models import MixtureFlow

LOSS = losses.HalfSquaredResidual(randn(2, 3, seed=50), f64([0.5, -1.0]), noise=0.7)
RUNGE_KUTTA = ("adjoint_backsolve", "adjoint_cached", "adjoint_interpolated")
SETTINGS = [(name, {"solver": solver}) for name in RUNGE_KUTTA for solver in INNER_STAGES]
SETTINGS += [("adjoint_deis", {"order": 1})]
SETTINGS += [("adjoint_deis", {"order": 2, "expansion": expansion}) for expansion in ("log_snr", "zeta")]
every_setting = pytest.mark.parametrize(
    ("name", "options"), SETTINGS, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v.values()))
)


def problem(path, t=0.3, n=5):
    """Three overlapping modes in three dimensions, and states of it."""
    mixture = random_mixture(3, 3, condition=3.0, spread=0.8)
    return MixtureFlow(mixture, path), states(mixture, path, t, n)
