"""A network that is told something of each sample: every batch against its samples one by one, each with its own label.

The labels change the field by a factor of up to 200, so that a sample with the label of another is far off. Whatever
cuts, reorders or repeats a batch is called here.
"""

import numpy as np
import pytest
import torch

from analysis import batching, losses, paths
from analysis.bounds.stability import defects
from analysis.cost import Cost, MeteredFlow
from analysis.flow import PredictionFlow, Reparametrized
from analysis.gradients import ESTIMATORS, lookahead_surface
from analysis.gradients._control import control_gradients
from analysis.gradients.control_adjoint import Controlled
from analysis.guidance import SAMPLERS
from analysis.guidance.likelihood import GuidedFlow
from analysis.settings import Variant
from real_models import adapters
from real_models.arithmetic import Arithmetic
from tests.support.problems import distance, f64, randn

STIFFNESS = f64([0.1, 1.0, 6.0, 20.0])
LABELS = torch.tensor([2, 0, 3, 1])
X, LOSS = randn(4, 2), losses.HalfSquaredDistance(randn(4, 2, seed=1))
T = f64([0.3, 0.1, 0.6, 0.85])


def network(x, t, y):
    return -STIFFNESS[y][:, None] * torch.sin(3 * x) * (1 + t[:, None])


def flow(labels=LABELS, **options):
    return adapters.module.flow(network, paths.CondOT(), conditioning={"y": labels}, **options)


def alone(call):
    """What ``call(flow, loss, x, t)`` says of each sample by itself."""
    one_by_one = [slice(i, i + 1) for i in range(len(X))]
    return torch.cat([call(flow(LABELS[i]), batching.loss_of_part(LOSS, X, i), X[i], T[i]) for i in one_by_one])


def every_estimator():
    for name in sorted(set(ESTIMATORS) - {"lgd"}):  # which draws its noise for the whole batch
        estimator = ESTIMATORS[name]
        for variant in (estimator.variants[0], estimator.variants[-1]):
            yield pytest.param(name, variant, id=f"{name}-{dict(variant)}")


@pytest.mark.parametrize(("name", "options"), list(every_estimator()))
def test_estimators(name, options):
    def call(flow, loss, x, t):
        return ESTIMATORS[name](flow, loss, x, t, **options).gradient

    assert distance(call(flow(), LOSS, X, T), alone(call)) <= 1e-9


@pytest.mark.parametrize("tolerance", [0.3, 0.03])
def test_adaptive_lookahead_at_every_level_of_its_climb(tolerance):
    def call(flow, loss, x, t):
        return ESTIMATORS["adaptive"](flow, loss, x, t, tolerance=tolerance).gradient

    assert distance(call(flow(), LOSS, X, T), alone(call)) <= 1e-9


@pytest.mark.parametrize("solver", ["euler", "ddim", "rk4"])
@pytest.mark.parametrize("times", [0.3, T])
def test_surfaces(solver, times):
    horizons = [0.9, 1.0] if isinstance(times, torch.Tensor) else [0.3, 0.5, 1.0]
    found = lookahead_surface(flow(), LOSS, X, times, [1, 3], horizons, solver=solver).gradient
    for i, steps in enumerate([1, 3]):
        for j, horizon in enumerate(horizons):
            one = ESTIMATORS["lookahead"](flow(), LOSS, X, times, steps=steps, horizon=horizon, solver=solver).gradient
            assert distance(found[i, j], one) <= 1e-12


@pytest.mark.parametrize("first", [1, 3])
def test_parts_of_a_batch(first):
    found = batching.estimate("end_to_end", flow(), LOSS, X, T, first=first, steps=3)
    assert distance(found.gradient, ESTIMATORS["end_to_end"](flow(), LOSS, X, T, steps=3).gradient) <= 1e-12


def test_controls_on_straight_stretches():
    controls = randn(2, 4, 2, seed=3) / 10

    def call(flow, loss, x, t):
        here = controls if len(x) == len(X) else controls[:, (x == X).all(1)]
        return control_gradients(flow, loss, x, t, here, steps=4, tolerance=0.1).gradient.movedim(1, 0)

    assert distance(call(flow(), LOSS, X, T), alone(call)) <= 1e-12


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("optimise_controls", {"iterations": 2, "learning_rate": 0.1, "tolerance": 0.1}),
        ("optimise_source", {"iterations": 2, "learning_rate": 0.1, "gradient": Variant.of("adaptive", tolerance=0.1)}),
        ("posterior_guidance", {"steps": 3, "scale": 0.1, "lookahead": Variant.of("adaptive", tolerance=0.1)}),
    ],
)
def test_samplers(name, options):
    def call(flow, loss, x, t):
        return SAMPLERS[name](flow, loss, x, **options).x

    assert distance(call(flow(), LOSS, X, T), alone(call)) <= 1e-9


def test_defects_of_a_solve():
    states, times, jacobians = randn(3, 4, 2), f64([0.2, 0.6, 1.0]), randn(2, 4, 2, 2, seed=5)
    whole = defects(flow(), LOSS, states, times, jacobians, "midpoint")
    for i in range(4):
        here = batching.loss_of_part(LOSS, X, slice(i, i + 1))
        part = defects(flow(LABELS[i : i + 1]), here, states[:, i : i + 1], times, jacobians[:, i : i + 1], "midpoint")
        for found, one, axis in zip(whole, part, (0, 1), strict=True):
            assert distance(found.narrow(axis, i, 1), one) <= 1e-12


def test_every_wrapper_passes_the_selection_on():
    rows, t = torch.tensor([3, 0, 0]), torch.tensor(0.4, dtype=torch.float64)
    expected = flow().velocity(X, 0.4)[rows]
    wrapped = {
        "flow": flow(),
        "another path": flow().with_path(paths.Cosine()),
        "a generic change of path": Reparametrized(flow(), paths.Cosine()),
        "metered": MeteredFlow(flow(), 4, Cost()),
        "numpy": flow(LABELS.numpy()),
    }
    for name, found in wrapped.items():
        path = found.path
        time = path.time_from_zeta(paths.CondOT().zeta(t))
        scale = path.radius(time) / paths.CondOT().radius(t)
        readout = path.readout("target", time)
        whole, part = found.predict(scale * X, time, readout), found.select_rows(rows)
        assert distance(part.predict(scale * X[rows], time, readout), whole[rows]) <= 1e-12, name
    pair = torch.stack([X, X], 1)
    controlled, readout = Controlled(flow()), paths.CondOT().readout("velocity", t)
    assert distance(controlled.select_rows(rows).predict(pair[rows], t, readout)[:, 0], expected + X[rows]) <= 1e-12


def test_a_network_behind_switches_passes_the_selection_on():
    class Labelled(torch.nn.Module):
        def __init__(self, labels):
            super().__init__()
            self.labels, self.weight = labels, torch.nn.Parameter(torch.ones(()))

        def forward(self, x, t):
            return self.weight * network(x.double(), t.double(), self.labels).float()

        def select_rows(self, rows):
            return Labelled(self.labels[rows])

    made = PredictionFlow(Labelled(LABELS), paths.CondOT())
    switched = Arithmetic(channels_last=True).flow(made)
    found = ESTIMATORS["adaptive"](switched, losses.HalfSquaredDistance([0.0, 1.0]), X.float(), 0.3, tolerance=0.1)
    plain = ESTIMATORS["adaptive"](made, losses.HalfSquaredDistance([0.0, 1.0]), X.float(), 0.3, tolerance=0.1)
    assert torch.equal(found.gradient, plain.gradient)


def test_a_flow_that_holds_nothing_per_sample_is_itself():
    plain = PredictionFlow(lambda x, t: -x, paths.CondOT())
    assert plain.select_rows(torch.tensor([1])) is plain
    shared = flow(torch.tensor([2]))
    assert distance(shared.select_rows(torch.tensor([3, 1])).velocity(X[:2], 0.3), shared.velocity(X[:2], 0.3)) == 0


def test_a_score_given_by_the_user_is_not_selected_in_silence():
    with pytest.raises(TypeError, match="its score may hold data of each sample"):
        GuidedFlow(flow(), lambda x, t: x).select_rows(torch.tensor([0]))


def test_a_scalar_time_with_a_label_per_sample():
    labels = np.array([2, 0, 3, 1])

    def one_time(x, t, y):
        return -STIFFNESS[y][:, None] * torch.sin(3 * x) * (1 + t)

    scalar = adapters.module.flow(one_time, paths.CondOT(), time_shape="scalar", conditioning={"y": labels})
    found = ESTIMATORS["adaptive"](scalar, LOSS, X, T, tolerance=0.1).gradient
    assert distance(found, ESTIMATORS["adaptive"](flow(), LOSS, X, T, tolerance=0.1).gradient) <= 1e-12
