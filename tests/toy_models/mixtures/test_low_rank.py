"""Low-rank mixtures and their flows against full covariances, automatic differentiation and the reference."""

import math

import pytest
import torch

from analysis import gradients, losses, reference
from analysis.paths import PREDICTIONS, CondOT, Cosine, LinearVP
from tests.support.low_rank import random_low_rank
from tests.support.problems import EPS, central_difference, distance, every_path, f64, randn, states
from toy_models import MixtureFlow
from toy_models.mixtures.low_rank import LowRankMixture, LowRankMixtureFlow, apply_own

PATHS = every_path()
TIMES = {
    "one": f64(0.3),
    "start": f64(0.0),
    "end": f64(1.0),
    "per sample": torch.linspace(0.1, 0.9, 6, dtype=torch.float64),
    "blocks": f64([0.2] * 3 + [0.7] * 3),
    "same": f64([0.4] * 6),
}
MIXTURE = random_low_rank(4, 5, 2)


def pair(path, mixture=MIXTURE):
    return LowRankMixtureFlow(mixture, path), MixtureFlow(mixture.dense(), path)


def readouts(path, t):
    finite = [name for name in PREDICTIONS if bool((path.sigma(t) > 0).all()) or name == "target"]
    return [*(path.readout(name, t) for name in finite), path.combination(0.7 + t, -1.3 * t, t)]


@pytest.mark.parametrize("name", PATHS)
@pytest.mark.parametrize("when", TIMES)
def test_flow_equals_that_of_full_covariances(name, when):
    path, t, v = PATHS[name], TIMES[when], randn(6, 5, seed=9)
    (flow, dense), x = pair(path), states(MIXTURE, path, t, 6)
    for readout in readouts(path, t):
        value, pull = flow.predict_vjp(x, t, readout)
        expected, expected_pull = dense.predict_vjp(x, t, readout)
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(pull(v), expected_pull(v), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(flow.predict(x, t, readout), value, rtol=0, atol=0)
        divergence = flow.divergence(x, t, readout)
        torch.testing.assert_close(divergence, dense.divergence(x, t, readout), rtol=1e-12, atol=1e-11)
    assert distance(flow.log_prob(x, t), dense.log_prob(x, t)) <= 1e-13


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 2), (3, 2, 4), (5, 12, 3)], ids=str)
def test_any_rank_and_number_of_components(shape):
    mixture = random_low_rank(*shape, thin=1e-3)
    (flow, dense), x, v = pair(Cosine(), mixture), mixture.sample(8, torch.Generator().manual_seed(0)), randn(8, 1)
    v = v.expand_as(x)
    readout = Cosine().readout("velocity", f64(0.6))
    value, pull = flow.predict_vjp(x, f64(0.6), readout)
    expected, expected_pull = dense.predict_vjp(x, f64(0.6), readout)
    assert distance(value, expected) <= 1e-11
    assert distance(pull(v), expected_pull(v)) <= 1e-10
    assert distance(mixture.log_prob(x), dense.mixture.log_prob(x)) <= 1e-11


def test_leading_axes_and_broadcast_times():
    flow, x, v = pair(CondOT())[0], randn(2, 5, 5), randn(2, 5, 5, seed=4)
    for t in (f64([[0.3], [0.8]]), torch.linspace(0.1, 0.9, 10).double().reshape(2, 5)):
        flat_t = t.expand(2, 5).reshape(-1)
        readout, flat = (flow.path.readout("velocity", s) for s in (t, flat_t))
        value, pull = flow.predict_vjp(x, t, readout)
        expected, expected_pull = flow.predict_vjp(x.reshape(10, 5), flat_t, flat)
        torch.testing.assert_close(value.reshape(10, 5), expected, rtol=0, atol=64 * EPS)
        torch.testing.assert_close(pull(v).reshape(10, 5), expected_pull(v.reshape(10, 5)), rtol=0, atol=64 * EPS)
        divergence = flow.divergence(x, t, readout)
        assert divergence.shape == (2, 5)
        assert distance(divergence.flatten(), flow.divergence(x.reshape(10, 5), flat_t, flat)) <= 1e-13


def test_score_is_the_gradient_of_log_prob():
    flow, t = pair(LinearVP())[0], f64(0.7)
    x, direction = states(MIXTURE, flow.path, t, 6), randn(6, 5, seed=3)
    slope = central_difference(lambda z: flow.log_prob(z, t), x, direction, 1e-3)
    assert distance((flow.score(x, t) * direction).sum(1), slope) <= 1e-9


def test_wide_directions_of_thin_components_keep_their_digits():
    # Variances span eight decades. In the factors' span |D^{-1/2} z|^2 is 1e8 times the quadratic form that is wanted.
    thin, f, z = 1e-6, 10 * randn(6, 2, seed=1), randn(4, 2, seed=2)
    mixture = LowRankMixture(f64([1.0]), randn(1, 6), f[None], torch.full((1, 6), thin, dtype=torch.float64))
    x, gram, eye = mixture.means + z @ f.T, f.T @ f, torch.eye(2).double()
    coordinates = torch.linalg.solve(gram + thin * eye, gram @ z.T).T
    log_det = torch.linalg.slogdet(gram / thin + eye)[1] + 6 * math.log(2 * math.pi * thin)
    assert distance(mixture.log_prob(x), -((z * coordinates).sum(1) + log_det) / 2) <= 1e-13
    # The score is as good as the condition number of S allows: F^T S^{-1} F z in place of S^{-1} F z.
    found = LowRankMixtureFlow(mixture, CondOT()).score(x, 1.0)
    assert distance(found @ f, -coordinates) <= 100 * EPS * float(gram.diagonal().max()) / thin


def test_the_reference_certifies_it():
    (flow, dense), x = pair(CondOT()), states(MIXTURE, CondOT(), 0.4, 3)
    loss = losses.HalfSquaredDistance(MIXTURE.means[0])
    found, expected = (reference.ideal_gradient(f, loss, x, 0.4, tolerance=1e-10) for f in (flow, dense))
    assert found.tier == "certified"
    assert distance(found.gradient, expected.gradient) <= 1e-8
    greedy = gradients.greedy(flow, loss, x, 0.4).gradient
    assert distance(greedy, gradients.greedy(dense, loss, x, 0.4).gradient) <= 1e-12


def test_sample_moments_and_seeds():
    n, mixture = 40_000, MIXTURE
    sample = mixture.sample(n, torch.Generator().manual_seed(1))
    mean = mixture.weights @ mixture.means
    spread = mixture.means - mean
    within = mixture.dense().covariances
    covariance = torch.einsum("k,kij->ij", mixture.weights, within + spread[:, :, None] * spread[:, None])
    variances = covariance.diagonal()
    assert ((sample.mean(0) - mean).abs() <= 5 * (variances / n).sqrt()).all()
    assert ((sample.T.cov() - covariance).abs() <= 5 * (2 * variances[:, None] * variances / n).sqrt()).all()
    assert torch.equal(sample, mixture.sample(n, torch.Generator().manual_seed(1)))


def test_apply_own_is_a_product_per_row():
    matrices, k, z = randn(3, 4, 2), torch.tensor([2, 0, 2, 1, 1]), randn(5, 2, seed=1)
    assert distance(apply_own(matrices, k, z), (matrices[k] @ z[..., None])[..., 0]) <= 1e-15


def test_float32_copy_and_other_path():
    flow, x = pair(CondOT())[0], randn(5, 5)
    low = flow.to(torch.float32, "cpu").velocity(x.float(), 0.4)
    assert low.dtype == torch.float32
    assert distance(low.double(), flow.velocity(x, 0.4)) <= 500 * torch.finfo(torch.float32).eps
    assert torch.equal(flow.with_path(Cosine()).velocity(x, 0.4), pair(Cosine())[0].velocity(x, 0.4))


GOOD = {"weights": f64([0.5, 0.5]), "means": randn(2, 3), "factors": randn(2, 3, 1), "diagonals": torch.ones(2, 3)}
BAD = [
    ("weights", f64([0.5, 0.6]), "weights must be a 1-D distribution"),
    ("means", randn(3, 3), r"means must have shape \(2, d\), got \(3, 3\)"),
    ("factors", randn(2, 4, 1), r"factors must have shape \(2, 3, r\), got \(2, 4, 1\)"),
    ("factors", randn(2, 3), r"factors must have shape \(2, 3, r\), got \(2, 3\)"),
    ("factors", randn(2, 3, 0), r"factors must have shape \(2, 3, r\), got \(2, 3, 0\)"),
    ("factors", torch.full((2, 3, 1), math.nan), "factors must be finite"),
    ("diagonals", torch.ones(3), r"diagonals must have shape \(2, 3\), got \(3,\)"),
    ("diagonals", torch.zeros(2, 3), "diagonals must be positive; the smallest is 0"),
]


@pytest.mark.parametrize(("name", "bad", "message"), BAD)
def test_bad_mixtures_are_refused(name, bad, message):
    with pytest.raises(ValueError, match=message):
        LowRankMixture(**GOOD | {name: bad})


def test_bad_states_are_refused():
    flow = pair(CondOT())[0]
    with pytest.raises(ValueError, match=r"x must have shape \(B, 5\)"):
        flow.velocity(randn(2, 4), 0.5)
    with pytest.raises(ValueError, match=r"t must be a float or have shape \(2,\)"):
        flow.log_prob(randn(2, 5), f64([0.1, 0.2, 0.3]))
