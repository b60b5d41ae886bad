"""The leading term of greedy's error: the curvature against a closed form, the estimate against true errors."""

import math
import warnings

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from analysis import errors, gradients, losses, reference
from analysis.bounds.leading_term import curvature, leading_term, remainder
from analysis.flow import PredictionFlow, Reparametrized, from_velocity
from analysis.paths import CondOT, Cosine, LinearVP, UserPath, VarianceExploding
from real_models import adapters
from real_models.adapters.schedules import SchedulePath
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


class NoForward(torch.autograd.Function):
    """tanh by hand, as an operation that knows no forward-mode derivative."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.tanh()

    @staticmethod
    def backward(ctx, v):
        return v * (1 - ctx.saved_tensors[0].tanh() ** 2)


class OnlyOnce(NoForward):
    """The same, whose derivative cannot be differentiated."""

    backward = staticmethod(torch.autograd.function.once_differentiable(NoForward.backward))


def network(nonlinearity):
    weight = randn(3, 3, seed=6)
    return from_velocity(lambda x, t: nonlinearity(x @ weight + t[:, None]) * (1 + t[:, None]), CondOT())


@pytest.mark.parametrize("t", [0.4, T], ids=["one time", "times"])
def test_an_operation_without_forward_mode_falls_back_to_two_backward_passes(t):
    x = randn(5, 3, seed=7)
    assert distance(curvature(network(NoForward.apply), x, t), curvature(network(torch.tanh), x, t)) <= 64 * EPS
    expected = leading_term(network(torch.tanh), LOSS, x, t)
    assert distance(leading_term(network(NoForward.apply), LOSS, x, t), expected) <= 256 * EPS


def test_what_cannot_be_differentiated_twice_is_refused():
    with pytest.raises(ValueError, match="flow must be differentiable twice in x and t"):
        curvature(network(OnlyOnce.apply), randn(5, 3), 0.4)


def test_no_graph_is_recorded_unless_asked():
    flow, x = network(torch.tanh), randn(5, 3)
    assert not curvature(flow, x, 0.4).requires_grad
    assert curvature(flow, x.requires_grad_(), 0.4).requires_grad


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


class Plain(torch.nn.Module):
    """A small network, which TorchScript can compile."""

    def __init__(self):
        super().__init__()
        self.first, self.last = torch.nn.Linear(4, 16).double(), torch.nn.Linear(16, 3).double()
        generator = torch.Generator().manual_seed(0)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64) / p.shape[-1] ** 0.5

    def forward(self, x, t):
        return self.last(torch.tanh(self.first(torch.cat([x, t[:, None]], 1))))


class Attention(torch.nn.Module):
    """Numbers of one sample that attend to each other, by torch's fused kernel or by the formula."""

    def __init__(self, fused):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.fused, self.weight = fused, torch.randn(3, 4, generator=generator, dtype=torch.float64)

    def forward(self, x, t):
        q, k, v = ((x + t[:, None])[:, None, :, None] * w for w in self.weight)
        if self.fused:
            return torch.nn.functional.scaled_dot_product_attention(q, k, v).mean(3)[:, 0]
        return (torch.softmax(q @ k.mT / q.shape[-1] ** 0.5, -1) @ v).mean(3)[:, 0]


def test_a_scripted_network_has_the_estimate_of_the_eager_one_after_any_number_of_runs():
    """Forward-mode derivatives of TorchScript are wrong from its third run on: pytorch issues 73972 and 84681."""
    net, x = Plain(), randn(5, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        scripted = torch.jit.script(net)
    found, expected = (from_velocity(function, CondOT()) for function in (scripted, net))
    for _ in range(4):
        assert distance(leading_term(found, LOSS, x, 0.3), leading_term(expected, LOSS, x, 0.3)) <= 1e-12
        one, other = (gradients.greedy(flow, LOSS, x, 0.3).gradient for flow in (found, expected))
        assert distance(one, other) <= 1e-12


def test_a_network_with_checkpointed_activations_has_the_estimate_of_the_plain_one():
    net, x = Plain(), randn(5, 3)
    kept = from_velocity(lambda x, t: checkpoint(net, x, t, use_reentrant=False), CondOT())
    assert distance(leading_term(kept, LOSS, x, 0.3), leading_term(from_velocity(net, CondOT()), LOSS, x, 0.3)) <= 1e-12


def test_attention_has_the_estimate_of_its_formula():
    x = randn(5, 3)
    fused, formula = (leading_term(from_velocity(Attention(fused), CondOT()), LOSS, x, 0.4) for fused in (True, False))
    assert distance(fused, formula) <= 1e-12


@pytest.mark.parametrize("t", [0.4, T])
def test_a_network_of_one_time_per_call_has_the_estimate_of_one_that_takes_many(t):
    net, x = Plain(), randn(5, 3)
    scalar = adapters.module.flow(lambda x, t: net(x, t.expand(len(x))), CondOT(), time_shape="scalar")
    assert distance(leading_term(scalar, LOSS, x, t), leading_term(from_velocity(net, CondOT()), LOSS, x, t)) <= 1e-12


@pytest.mark.parametrize("new", [Cosine(), VarianceExploding(5.0)])
def test_a_flow_moved_from_a_path_whose_times_are_found_by_root_finding_has_the_estimate_of_a_closed_form(new):
    same = UserPath(lambda t: t, lambda t: 1 - t)
    table = SchedulePath(lambda t: t, lambda t: 1 - t)
    expected = leading_term(from_velocity(Plain(), CondOT()).with_path(new), LOSS, randn(5, 3), T)
    for path in (same, table):
        flow = from_velocity(Plain(), path)
        for moved in (flow.with_path(new), Reparametrized(flow, new)):
            assert distance(leading_term(moved, LOSS, randn(5, 3), T), expected) <= 1e-6


def test_what_can_be_differentiated_once_only_is_refused_in_a_sentence():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.sin()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return g * ctx.saved_tensors[0].cos()

    with pytest.raises(ValueError, match="flow must be differentiable twice in x and t, and is not"):
        leading_term(from_velocity(lambda x, t: Once.apply(x), CondOT()), LOSS, randn(2, 3), 0.4)
