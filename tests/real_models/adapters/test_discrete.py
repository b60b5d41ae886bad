"""Networks of integer timesteps; the truth is a smooth function of time, of which the network is a table."""

import pytest
import torch

from analysis import errors, gradients, losses, paths, reference
from analysis.flow import from_noise_predictor
from real_models import adapters
from real_models.adapters.discrete import Interpolated
from tests.support.problems import f64, randn

N = 50
PATH = paths.from_betas(torch.linspace(1e-3, 0.2, N))
LOSS = losses.HalfSquaredDistance(f64([1.0, -0.5]))
X = randn(4, 2)


class Table(torch.nn.Module):
    """A network whose embedding holds a function of the timestep."""

    def __init__(self, function):
        super().__init__()
        self.embedding = torch.nn.Embedding(N, 1)
        self.embedding.weight.data = function(torch.arange(N, dtype=torch.float64) / (N - 1))[:, None]

    def forward(self, x, n, shift=None):
        said = torch.tanh(x + self.embedding(n))
        return said if shift is None else said + shift[:, None]


def smooth(s):
    return torch.sin(2 * s) - s**2


def flow(function=smooth, **options):
    return adapters.module.flow(
        Table(function).double(), PATH, prediction="source", time="data_to_noise", timesteps=N, **options
    )


def test_at_the_integers_it_is_the_network():
    network, n = Table(smooth).double(), torch.tensor([0, 1, 30, N - 1])
    assert torch.equal(Interpolated(network, N)(X, n.double()), network(X, n))


def test_a_quadratic_in_time_is_met_everywhere_and_its_slope_is_continuous():
    table = torch.arange(N).double() ** 2 / N

    def network(x, n):
        return table[n][:, None] + 0 * x

    made, time = Interpolated(network, N), torch.linspace(0, N - 1, 600, dtype=torch.float64)
    said = made(torch.zeros(600, 1).double(), time)[:, 0]
    torch.testing.assert_close(said, time**2 / N)


@pytest.mark.parametrize("conditioning", [None, {"shift": f64([0.1, 0.2, 0.3, 0.4])}])
def test_between_the_integers_it_is_near_the_smooth_function(conditioning):
    made = flow(conditioning=conditioning)
    shift = 0 if conditioning is None else conditioning["shift"][:, None]
    for t in (0.0, 0.313, 0.77, 1.0):
        expected = torch.tanh(X + smooth(f64(1 - t))) + shift
        torch.testing.assert_close(made.source(X, t), expected, atol=2e-5, rtol=0)
    rows = torch.tensor([2, 0])
    torch.testing.assert_close(made.select_rows(rows).source(X[rows], 0.4), made.source(X, 0.4)[rows])


def test_its_ideal_gradient_converges_and_is_near_that_of_the_smooth_function():
    same = from_noise_predictor(lambda x, t: torch.tanh(x + smooth(1 - t[:, None])), PATH)
    limits = {"tolerance": 1e-7, "max_error": 1e-5}  # ten times as fast as the defaults, which converge as well
    found, expected = (reference.ideal_gradient(f, LOSS, X, 0.3, **limits) for f in (flow(), same))
    assert float(found.error_bound.max()) < 1e-5
    assert float(errors.relative_error(found.gradient, expected.gradient).max()) < 1e-3


def test_a_float32_network_is_solved():
    made = adapters.module.flow(Table(smooth).float(), PATH, prediction="source", time="data_to_noise", timesteps=N)
    found = gradients.end_to_end(made, losses.HalfSquaredDistance(torch.zeros(2)), X.float(), 0.3, steps=4)
    assert found.gradient.dtype == torch.float32
    assert torch.isfinite(found.gradient).all()


def test_without_the_number_of_timesteps_the_refusal_names_it():
    plain = from_noise_predictor(lambda x, t: Table(smooth)(x, t), PATH)
    with pytest.raises(ValueError, match=r"it takes discrete timesteps.*timesteps=N"):
        gradients.greedy(plain, LOSS, X, 0.3)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timesteps": 3}, "timesteps must be at least 4"),
        ({"timesteps": N, "time_scale": 10.0}, "time_scale and time_shape must be left out"),
        ({"timesteps": N, "time_shape": "column"}, "time_scale and time_shape must be left out"),
    ],
)
def test_bad_options_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        adapters.module.flow(Table(smooth), PATH, **options)


def test_diffusers_networks_of_integers_are_interpolated():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDPMScheduler(num_train_timesteps=N)
    made = adapters.diffusers.flow(Table(smooth).double(), scheduler, integer_timesteps=True)
    torch.testing.assert_close(made.source(X, 0.313), torch.tanh(X + smooth(f64(1 - 0.313))), atol=2e-5, rtol=0)
    plain = adapters.diffusers.flow(Table(smooth).double(), scheduler)
    with pytest.raises(ValueError, match="it takes discrete timesteps"):
        gradients.greedy(plain, LOSS, X, 0.3)
