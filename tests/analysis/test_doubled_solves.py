"""Fixed steps that are halved, against the adaptive solves whose place they take."""

import pytest
import torch

from analysis import doubled_solves, losses, reference
from analysis.adjoint_solves import Problem
from analysis.integration import Budget, CertificationError
from tests.support.problems import every_path, f64, randn, random_mixture, relative_l2
from toy_models import MixtureFlow
from toy_models.mixtures import compiled_solve

MESH = (0.0, 0.1, 0.3, 0.6, 0.9, 1.0)
LOSS = losses.HalfSquaredDistance(f64([1.0, -0.5, 0.3]))
pytestmark = pytest.mark.skipif(not compiled_solve.installed(), reason="without numba mixtures take no fixed steps")


def problem(path, t, count=5):
    return Problem(MixtureFlow(random_mixture(4, 3, seed=2), path), LOSS, randn(count, 3, seed=3), t)


def budget(most=100_000):
    return Budget(most, 6, None)


def adaptive(monkeypatch, flow, x, t):
    with monkeypatch.context() as patched:
        patched.setattr(doubled_solves, "solve", lambda *_: None)
        return reference.ideal_gradient(flow, LOSS, x, t)


@pytest.mark.parametrize("path", every_path().values(), ids=every_path())
@pytest.mark.parametrize("t", [0.3, [0.1, 0.1, 0.5, 0.5, 0.9], [0.9, 0.2, 0.2, 0.4, 0.7]], ids=["one", "groups", "own"])
def test_both_references_agree_within_the_sum_of_their_bounds(monkeypatch, path, t):
    flow, x = MixtureFlow(random_mixture(4, 3, seed=2), path), randn(5, 3, seed=3)
    t = torch.as_tensor(t, dtype=torch.float64)
    fixed, other = reference.ideal_gradient(flow, LOSS, x, t), adaptive(monkeypatch, flow, x, t)
    assert "round_trip" in other.diagnostics
    assert "round_trip" not in fixed.diagnostics
    assert fixed.tier == other.tier == "certified"
    assert (relative_l2(fixed.gradient, other.gradient) <= fixed.error_bound + other.error_bound).all()
    assert (fixed.error_bound <= 1e-10).all()


def test_samples_have_the_steps_that_each_needs_and_the_difference_is_of_the_last_two():
    some = problem(next(iter(every_path().values())), torch.full((5,), 0.3, dtype=torch.float64))
    found = doubled_solves.solve(some, MESH, 1e-9, budget())
    assert (found.difference <= 1e-9).all()
    finer = doubled_solves.solve(some, MESH, 1e-13, budget())
    assert (relative_l2(found.gradient, finer.gradient) <= found.difference).all()


def test_a_problem_that_needs_too_many_parts_or_has_no_fused_solve_is_left_to_adaptive_steps(monkeypatch):
    some = problem(next(iter(every_path().values())), torch.tensor(0.3, dtype=torch.float64))
    monkeypatch.setattr(doubled_solves, "MOST", 4)
    assert doubled_solves.solve(some, MESH, 1e-13, budget()) is None
    monkeypatch.setattr(MixtureFlow, "solve_vjp", lambda *_: None)
    assert doubled_solves.solve(some, MESH, 1e-3, budget()) is None


def test_more_dimensions_than_few_take_adaptive_steps(monkeypatch):
    monkeypatch.setattr(reference, "FEW", 2)
    some = problem(next(iter(every_path().values())), torch.tensor(0.3, dtype=torch.float64))
    found = reference.ideal_gradient(some.flow, LOSS, some.x, 0.3)
    assert "round_trip" in found.diagnostics


def test_evaluations_are_counted():
    some = problem(next(iter(every_path().values())), torch.tensor(0.3, dtype=torch.float64))
    with pytest.raises(CertificationError, match="more than max_evaluations = 200 evaluations"):
        doubled_solves.solve(some, MESH, 1e-13, budget(200))
