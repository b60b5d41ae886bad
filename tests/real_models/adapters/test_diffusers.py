"""diffusers' networks with their schedulers against formulas written out and the schedulers' own conversions."""

from types import SimpleNamespace

import pytest
import torch

from analysis.paths import CondOT, from_alphas_cumprod
from real_models import adapters
from tests.support.adapters import DIM, Small, T, finite_at_the_ends, moved, plain, same_flow, same_reference
from tests.support.problems import EPS, central_difference, distance, f64, randn

library = pytest.importorskip("diffusers")

NET = Small(unit=1000.0)
LAST = 999
STEPS = torch.tensor([0, 1, 17, 500, 998, 999])
TIMES = 1 - STEPS.double() / LAST
BETAS = {
    "linear": {},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "squaredcos": {"beta_schedule": "squaredcos_cap_v2"},
    "zero_snr": {"rescale_betas_zero_snr": True},
}


def predictions(kind, value, x, alpha, sigma):
    """Target and source from what the network returned, as in ``DDIMScheduler.step``."""
    if kind == "epsilon":
        return (x - sigma * value) / alpha, value
    if kind == "sample":
        return value, (x - alpha * value) / sigma
    return alpha * x - sigma * value, alpha * value + sigma * x


def velocity(kind, path):
    def by_hand(x, t):
        alpha, sigma, da, ds = (c(t)[:, None] for c in (path.alpha, path.sigma, path.d_alpha, path.d_sigma))
        clean, noise = predictions(kind, NET(x, LAST * (1 - t)), x, alpha, sigma)
        return da * clean + ds * noise

    return by_hand


@pytest.mark.parametrize("betas", BETAS)
def test_the_path_goes_through_every_timestep(betas):
    scheduler = library.DDIMScheduler(**BETAS[betas])
    path = from_alphas_cumprod(scheduler.alphas_cumprod)
    t = 1 - torch.arange(LAST + 1).double() / LAST
    cumulative = scheduler.alphas_cumprod.double()
    torch.testing.assert_close(path.alpha(t), cumulative.sqrt(), rtol=0, atol=8 * EPS)
    torch.testing.assert_close(path.sigma(t), (1 - cumulative).sqrt(), rtol=0, atol=8 * EPS)
    torch.testing.assert_close(path.time_from_zeta(path.zeta(t)), t, rtol=0, atol=1e-12)
    inside = t[1:-1] + 0.3 / LAST
    for scale, slope in ((path.alpha, path.d_alpha), (path.sigma, path.d_sigma)):
        expected = central_difference(scale, inside, torch.ones_like(inside), 1e-5)
        assert distance(slope(inside), expected) <= 1e-6


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("name", ["DDPMScheduler", "DDIMScheduler", "DPMSolverMultistepScheduler"])
def test_at_the_timesteps_predictions_are_the_scheduler_s(name, kind):
    scheduler = getattr(library, name)(prediction_type=kind)
    flow, x = adapters.diffusers.flow(NET, scheduler), randn(6, DIM)
    cumulative = scheduler.alphas_cumprod.double()[STEPS, None]
    clean, noise = predictions(kind, NET(x, STEPS.double()), x, cumulative.sqrt(), (1 - cumulative).sqrt())
    # The network is told n to a round-off of 1000, and sigma is 0.01 at least.
    torch.testing.assert_close(flow.target(x, TIMES), clean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(flow.source(x, TIMES), noise, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_the_target_is_what_the_scheduler_calls_the_original_sample(kind):
    scheduler = library.DDIMScheduler(prediction_type=kind, clip_sample=False)
    scheduler.set_timesteps(10)
    flow, x = adapters.diffusers.flow(NET, scheduler), randn(2, DIM)
    for n in (100, 500, 900):
        step = scheduler.step(NET(x, f64([n, n])).detach(), n, x)
        # The scheduler's square roots are float32's, and alpha is 0.02 at n = 900.
        assert distance(flow.target(x, 1 - n / LAST), step.pred_original_sample) <= 1e-5


@pytest.mark.parametrize("betas", BETAS)
@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
def test_between_timesteps_the_flow_is_that_of_the_interpolated_path(kind, betas):
    scheduler = library.DDIMScheduler(prediction_type=kind, **BETAS[betas])
    flow = adapters.diffusers.flow(NET, scheduler)
    same_flow(flow, plain(velocity(kind, flow.path), flow.path), 1e-9)
    there = adapters.diffusers.flow(NET, scheduler, path=CondOT())
    same_flow(there, moved(flow, CondOT()), 1e-9)


@pytest.mark.parametrize("kind", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("betas", BETAS)
def test_the_ends_of_time_are_finite(betas, kind):
    flow = adapters.diffusers.flow(NET, library.DDIMScheduler(prediction_type=kind, **BETAS[betas]))
    assert flow.t_min == (1 / LAST if (betas, kind) == ("zero_snr", "epsilon") else 0)
    finite_at_the_ends(flow)
    finite_at_the_ends(flow.with_path(CondOT()))


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_flow_matching_is_the_conditional_ot_path_turned(shift, inverted):
    scheduler = library.FlowMatchEulerDiscreteScheduler(shift=shift, invert_sigmas=inverted)
    flow = adapters.diffusers.flow(NET, scheduler)
    assert flow.path == CondOT()
    by_hand = (lambda x, t: NET(x, 1000 * t)) if inverted else (lambda x, t: -NET(x, 1000 * (1 - t)))
    same_flow(flow, plain(by_hand, CondOT()))
    scheduler.set_timesteps(7)
    x, s, later = randn(2, DIM), scheduler.sigmas[3].double(), scheduler.sigmas[4].double()
    step = scheduler.step(NET(x, scheduler.timesteps[3].double().expand(2)).detach(), scheduler.timesteps[3], x)
    t, after = (s, later) if inverted else (1 - s, 1 - later)
    # The scheduler steps in float32.
    assert distance(x + (after - t) * flow.velocity(x, t), step.prev_sample.double()) <= 1e-6


def test_its_ideal_gradient_is_that_of_the_plain_network():
    scheduler = library.DDPMScheduler(prediction_type="v_prediction", beta_schedule="squaredcos_cap_v2")
    flow = adapters.diffusers.flow(NET, scheduler)
    same_reference(flow, plain(velocity("v_prediction", flow.path), flow.path), 1e-3)


def test_a_unet_of_diffusers_is_asked_at_fractional_timesteps():
    channels = {"in_channels": 1, "out_channels": 1, "block_out_channels": (4, 8), "norm_num_groups": 2}
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "layers_per_block": 1}
    torch.manual_seed(0)
    network = library.UNet2DModel(sample_size=8, add_attention=False, **channels, **blocks).double().eval()
    flow = adapters.diffusers.flow(network, library.DDPMScheduler(), event_shape=(1, 8, 8), flat=True)
    x, v = randn(5, 64, seed=1).requires_grad_(), randn(5, 64, seed=2)
    noise = network(x.unflatten(1, (1, 8, 8)), LAST * (1 - T)).sample.flatten(1)
    value, pull = flow.predict_vjp(x.detach(), T, flow.path.readout("source", T))
    assert distance(value, noise.detach()) <= 1e4 * EPS
    assert distance(pull(v), torch.autograd.grad(noise, x, v)[0]) <= 1e4 * EPS


def test_answers_of_every_kind_are_taken_and_a_learned_variance_is_cut_off():
    x, plain_one = randn(5, DIM), library.DDPMScheduler()
    learned = library.DDPMScheduler(variance_type="learned_range")
    answers = [
        (lambda x, n: x, plain_one),
        (lambda x, n: (x, 0), plain_one),
        (lambda x, n: SimpleNamespace(sample=x), plain_one),
        (lambda x, n: torch.cat([x, x * x], 1), learned),
        (lambda x, n: x, learned),
    ]
    for network, scheduler in answers:
        torch.testing.assert_close(adapters.diffusers.flow(network, scheduler).source(x, T), x)
    for network, got in ((lambda x, n: torch.cat([x, x], 1), r"\(5, 6\)"), (lambda x, n: {"y": x}, "NoneType")):
        with pytest.raises(ValueError, match=f"must return a tensor of its input's shape, .*got {got}"):
            adapters.diffusers.flow(network, plain_one).source(x, T)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: library.DDPMScheduler(prediction_type="score"), "prediction_type must be one of epsilon.*got 'score'"),
        (lambda: library.EDMEulerScheduler(), "which EDMEulerScheduler is not.*real_models.adapters.edm"),
        (lambda: "ddpm", "scheduler must be one of diffusers' schedulers, got str"),
        (lambda: library.DDPMScheduler(num_train_timesteps=2), "at least four"),
    ],
    ids=["prediction", "edm", "string", "short"],
)
def test_schedulers_that_are_unknown_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        adapters.diffusers.flow(NET, make())


ZERO_SNR = ["DDPMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler"]


@pytest.mark.parametrize("name", ZERO_SNR)
def test_betas_rescaled_to_zero_signal_give_one_flow_whatever_stands_for_the_zero(name):
    """Four schedulers put 2^-24 for the last zero, above the number before it; DDIM leaves the zero."""
    options = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    found, plain = (
        adapters.diffusers.flow(Small(), getattr(library, kind)(**options)).path for kind in (name, "DDIMScheduler")
    )
    t = torch.linspace(0, 1, 23, dtype=torch.float64)
    assert torch.equal(found.alpha(t), plain.alpha(t))
    assert float(found.alpha(0.0)) == 0
