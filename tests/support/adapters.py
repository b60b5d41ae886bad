"""What the tests of the adapters share: a small network, and a flow held against one made by hand."""

import torch

from analysis import gradients, losses, reference
from analysis.flow import PredictionFlow, Reparametrized
from tests.support.problems import EPS, distance, f64, randn

DIM = 3
T = f64([0.2, 0.35, 0.5, 0.65, 0.8])
TARGET = f64([0.5, -1.0, 0.3])


class Small(torch.nn.Module):
    """A smooth float64 network of flat events and one number per sample, whatever that stands for."""

    def __init__(self, dim=DIM, unit=1.0, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.first, self.last, self.unit = torch.nn.Linear(dim + 2, 16), torch.nn.Linear(16, dim), unit
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=generator, dtype=torch.float64) / p.shape[-1] ** 0.5

    def forward(self, x, time):
        angle = time[:, None] / self.unit
        features = torch.cat([x.flatten(1), angle.sin(), angle.cos()], 1)
        return self.last(torch.tanh(self.first(features))).reshape(x.shape)


def same_flow(flow, plain, tolerance=1e4 * EPS, t=T):
    """Two flows agree in value, in both products, and in the gradients that are made of them."""
    x, v = randn(len(t), DIM, seed=1), randn(len(t), DIM, seed=2)
    assert flow.path == plain.path
    for prediction in ("velocity", "target"):
        readout = flow.path.readout(prediction, t)
        for one, other in zip(products(flow, x, t, readout, v), products(plain, x, t, readout, v), strict=True):
            assert distance(one, other) <= tolerance
    same_gradients(flow, plain, x, t, tolerance)


def same_gradients(flow, plain, x, t, tolerance):
    loss = losses.HalfSquaredDistance(TARGET)
    made = {
        "greedy": {},
        "lookahead": {"horizon": (1 + t) / 2, "steps": 2},
        "end_to_end": {"steps": 3, "solver": "ddim"},
    }
    for name, options in made.items():
        one, other = (gradients.ESTIMATORS[name](f, loss, x, t, **options) for f in (flow, plain))
        assert distance(one.gradient, other.gradient) <= tolerance
        assert distance(one.endpoint, other.endpoint) <= tolerance


def products(flow, x, t, readout, v):
    value, pull = flow.predict_vjp(x, t, readout)
    tangent = torch.func.jvp(lambda y: flow.predict(y, t, readout), (x,), (v,))[1].detach()
    return value, pull(v), tangent, flow.predict(x, t, readout)


def plain(velocity, path):
    return PredictionFlow(velocity, path)


def moved(flow, path):
    """The flow on its own path seen along another, by the wrapper that any flow has."""
    return Reparametrized(PredictionFlow(flow.function, flow.own, flow.prediction, flow.t_min, flow.t_max), path)


def same_reference(flow, plain, tolerance=1e-4):
    """The ideal gradient of a flow against a fine solve of one made by hand, whose own error is far smaller."""
    x, loss = randn(1, DIM, seed=1), losses.HalfSquaredDistance(TARGET)
    found = reference.ideal_gradient(flow, loss, x, 0.4, tolerance=1e-6, max_error=1e-3)
    fine = gradients.end_to_end(plain, loss, x, 0.4, steps=64, solver="rk4")
    assert found.tier == "converged"
    assert distance(found.gradient, fine.gradient) <= tolerance


def finite_at_the_ends(flow):
    x = randn(2, DIM, seed=3)
    for t in (0.0, 1.0, f64([0.0, 1.0])):
        _, pull = flow.predict_vjp(x, torch.as_tensor(t, dtype=torch.float64), flow.path.readout("velocity", t))
        assert bool(torch.isfinite(flow.velocity(x, t)).all())
        assert bool(torch.isfinite(pull(x)).all())
