"""Bounds of greedy and end-to-end errors: every bound against measured errors, and the steps of its derivation.

The truths are single mixture flows under autograd for the stacked ones, ``reference.ideal_gradient`` for the gradients
and trajectories, the closed form of one Gaussian's map, and cases in which a bound must be an equality.
"""

import dataclasses
import itertools

import pytest
import torch

from analysis import gradients, losses, reference
from analysis.bounds import remainder, stability
from analysis.bounds.leading_term import curvature
from analysis.paths import CondOT, Cosine
from toy_models.bounds.a_priori import Constants, a_priori
from toy_models.bounds.a_priori import curvature as bound_curvature
from toy_models.bounds.a_priori import curvature_jacobian as bound_curvature_jacobian
from toy_models.bounds.groups import draw, solve
from toy_models.bounds.stacked import StackedMixtures
from toy_models.mixtures.gaussian import MixtureFlow
from toy_models.problems import zoo
from toy_models.problems.random_mixtures import random_mixture

SEVEN = 7


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def stack(dim, count, number=3, seed=0):
    g = generator(seed)
    return [random_mixture(dim, count, g) for _ in range(number)]


def groups_of(dim, count, number=5, seed=0):
    mixtures = stack(dim, count, number, seed)
    return draw(mixtures, SEVEN, generator(seed + 1)), StackedMixtures(mixtures)


def checkpoints(groups, segments=8):
    times = groups.t + torch.linspace(0, 1, segments + 1, dtype=torch.float64)[:, None] * (1 - groups.t)
    times[-1] = 1.0
    return times


@pytest.mark.parametrize(("dim", "count"), [(1, 3), (3, 1), (4, 5)])
def test_a_stack_predicts_what_each_mixture_does(dim, count):
    groups, field = groups_of(dim, count)
    alpha, zeta = groups.per_path("alpha", groups.t), groups.per_path("zeta", groups.t)
    source, jacobian = field.source(groups.x / alpha[:, None, None], zeta)
    curved = field.curvature(groups.x / alpha[:, None, None], zeta)
    for i, (flow, t, x, _) in enumerate(groups):
        times = torch.tensor(t, dtype=torch.float64)
        readout = flow.path.readout("source", times)
        tangent = torch.randn(x.shape, dtype=x.dtype, generator=generator())
        value, product = torch.func.jvp(lambda y, f=flow, s=times, r=readout: f.predict(y, s, r), (x,), (tangent,))
        torch.testing.assert_close(source[i], value, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(
            (jacobian[i] @ tangent[..., None])[..., 0] / alpha[i], product, rtol=1e-8, atol=1e-10
        )
        torch.testing.assert_close(curved[i], curvature(flow, x, t), rtol=1e-7, atol=1e-8)


def test_a_stack_of_different_shapes_is_refused():
    with pytest.raises(ValueError, match="mixtures must be"):
        StackedMixtures([*stack(2, 3, 1), *stack(3, 2, 1)])
    with pytest.raises(ValueError, match="at least one"):
        StackedMixtures([])


@pytest.mark.parametrize("problem", ["gaussian", "product256", "ring8", "overlapping"])
def test_trajectories_end_where_the_flow_does_and_pull_back_the_ideal_gradient(problem):
    flow = zoo.build(problem, Cosine())
    mixture = zoo.distribution(flow)
    groups = draw([mixture] * 2, SEVEN, generator())
    found = solve(groups, StackedMixtures(groups.mixtures), checkpoints(groups), 8)
    for i, (_, t, x, loss) in enumerate(groups):
        truth = reference.ideal_gradient(flow.with_path(groups.paths[i]), loss, x, t)
        error = remainder.norm(found.gradient[i] - truth.gradient) / remainder.norm(truth.gradient)
        assert error.max() < 1e-6
        torch.testing.assert_close(found.trajectory.end[i], truth.endpoint, rtol=1e-6, atol=1e-6)


def test_finer_steps_converge_at_the_order_of_the_tableau():
    groups, field = groups_of(3, 4)
    coarse, middle, fine = (solve(groups, field, checkpoints(groups), n).gradient for n in (4, 8, 16))
    ratio = remainder.norm(coarse - middle).median() / remainder.norm(middle - fine).median()
    assert ratio > 2 ** (remainder.TABLEAU.order - 1)


def test_in_one_dimension_without_a_change_of_sign_the_integral_form_is_the_error():
    mixture = zoo.distribution(zoo.build("gaussian", CondOT()))
    one = type(mixture)(torch.ones(1), mixture.means[:, :1], torch.full((1, 1, 1), 0.3, dtype=torch.float64))
    groups = draw([one] * 3, SEVEN, generator())
    # With a target far on the other side of the mean the two terms of the error have one sign.
    centre = groups.per_path("alpha", groups.t)[:, None, None] * one.means
    groups = dataclasses.replace(groups, target=groups.x - 50 * (groups.x - centre).sign())
    found = solve(groups, StackedMixtures(groups.mixtures), checkpoints(groups), 16)
    for i, (flow, t, x, loss) in enumerate(groups):
        greedy = gradients.greedy(flow, loss, x, t).gradient
        error = remainder.norm(greedy - found.gradient[i])
        torch.testing.assert_close(error, found.integral_form[i], rtol=1e-4, atol=0.0)


@pytest.mark.parametrize(("dim", "count"), [(1, 6), (2, 1), (5, 4), (16, 3)])
def test_every_bound_of_the_greedy_error_holds_and_the_sharper_is_smaller(dim, count):
    groups, field = groups_of(dim, count, number=10)
    found = solve(groups, field, checkpoints(groups), 16)
    greedy = [gradients.greedy(flow, loss, x, t) for flow, t, x, loss in groups]
    error = remainder.norm(torch.stack([e.gradient for e in greedy]) - found.gradient)
    alpha, zeta = groups.per_path("alpha", groups.t)[:, None], groups.per_path("zeta", groups.t)
    slope = remainder.norm(torch.stack([e.endpoint for e in greedy]) - groups.target)
    prior = a_priori(field, groups.x / alpha[..., None], zeta, slope, 1.0) / alpha
    coarse = solve(groups, field, checkpoints(groups), 8)
    slack = (found.integral_form - coarse.integral_form).abs() + 1e-9 * remainder.norm(found.gradient)
    assert (slack <= 0.05 * found.integral_form).double().mean() > 0.9
    assert (error <= found.integral_form + slack).all()
    assert (found.integral_form <= found.sup_form + slack).all()
    assert (error <= prior).all()


@pytest.mark.parametrize("wrong", [1.0, 1.1, -1.0, 0.0])
def test_the_integrals_of_the_vectors_are_the_remainders_for_the_right_curvature_alone(wrong):
    groups, field = groups_of(3, 4)
    plain = field.curvature
    field.curvature = lambda y, z: wrong * plain(y, z)
    found = solve(groups, field, checkpoints(groups), 16)
    for i, (flow, t, x, _) in enumerate(groups):
        time = torch.tensor(t, dtype=torch.float64)
        prediction, pull = flow.predict_vjp(x, time, flow.path.readout("target", time))
        end = found.trajectory.end[i]
        remainders = end - prediction, found.gradient[i] - pull(end - groups.target[i])
        for integral, exact in zip((found.moved[i], found.pulled_back[i]), remainders, strict=True):
            missed = remainder.norm(integral - exact) / remainder.norm(exact)
            torch.testing.assert_close(missed, torch.full_like(missed, abs(1 - wrong)), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("dim", "count"), [(1, 1), (2, 4), (6, 3)])
def test_the_constants_bound_the_curvature_and_its_jacobian(dim, count):
    groups, field = groups_of(dim, count, number=8)
    y, z = groups.x / groups.per_path("alpha", groups.t)[:, None, None], groups.per_path("zeta", groups.t)
    rho = torch.cdist(y, field.means).amax(2)
    moments = Constants.of(field).moments(rho, z[:, None])
    assert (remainder.norm(field.curvature(y, z)) <= bound_curvature(moments, z[:, None] ** 2) * (1 + 1e-9)).all()
    for axes in torch.eye(dim, dtype=torch.float64):
        _, pulled = remainder._curvature(field, y, z, axes.expand_as(y))
        assert (remainder.norm(pulled) <= bound_curvature_jacobian(moments, z[:, None] ** 2) * (1 + 1e-9)).all()


def test_a_bound_that_overflows_is_infinite():
    mixture = zoo.distribution(zoo.build("anisotropic", CondOT()))
    y = mixture.sample(SEVEN, generator())[None]
    found = a_priori(StackedMixtures([mixture]), y, torch.tensor([5.0], dtype=torch.float64), torch.ones(1, SEVEN), 1.0)
    assert torch.isinf(found).all()


@pytest.mark.parametrize("solver", ["euler", "rk4"])
@pytest.mark.parametrize("path", ["condot", "vp_linear"])
def test_defects_give_the_estimators_gradient_and_add_up_to_its_error(solver, path):
    flow = zoo.build("gaussian", zoo.ZOO_PATHS[path]())
    mixture, t = flow.mixture, 0.4
    x, target = mixture.sample(SEVEN, generator()), mixture.sample(SEVEN, generator(1))
    loss, times = losses.HalfSquaredDistance(target), torch.linspace(t, 1, 4, dtype=torch.float64)
    ends = [x]
    jacobians = []
    for begin, end in itertools.pairwise(times):
        ratio = [flow.path.alpha(s) ** 2 * mixture.eigenvalues[0] + flow.path.sigma(s) ** 2 for s in (begin, end)]
        basis = mixture.eigenvectors[0]
        jacobians.append(((basis * (ratio[1] / ratio[0]).sqrt()) @ basis.T).expand(SEVEN, -1, -1))
        centred = ends[-1] - flow.path.alpha(begin) * mixture.means
        ends.append(flow.path.alpha(end) * mixture.means + (jacobians[-1] @ centred[..., None])[..., 0])
    found, defects = stability.defects(flow, loss, torch.stack(ends), times, torch.stack(jacobians), solver)
    torch.testing.assert_close(
        found, gradients.end_to_end(flow, loss, x, t, steps=3, solver=solver).gradient, rtol=1e-12, atol=1e-12
    )
    error = remainder.norm(found - reference.ideal_gradient(flow, loss, x, t).gradient)
    norms = [torch.eye(6, dtype=torch.float64)[None]]
    for jacobian in jacobians[:-1]:
        norms.append(jacobian @ norms[-1])
    total = sum(torch.linalg.matrix_norm(j, ord=2) * d for j, d in zip(norms, defects, strict=True))
    assert (error <= total * (1 + 1e-9)).all()
    one, first = stability.defects(
        flow,
        loss,
        torch.stack([ends[0], ends[-1]]),
        times[[0, -1]],
        stability.compose(torch.stack(jacobians), 3),
        solver,
    )
    truth = reference.ideal_gradient(flow, loss, x, t).gradient
    torch.testing.assert_close(first[0], remainder.norm(one - truth), rtol=1e-8, atol=1e-11)


def test_the_logarithmic_norm_of_one_gaussian_is_that_of_its_map():
    mixture = zoo.distribution(zoo.build("gaussian", CondOT()))
    groups = draw([mixture], SEVEN, generator())
    times = checkpoints(groups)
    path = solve(groups, StackedMixtures([mixture]), times, 8).trajectory
    growth = stability.logarithmic_norm(path.weight, stability.spectrum(path.source_jacobian))[:, 0]
    zeta = groups.per_path("zeta", times)[:, 0]
    exact = ((mixture.eigenvalues.amax() + zeta[:-1] ** 2) / (mixture.eigenvalues.amax() + zeta[0] ** 2)).sqrt().log()
    torch.testing.assert_close(growth, exact[:, None].expand(-1, SEVEN), rtol=1e-5, atol=1e-7)


def test_the_lipschitz_constant_is_the_largest_norm_of_the_velocitys_jacobian():
    mixture, schedule = stack(3, 4, 1)[0], Cosine()
    y, z = mixture.sample(SEVEN, generator())[None], torch.tensor([0.7], dtype=torch.float64)
    t = schedule.time_from_zeta(z)
    _, jacobian = StackedMixtures([mixture]).source(y, z)
    found = stability.lipschitz(schedule, z, stability.spectrum(jacobian))
    flow, alpha = MixtureFlow(mixture, schedule), schedule.alpha(t)
    _, pull = flow.predict_vjp(alpha * y[0], t[0], schedule.readout("velocity", t[0]))
    whole = torch.stack([pull(axis.expand_as(y[0])) for axis in torch.eye(3, dtype=torch.float64)], 1)
    torch.testing.assert_close(found, torch.linalg.matrix_norm(whole, ord=2), rtol=1e-9, atol=1e-12)
