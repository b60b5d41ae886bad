"""A user's network with its own conventions of time against the same network asked by hand."""

import pytest
import torch

from analysis import gradients
from analysis.audit.model import double, with_function
from analysis.flow import PredictionFlow, from_velocity
from analysis.losses import HalfSquaredDistance
from analysis.paths import CondOT, Cosine, LinearVP, VarianceExploding
from real_models import adapters
from tests.support.adapters import DIM, Small, T, finite_at_the_ends, moved, plain, same_flow, same_reference
from tests.support.problems import EPS, distance, randn

NET = Small()
SHAPES = {"batch": lambda t: t, "column": lambda t: t[:, 0], "scalar": lambda t: t[None]}


class Shaped(torch.nn.Module):
    """Takes times of one shape only, and is told its unit of time."""

    def __init__(self, shape, scale):
        super().__init__()
        self.network, self.shape, self.scale = NET, shape, scale

    def forward(self, x, time):
        assert time.shape == {"batch": (len(x),), "column": (len(x), 1), "scalar": ()}[self.shape]
        return self.network(x, SHAPES[self.shape](time).expand(len(x)) / self.scale)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("direction", ["noise_to_data", "data_to_noise"])
def test_conventions_of_time_are_turned_into_ours(direction, shape, scale):
    options = {"time": direction, "time_scale": scale, "time_shape": shape}
    flow = adapters.module.flow(Shaped(shape, scale), CondOT(), **options)
    by_hand = (lambda x, t: NET(x, t)) if direction == "noise_to_data" else (lambda x, t: -NET(x, 1 - t))
    same_flow(flow, plain(by_hand, CondOT()))


def test_a_network_of_one_time_per_call_is_called_once_per_distinct_time():
    asked = []

    def network(x, time, y):
        asked.append((len(x), time.item()))
        return x * time + y

    y = randn(5, DIM)
    flow = adapters.module.flow(network, CondOT(), time_shape="scalar", conditioning={"y": y})
    x, t = randn(5, DIM, seed=1), torch.tensor([0.7, 0.2, 0.7, 0.2, 0.7], dtype=torch.float64)
    assert torch.equal(flow.velocity(x, t), x * t[:, None] + y)
    assert asked == [(2, 0.2), (3, 0.7)]


@pytest.mark.parametrize("direction", ["noise_to_data", "data_to_noise"])
@pytest.mark.parametrize("path", [CondOT(), Cosine()], ids=["condot", "cosine"])
def test_each_prediction_gives_the_velocity_by_hand(path, direction):
    def turned(t):
        return t if direction == "noise_to_data" else 1 - t

    def velocity(prediction):
        def by_hand(x, t):
            alpha, sigma, da, ds = (c(t)[:, None] for c in (path.alpha, path.sigma, path.d_alpha, path.d_sigma))
            value = NET(x, turned(t))
            if prediction == "target":
                return da * value + ds * (x - alpha * value) / sigma
            noise = value if prediction == "source" else -sigma * value
            return da * (x - sigma * noise) / alpha + ds * noise

        return by_hand

    for prediction in ("target", "source", "score"):
        flow = adapters.module.flow(NET, path, prediction=prediction, time=direction)
        same_flow(flow, plain(velocity(prediction), path))


def test_times_are_converted_before_they_are_rounded():
    seen = []

    def network(x, time):
        seen.append(time)
        return x

    flow = adapters.module.flow(network, CondOT(), time="data_to_noise")
    left = torch.tensor([1e-3, 1e-6, 1e-9], dtype=torch.float64)
    flow.velocity(torch.zeros(3, DIM), 1 - left)
    assert seen[0].dtype == torch.float32
    # float64 holds 1 - 1e-9 to 1e-16, which is 1e-7 of what is left; float32 would not tell it from 1.
    torch.testing.assert_close(seen[0].double(), left, rtol=2e-7, atol=0)


def test_half_precision_networks_keep_their_dtype():
    layer = torch.nn.Linear(DIM + 1, DIM).to(torch.bfloat16)
    flow = adapters.module.flow(lambda x, t: layer(torch.cat([x, t[:, None]], 1)), CondOT())
    x = randn(5, DIM).to(torch.bfloat16)
    expected = layer(torch.cat([x, T.to(torch.bfloat16)[:, None]], 1))
    assert torch.equal(flow.velocity(x, T), expected)


def test_conditioning_reaches_the_network_row_by_row():
    def network(x, time, shift, label, name):
        assert (shift.dtype, label.dtype, name) == (x.dtype, torch.int64, "any")
        return x * time[:, None] + shift + label[:, None]

    shift, label = randn(1, DIM).float(), torch.arange(5)
    conditioning = {"shift": shift, "label": label, "name": "any"}
    flow = adapters.module.flow(network, CondOT(), conditioning=conditioning)
    x = randn(5, DIM, seed=1)
    assert torch.equal(flow.velocity(x, T), x * T[:, None] + shift.double() + label[:, None])
    with pytest.raises(ValueError, match=r"conditioning 'label' must have 1 row or one per sample, 4; got 5"):
        flow.velocity(x[:4], 0.5)


@pytest.mark.parametrize("one", [torch.tensor(3), torch.tensor([3]), torch.tensor(3).numpy()])
def test_one_label_is_that_of_all_samples(one):
    table = torch.nn.Embedding(5, DIM).double()

    def network(x, time, label):
        return x * time[:, None] + table(label)

    flow = adapters.module.flow(network, CondOT(), conditioning={"label": one})
    x = randn(5, DIM, seed=1)
    assert torch.equal(flow.velocity(x, T), x * T[:, None] + table.weight[3])
    number = adapters.module.flow(network, CondOT(), conditioning={"label": 3})
    with pytest.raises(ValueError, match=r"refuses 'label' = 3: a label is a tensor, such as torch.tensor\(\[1\]\)"):
        gradients.greedy(number, HalfSquaredDistance(x[0]), x, 0.5)


@pytest.mark.parametrize("given", [3, "label", [torch.tensor([3])], torch.tensor([3]), {3: torch.tensor([3])}])
@pytest.mark.parametrize("adapt", [adapters.module.flow, adapters.edm.flow])
def test_conditioning_that_is_no_dictionary_of_names_is_refused(adapt, given):
    arguments = {"path": CondOT()} if adapt is adapters.module.flow else {}
    with pytest.raises(TypeError, match=r"^conditioning must be a dictionary from names of the network's arguments"):
        adapt(lambda x, time: x, conditioning=given, **arguments)


def test_flat_events_are_the_images_of_the_network():
    image = Small(6)
    x = randn(5, 6, seed=1)
    flat = adapters.module.flow(image, CondOT(), event_shape=(1, 2, 3), flat=True)
    square = adapters.module.flow(image, CondOT(), event_shape=(1, 2, 3))
    assert (flat.event_shape, square.event_shape) == ((6,), (1, 2, 3))
    assert torch.equal(flat.velocity(x, T), square.velocity(x.reshape(5, 1, 2, 3), T).flatten(1))
    assert torch.equal(flat.velocity(x, T), image(x, T))
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 2, 3\)"):
        square.velocity(x, 0.5)


@pytest.mark.parametrize("prediction", ["velocity", "target", "source", "score"])
def test_a_network_on_another_path_is_asked_at_equal_zeta_and_radius(prediction):
    flow = adapters.module.flow(NET, LinearVP(), prediction=prediction)
    for path in (CondOT(), VarianceExploding()):
        there = flow.with_path(path)
        assert isinstance(there, PredictionFlow)
        same_flow(there, moved(flow, path), 1e-11, path.time_from_zeta(LinearVP().zeta(T)))


@pytest.mark.parametrize("prediction", ["velocity", "target", "source", "score"])
def test_the_ends_of_time_are_finite(prediction):
    flow = adapters.module.flow(NET, CondOT(), prediction=prediction)
    finite_at_the_ends(flow)
    finite_at_the_ends(flow.with_path(Cosine()))


def test_the_reference_of_an_adapted_network_is_that_of_the_plain_one():
    flow = adapters.module.flow(Shaped("batch", 1000.0), CondOT(), time="data_to_noise", time_scale=1000)
    by_hand = from_velocity(lambda x, t: -NET(x, 1 - t), CondOT())
    same_reference(flow, by_hand)


def test_the_audit_s_float64_copy_of_an_adapted_module_is_one():
    flow = adapters.module.flow(Small().float(), CondOT(), time="data_to_noise")
    twin, x = with_function(flow, double(flow.function)), randn(5, DIM)
    found = twin.velocity(x, T)
    assert found.dtype == torch.float64
    assert distance(found, flow.function.network.double()(x, 1 - T).neg().detach()) <= 64 * EPS
    function = adapters.module.flow(lambda x, t: x, CondOT())
    # It may hold a network of another dtype, which no copy reaches.
    assert double(function.function) is function.function


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time": "backwards"}, "time must be one of data_to_noise, noise_to_data"),
        ({"time_shape": "(B,)"}, "time_shape must be one of batch, column, scalar"),
        ({"time_scale": 0}, "time_scale must be positive"),
        ({"prediction": "epsilon"}, "prediction must be one of score, source, target, velocity"),
        ({"event_shape": (3, 0)}, "event_shape must be an integer of at least 1"),
        ({"flat": True}, "event_shape must be given"),
        ({"path": "condot"}, "path must be an analysis.paths.AffinePath"),
        ({"network": 3}, "network must be an nn.Module or a function"),
        ({"t_min": 0.9, "t_max": 0.1}, "t_min, t_max must satisfy"),
    ],
)
def test_conventions_that_are_unknown_are_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        adapters.module.flow(**({"network": NET, "path": CondOT()} | options))


def test_a_prediction_of_another_shape_or_kind_is_refused():
    for network, got in ((lambda x, t: x[:, :2], r"\(5, 2\)"), (lambda x, t: (x, t), "tuple")):
        with pytest.raises(
            ValueError, match=rf"network must return a tensor of its input's shape, \(5, 3\); got {got}"
        ):
            adapters.module.flow(network, CondOT()).velocity(randn(5, DIM), 0.5)
    with pytest.raises(ValueError, match="float32"):
        adapters.module.flow(lambda x, t: x.float(), CondOT()).velocity(randn(5, DIM), 0.5)
    with pytest.raises(ValueError, match="does not depend on x"):
        adapters.module.flow(lambda x, t: x.detach(), CondOT()).predict_vjp(
            randn(5, DIM), T, CondOT().readout("velocity", T)
        )
