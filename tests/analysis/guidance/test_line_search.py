"""L-BFGS with a line search. The truths are minima in closed form, each sample alone, and the condition on slopes."""

import pytest
import torch

from analysis.guidance.line_search import LONGEST, STEEPEST, LineSearchLBFGS
from analysis.guidance.optimisers import OPTIMISERS, BatchedLBFGS
from tests.support.functions import randn


def gradient(f, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(f(x).sum(), x)[0]


def rosenbrock(x):
    return (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(1)


def run(optimiser, f, x, iterations):
    points = [x]
    for _ in range(iterations):
        points.append(optimiser(points[-1], gradient(f, points[-1])))
    return points


def test_it_finds_a_minimum_that_a_fixed_rate_flies_from():
    x = 2 * randn(7, 3, seed=1)
    assert rosenbrock(run(LineSearchLBFGS(3.0), rosenbrock, x, 200)[-1]).max() < 1e-8
    assert not rosenbrock(run(BatchedLBFGS(3.0), rosenbrock, x, 200)[-1]).max() < 1


def test_on_a_quadratic_it_is_l_bfgs_once_its_steps_are_accepted():
    scales = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    last = run(LineSearchLBFGS(1.0), lambda x: (scales * x.square()).sum(1) / 2, randn(5, 3, seed=2), 25)[-1]
    assert last.abs().max() < 1e-4  # torch's least descent ends it


def test_samples_do_not_influence_each_other():
    x = 2 * randn(6, 2, seed=3)
    together = run(LineSearchLBFGS(1.0), rosenbrock, x, 40)[-1]
    alone = torch.cat([run(LineSearchLBFGS(1.0), rosenbrock, row, 40)[-1] for row in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-9)


def test_a_step_that_is_kept_meets_the_condition_on_slopes_and_none_is_too_long():
    x, kept = 2 * randn(6, 2, seed=4), []
    made = LineSearchLBFGS(1.0)
    for _ in range(60):
        begin = x if made.begin is None else made.begin[0]
        x = made(x, gradient(rosenbrock, x))
        moved = (made.begin[0] != begin).any(1)
        kept.append(moved.sum())
        step = made.begin[0] - begin
        before = -(step * gradient(rosenbrock, begin)).sum(1)
        after = (step * gradient(rosenbrock, made.begin[0])).sum(1)
        assert (after <= STEEPEST * before + 1e-9)[moved].all()
        longest = LONGEST * made.begin[0].norm(dim=1).clamp_min(2**0.5)
        assert ((x - made.begin[0]).norm(dim=1) <= 1.01 * longest).all()
    assert 0 < sum(kept) < 60 * len(x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_gradient_that_is_not_finite_shortens_the_step(dtype):
    made = LineSearchLBFGS(1.0)
    x = randn(3, 2, seed=5).to(dtype)
    trial = made(x, x)
    again = made(trial, torch.full_like(x, torch.nan))
    assert again.dtype == dtype
    assert ((again - x).float().norm(dim=1) < 0.2 * (trial - x).float().norm(dim=1) + 1e-3).all()
    assert again.isfinite().all()


def test_samplers_take_it_by_its_name():
    assert isinstance(OPTIMISERS["lbfgs_line_search"](torch.zeros(1, 2), 1.0), LineSearchLBFGS)
