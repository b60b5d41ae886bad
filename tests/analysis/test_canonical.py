"""The canonical view against the exact map of one Gaussian, which is derived on the flow's own path, in closed form."""

import pytest
import torch

from analysis import canonical, solvers
from analysis.canonical import CANONICAL
from analysis.paths import CondOT, UserPath, VarianceExploding
from tests.support.problems import f64, randn
from toy_models import GaussianFlow

ENDS_IN_NOISE = UserPath(lambda t: 0.9 * t, lambda t: 1.2 - t)  # radius 0.92 and zeta 0.22 at t = 1


def gaussian(path):
    root = randn(3, 3, seed=1)
    return GaussianFlow(randn(3, seed=2), root @ root.mT + torch.eye(3).double(), path)


@pytest.mark.parametrize("path", [CondOT(), VarianceExploding(), ENDS_IN_NOISE])
@pytest.mark.parametrize("t", [0.3, [0.1, 0.2, 0.5, 0.9, 1.0]])
def test_a_solve_of_the_view_is_the_exact_map_and_its_gradient(path, t):
    flow, x, v = gaussian(path), randn(5, 3, seed=3), randn(5, 3, seed=4)
    expected, exact_pull = flow.exact_endpoint_vjp(x, f64(t))
    view = canonical.view(flow, f64(t))
    plan = solvers.plan("rk4", CANONICAL, solvers.uniform_grid(view.begin, view.end, 64))
    end, pull = solvers.solve_vjp(view.flow, view.enter(x), plan)
    torch.testing.assert_close(view.leave(end), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(view.enter(pull(view.leave(v))), exact_pull(v), rtol=1e-6, atol=1e-6)


def test_rows_are_the_views_of_their_samples():
    flow, x, index = gaussian(ENDS_IN_NOISE), randn(5, 3, seed=3), torch.tensor([4, 1])
    t = f64([0.1, 0.2, 0.5, 0.9, 1.0])
    rows, alone = canonical.view(flow, t).select_rows(index), canonical.view(flow, t[index])
    assert torch.equal(rows.enter(x[index]), alone.enter(x[index]))
    assert torch.equal(rows.begin, alone.begin)
