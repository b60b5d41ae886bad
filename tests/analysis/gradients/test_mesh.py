"""The curvature of adjoints against parabolas and sums by hand; the best steps against Cauchy and Schwarz's bound."""

import math

import pytest
import torch

from analysis.gradients import mesh
from analysis.gradients.mesh import Mesh, adjoint_curvature, curvature_sums
from tests.support.problems import distance, f64, rand, randn

INDEX = torch.tensor([2, 0])


def line(count):
    return torch.linspace(0, 1, count, dtype=torch.float64)


def uneven(n, count):
    """Nodes (n + 1, count) from 0 to 1."""
    nodes = (0.2 + rand(n, count)).cumsum(0)
    return torch.cat([torch.zeros(1, count).double(), nodes / nodes[-1]])


def test_a_mesh_begins_with_equal_steps():
    nodes = Mesh.equal(3, 7, randn(1)).place(INDEX, 5)
    assert nodes.shape == (6, 2)
    assert distance(nodes, line(6)[:, None].expand(6, 2)) <= 1e-15


@pytest.mark.parametrize("event", [(3,), (2, 4, 3)])
def test_the_curvature_of_a_parabola_is_exact_on_any_nodes(event):
    nodes, (a, b, c) = uneven(5, 2), randn(3, 2, *event)
    s = nodes.reshape(6, 2, *[1] * len(event))
    adjoints = a + b * s + c * s**2
    expected = 2 * c.flatten(1).norm(dim=1) / adjoints[1:-1].flatten(2).norm(dim=2)
    assert distance(adjoint_curvature(adjoints, nodes), expected) <= 1e-12
    assert adjoint_curvature(a + b * s, nodes).max() <= 1e-12


def test_a_vanishing_adjoint_has_no_curvature():
    assert (adjoint_curvature(torch.zeros(5, 2, 3), uneven(4, 2)) == 0).all()


def test_equal_steps_have_p_equal_to_q_over_n():
    nodes, bent = Mesh.equal(2, 8, randn(1)).place(torch.arange(2), 8), rand(7, 2)
    p, q = curvature_sums(bent, nodes)
    assert distance(p, q / 8) <= 1e-15
    assert distance(q, bent.sum(0) / 64) <= 1e-15
    p, q = curvature_sums(bent[:, :1], uneven(8, 1))
    assert p / q != pytest.approx(1 / 8, rel=1e-3)


def peak(s):
    """A curvature with a narrow peak, at another place for each of two solves."""
    return 1 + 400 * torch.exp(-((s - f64([0.3, 0.8])) ** 2) / 0.005)


def refined(n, even, monkeypatch):
    monkeypatch.setattr(mesh, "EVEN", even)
    steps, nodes = Mesh.equal(3, n, randn(1)), line(n + 1)[:, None].expand(n + 1, 2)
    return steps, steps.refine(INDEX, nodes, peak(nodes[1:-1]))


def test_the_best_steps_reach_the_least_that_cauchy_and_schwarz_allow(monkeypatch):
    steps, ahead = refined(2000, 0.0, monkeypatch)
    fine = line(20001)[:, None].expand(-1, 2)
    least = torch.trapezoid(peak(fine).sqrt(), fine, dim=0).square()
    assert distance(ahead, least) <= 1e-3
    for n in (200, 400):
        nodes = steps.place(INDEX, n)
        assert distance(n**2 * curvature_sums(peak(nodes[1:-1]), nodes)[0], least) <= 6 / n
        assert (nodes.diff(dim=0) > 0).all()


def test_what_a_refinement_promises_is_what_its_steps_have(monkeypatch):
    steps, ahead = refined(500, 0.3, monkeypatch)
    nodes = steps.place(INDEX, 250)
    assert distance(250**2 * curvature_sums(peak(nodes[1:-1]), nodes)[0], ahead) <= 0.02
    equal = Mesh.equal(2, 250, randn(1)).place(torch.arange(2), 250)
    assert (ahead < 0.8 * 250**2 * curvature_sums(peak(equal[1:-1]), equal)[0]).all()
    assert nodes.diff(dim=0).max() <= 1.001 / (0.3 * 250)


def test_other_solves_keep_their_steps(monkeypatch):
    steps, _ = refined(8, 0.3, monkeypatch)
    equal = line(9)
    assert distance(steps.place(torch.tensor([1]), 8)[:, 0], equal) <= 1e-15
    both = steps.place(INDEX, 5)
    for i, one in enumerate(INDEX.tolist()):
        assert torch.equal(steps.place(torch.tensor([one]), 5)[:, 0], both[:, i])
        assert distance(both[:, i], line(6)) > 0.05


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_curvature_that_is_not_finite_has_equal_steps_and_asks_for_any_number(bad):
    steps, nodes = Mesh.equal(3, 6, randn(1)), uneven(4, 2)
    ahead = steps.refine(INDEX, nodes, torch.stack([f64([1.0, bad, 2.0]), f64([1.0, 9.0, 2.0])], 1))
    assert torch.isinf(ahead).tolist() == [True, False]
    assert distance(steps.place(INDEX, 6)[:, 0], line(7)) <= 1e-15
    flat = steps.refine(INDEX, nodes, torch.zeros(3, 2).double())
    assert (flat == 0).all()
    assert distance(steps.place(INDEX, 6)[:, 1], line(7)) <= 1e-15


def test_three_tenths_of_the_steps_stay_spread_evenly():
    # The curvature vanishes on one half, where the best steps alone would put no node at all.
    steps, n = Mesh.equal(3, 400, randn(1)), 400
    nodes = line(n + 1)[:, None].expand(n + 1, 2)
    steps.refine(INDEX, nodes, (nodes[1:-1] > 0.5).double())
    longest = steps.place(INDEX, 200).diff(dim=0).max()
    assert float(longest) == pytest.approx(1 / (0.3 * 200), rel=0.01)


def test_the_mesh_of_a_curvature_that_is_even_about_the_middle_is_even_too():
    # A step has the curvature of its own two nodes, and at the ends that of its one: a shift by a node would show.
    steps, nodes = Mesh.equal(3, 4, randn(1)), line(5)[:, None].expand(5, 2)
    steps.refine(INDEX, nodes, f64([[0.0, 2.0], [1.0, 0.0], [0.0, 2.0]]))
    placed = steps.place(INDEX, 4)
    assert distance(placed + placed.flip(0), torch.ones(5, 2).double()) <= 1e-14
    assert distance(placed, nodes) > 0.05
