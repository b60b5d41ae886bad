"""The leading term of greedy's error: the curvature against a closed form, the estimate against true errors."""

import math

import pytest
import torch

from analysis import errors, gradients, losses, reference
from analysis.bounds.leading_term import curvature, leading_term, remainder
from analysis.flow import PredictionFlow, from_velocity
from analysis.paths import CondOT, Cosine, LinearVP, VarianceExploding
from tests.support.problems import (
    EPS,
    FromFormulas,
    distance,
    every_path,
    f64,
    randn,
    random_mixture,
    relative_l2,
    states,
)
from toy_models import MixtureFlow
from toy_models.problems import zoo

PATHS = every_path()
T = f64([0.2, 0.4, 0.6, 0.8, 0.95])
LOSS = losses.HalfSquaredDistance(f64([1.0, -0.5, 0.3]))


def closed_form(mixture, y, z):
    """y'' = -S - z^2 (grad tr H + H S), S and H gradient and Hessian of the log-density of y: itself by autograd."""

    def log_density(y, z):
        covariances = mixture.covariances + z**2 * torch.eye(mixture.dim, dtype=y.dtype)
        components = torch.distributions.MultivariateNormal(mixture.means, covariances)
        return torch.logsumexp(mixture.weights.log() + components.log_prob(y), 0)

    hessian = torch.func.hessian(log_density)
    rows = []
    for one, at in zip(y, z, strict=True):
        s, h = torch.func.grad(log_density)(one, at), hessian(one, at)
        rows.append(-s - at**2 * (torch.func.grad(lambda y, z: hessian(y, z).trace())(one, at) + h @ s))
    return torch.stack(rows)


@pytest.mark.parametrize("name", PATHS)
def test_curvature_of_a_mixture_is_the_closed_form_on_every_path(name):
    path, mixture = PATHS[name], random_mixture(3, 3)
    flow, x = MixtureFlow(mixture, path), states(mixture, path, T, 5)
    expected = closed_form(mixture, x / path.alpha(T)[:, None], path.zeta(T))
    assert relative_l2(curvature(flow, x, T), expected).max() <= 1e-11
    learned = PredictionFlow(FromFormulas(flow, "velocity"), path)
    assert relative_l2(curvature(learned, x, T), expected).max() <= 1e-9


@pytest.mark.parametrize("prediction", ["velocity", "target", "source", "score"])
def test_a_wrapped_prediction_has_the_estimate_of_its_flow(prediction):
    mixture = random_mixture(3, 3)
    flow, x = MixtureFlow(mixture, Cosine()), states(mixture, Cosine(), T, 5)
    learned = PredictionFlow(FromFormulas(flow, prediction), Cosine(), prediction)
    expected = leading_term(flow, LOSS, x, T)
    assert distance(leading_term(learned, LOSS, x, T), expected) <= 1e-11
    assert (
        distance(
            leading_term(learned.with_path(CondOT()), LOSS, x, 0.4),
            leading_term(flow.with_path(CondOT()), LOSS, x, 0.4),
        )
        <= 1e-10
    )


def test_estimate_is_the_gradient_of_the_inner_product():
    flow, x, v = MixtureFlow(random_mixture(3, 3), CondOT()), randn(5, 3, seed=1), randn(5, 3, seed=2)
    endpoint = flow.target(x, T)

    def product(y):
        return ((flow.target(y, T) - LOSS.target) * remainder(flow, y, T)).sum(1)

    h = EPS**0.2 / 8
    near, far = (product(x + k * h * v) - product(x - k * h * v) for k in (1, 2))
    expected = (8 * near - far) / (12 * h)
    assert endpoint.shape == x.shape
    assert ((leading_term(flow, LOSS, x, T) * v).sum(1) - expected).abs().max() <= 1e-9 * expected.abs().max()


# Where the thinnest direction is well resolved: zeta^2 below a tenth of the least variance.
@pytest.mark.parametrize(
    ("problem", "zeta"),
    [("gaussian", 0.05), ("overlapping", 0.1), ("product256", 0.1), ("radial32", 0.1), ("ring8", 0.1),
     ("separated", 0.1), ("digits", 0.01)],
)  # fmt: skip
def test_estimate_is_within_a_tenth_of_the_true_error_near_the_data(problem, zeta):
    drawn, generator, n = zoo.subject(problem, "condot"), torch.Generator().manual_seed(3), 24
    zetas = zeta * f64([1.0, 0.5])
    t = drawn.flow.path.time_from_zeta(zetas)
    x, t = drawn.states(t, n, generator), t.repeat_interleave(n)
    loss = drawn.loss(2, n, generator)
    truth = reference.ideal_gradient(drawn.reference_flow, loss, x, t, max_error=math.inf).gradient
    true = truth - gradients.greedy(drawn.flow, loss, x, t).gradient
    wrong = errors.relative_error(leading_term(drawn.flow, loss, x, t), true).unflatten(0, (2, n)).median(1).values
    assert wrong[0] <= 0.1
    # What is left is of fourth order: halving zeta leaves a quarter of the relative error, or nearly.
    assert 3 <= wrong[0] / wrong[1] <= 4.5


def test_the_thinnest_direction_decides_the_accuracy():
    lam = 0.04
    flow = zoo.GaussianFlow(torch.zeros(1).double(), f64([[lam]]), CondOT())
    loss, x = losses.Linear(f64([1.0])), f64([[0.3]])
    for zeta in (0.02, 0.1, 0.4):
        t = float(flow.path.time_from_zeta(zeta))
        ratio = math.sqrt(lam / (lam + zeta**2))  # D Phi = alpha^-1 times this, D x1hat times its square
        true = (ratio - ratio**2) / (1 / (1 + zeta))
        estimate = float(leading_term(flow, loss, x, t))
        # y = (lam + z^2)^(1/2) c, so y'' = c lam (lam + z^2)^(-3/2).
        assert estimate == pytest.approx(zeta**2 / 2 * lam / (lam + zeta**2) ** 2 * (1 + zeta), rel=1e-12)
        assert estimate / true == pytest.approx(1, abs=zeta**2 / lam)


def test_a_path_that_ends_with_noise_is_expanded_about_its_own_end():
    path, mixture, t = PATHS["user"], random_mixture(3, 3), f64([0.96, 0.96, 0.96, 0.98, 0.98, 0.98])
    flow, x = MixtureFlow(mixture, path), states(mixture, path, t, 6)
    truth = reference.ideal_gradient(flow, LOSS, x, t)
    true = truth.gradient - gradients.greedy(flow, LOSS, x, t).gradient
    moved = truth.endpoint - flow.target(x, t)
    assert relative_l2(remainder(flow, x, t), moved).max() <= 1e-2
    assert relative_l2(leading_term(flow, LOSS, x, t), true).max() <= 0.1


def test_per_sample_times_agree_with_one_by_one_and_events_of_any_shape():
    mixture = random_mixture(3, 4)
    flow, x = MixtureFlow(mixture, LinearVP()), states(mixture, LinearVP(), T, 5)
    loss = losses.HalfSquaredDistance(torch.zeros(4).double())
    together = leading_term(flow, loss, x, T)
    for i in range(5):
        assert distance(leading_term(flow, loss, x[i : i + 1], float(T[i])), together[i : i + 1]) <= 1e-11
    image = from_velocity(lambda x, t: flow.velocity(x.flatten(1), t).reshape(x.shape), LinearVP())
    square = losses.HalfSquaredDistance(torch.zeros(2, 2).double())
    assert distance(leading_term(image, square, x.reshape(5, 2, 2), T).flatten(1), together) <= 1e-10


def test_float32_models_keep_their_dtype():
    mixture, x = random_mixture(3, 3), randn(5, 3, seed=4)
    low = leading_term(MixtureFlow(mixture, CondOT(), torch.float32), LOSS, x.float(), T)
    assert low.dtype == torch.float32
    assert relative_l2(low.double(), leading_term(MixtureFlow(mixture, CondOT()), LOSS, x, T)).max() <= 1e-3


def test_a_linear_loss_and_a_linear_flow_need_no_second_derivative():
    layer = torch.nn.Linear(3, 3).double()
    flow, x = from_velocity(lambda x, t: layer(x), CondOT()), randn(5, 3, seed=5)
    assert torch.isfinite(leading_term(flow, losses.Linear(f64([1.0, 0.0, 2.0])), x, T)).all()


@pytest.mark.parametrize(
    ("path", "t", "where"),
    [(CondOT(), 0.0, "t = 0"), (Cosine(), f64([0.5, 0.0, 0.5, 0.5]), "t = 0"), (LinearVP(), 1.0, "t = 1")],
)
def test_times_at_which_zeta_is_singular_are_refused(path, t, where):
    flow = MixtureFlow(random_mixture(2, 3), path)
    for function in (lambda x: curvature(flow, x, t), lambda x: leading_term(flow, LOSS, x, t)):
        with pytest.raises(ValueError, match=rf"zeta = sigma/alpha and its derivative .* {where}$"):
            function(randn(4, 3))


def test_times_at_which_zeta_is_regular_are_not():
    x, mixture = randn(4, 3), random_mixture(2, 3)
    for path, t in ((CondOT(), 1.0), (LinearVP(), 0.0), (VarianceExploding(10.0), 0.0), (LinearVP(), 1 - 1e-6)):
        assert torch.isfinite(leading_term(MixtureFlow(mixture, path), LOSS, x, t)).all()
    assert not leading_term(MixtureFlow(mixture, CondOT()), LOSS, x, 1.0).any()


def test_bad_states_times_and_losses_are_refused():
    flow = MixtureFlow(random_mixture(2, 3), CondOT())
    with pytest.raises(ValueError, match="x must be finite"):
        leading_term(flow, LOSS, torch.full((2, 3), torch.nan).double(), 0.4)
    with pytest.raises(ValueError, match="t must"):
        leading_term(flow, LOSS, randn(2, 3), f64([0.1, 0.2, 0.3]))
    with pytest.raises(ValueError, match="loss must return one value per sample"):
        leading_term(flow, lambda x: x.sum(), randn(2, 3), 0.4)
