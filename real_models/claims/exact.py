r"""The claims of the theory that need no closed form, measured on a learned flow.

The statements, readings and limits are those of ``toy_models.claims``; the states are X_t of held-out images, and the
truth is ``analysis.converged`` in float64. Where a claim of the paper starts from a sequence that guidance brings to
its target, the target here is what the estimator predicts for the state itself, so that the premise holds exactly:
guidance that is projected onto a learned manifold need not arrive at an image that was chosen beforehand.

Left out: D3, which is about one Gaussian, and of D1 the part with D in front and the bound, which need whole Jacobians
along the trajectory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from analysis import canonical, solvers
from analysis.canonical import CANONICAL
from analysis.claims import READING, Case
from analysis.converged import along
from analysis.errors import relative_error
from analysis.flow import Flow
from analysis.gradients import ESTIMATORS
from analysis.losses import HalfSquaredDistance, Loss
from analysis.reference import EPS
from analysis.settings import resolve
from analysis.solvers import SOLVERS
from analysis.subject import Subject
from toy_models.claims import common, exact_statements, guided_ends
from toy_models.claims.common import SHORT, Draw

PATHS = ("condot", "cosine", "vp_linear")
FACTORY, PROBLEM = "real_models.images:subject", "mnist_unet"
# Images have pixels that never vary, so the learned field changes over every doubling of zeta down to about 1e-3, where
# the network's own smoothness sets in: orders in a step to t = 1 show below that.
SMALL = 1.2e-4
WINDOWS = {p: SMALL / 2.0 ** torch.arange(4) for p in (1, 2)} | {p: SMALL / 1.3 ** torch.arange(4) for p in (3, 4)}
RESOLVED = 1 / (1 + 5e-4)  # a time from which a few steps resolve the network
OWN_PREDICTION = "x_1* is what the estimator predicts for the state itself; {}"
Measure = Callable[["Learned", bool, int], Iterator[Case]]
MEASURES: dict[str, Measure] = {}


def on_network(id: str) -> Callable[[Measure], Measure]:
    """Enter the measurement of a claim on a learned flow."""

    def add(measure: Measure) -> Measure:
        MEASURES[id] = measure
        return measure

    return add


@dataclass(frozen=True)
class Learned:
    """A learned flow in float64 with its data, by the name of a subject that runs along CondOT."""

    factory: str = FACTORY
    problem: str = PROBLEM

    def draw(self, path: str, times: Sequence[float] | Tensor, n: int, seed: int) -> Draw:
        """Draw n states at each of the times (T,), with the same image, noise and target at each of them."""
        subject: Subject = resolve(self.factory)(self.problem, "condot", "float64", "cpu")
        schedule, times = common.path_named(path), torch.as_tensor(times, dtype=torch.float64)
        generator = torch.Generator().manual_seed(seed)
        clean = subject.states(torch.ones(1, dtype=torch.float64), n, generator)
        noise = torch.randn(clean.shape, dtype=torch.float64, generator=generator)
        loss = subject.loss(len(times), n, generator)
        assert isinstance(loss, HalfSquaredDistance)
        flow = subject.reference_flow if path == "condot" else subject.reference_flow.with_path(schedule)
        return Draw(flow, loss, schedule.states(times, clean, noise), times.repeat_interleave(n))


@dataclass(frozen=True)
class Truth:
    """Ideal gradients and endpoints (T n, d) of states at several times, and the gradients' error bounds (T n,)."""

    gradient: Tensor
    endpoint: Tensor
    error_bound: Tensor


def ideal(flow: Flow, losses: Sequence[Loss], x: Tensor, times: Tensor, steps: int) -> Truth:
    """Return the truth at states x (T n, d), each of the times (T,) with a solve and a loss of its own."""
    found = [
        along(flow, loss, part, (float(t),), steps=steps)
        for loss, part, t in zip(losses, x.chunk(len(times)), times, strict=True)
    ]
    bounds = torch.cat([part.error_bound[0] for part in found])
    return Truth(torch.cat([p.gradient[0] for p in found]), torch.cat([p.endpoint for p in found]), bounds)


def truth_of(drawn: Draw, times: Tensor, steps: int) -> Truth:
    """Return the truth of a draw at its times (T,)."""
    losses = [HalfSquaredDistance(part) for part in drawn.loss.target.chunk(len(times))]
    return ideal(drawn.flow, losses, drawn.x, times, steps)


@on_network("P1")
def solution(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Integrate both forms along a finely solved trajectory, and fit the local errors of the expansion."""
    drawn = learned.draw("condot", [0.3], 2, seed)
    yield from exact_statements.integrals(drawn, "network, condot")
    yield from exact_statements.taylor(drawn, "network, condot")


@on_network("T1a")
def one_step(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Compare greedy with single steps, registered and by autograd."""
    for path in PATHS[:1] if quick else PATHS:
        drawn = learned.draw(path, [exact_statements.T], 1 if quick else 6, seed)
        yield from exact_statements.one_step_cases(drawn, "network", path)


@on_network("T1b")
def adjoint_step(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Hold greedy against one step of the adjoint, whose implicit form needs the whole Jacobian: of one state."""
    for path in ("condot", SHORT):
        yield from exact_statements.adjoint_cases(learned.draw(path, [exact_statements.T], 1, seed), "network", path)


@on_network("P2")
def dynamics(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Differentiate the solved map by differences along greedy, and by forward mode along the formula's step."""
    drawn = learned.draw("condot", [exact_statements.T], 3, seed)
    plan = solvers.plan("rk4", drawn.flow.path, solvers.uniform_grid(drawn.t[0], torch.ones(()).double(), 12))

    def end(x: Tensor) -> Tensor:
        return solvers.solve(drawn.flow, x, plan)

    g = common.gradient("greedy", drawn)
    h = EPS**0.2 * drawn.x.norm(dim=1, keepdim=True) / g.norm(dim=1, keepdim=True)
    near, far = ((end(drawn.x - k * h * g) - end(drawn.x + k * h * g)) / (2 * k * h) for k in (1, 2))
    found = (4 * near - far) / 3
    limit = relative_error(near, found) + common.round_off() / EPS**0.2
    target = exact_statements.target(drawn)
    for reading, where in (("x1hat(x)", target(drawn.x)), ("x_1 = Phi(x)", end(drawn.x))):
        step = common.pulled(target, drawn.x, common.slope_at(drawn.loss, where))
        expected = -torch.func.jvp(end, (drawn.x,), (step,))[1]
        yield common.equal(READING, f"grad L is taken at {reading}", "network, condot", found, expected, limit)


@functools.cache
def _ends(learned: Learned, path: str, order: int, seed: int) -> tuple[Draw, Tensor, Tensor, float]:
    """Return late states for methods of an order, their times (T,), where they end, and a floor of distances to it."""
    times = common.path_named(path).time_from_zeta(WINDOWS[order].double())
    drawn = learned.draw(path, times, 2, seed)
    view = canonical.view(drawn.flow, drawn.t)
    plans = [solvers.plan("rk4", CANONICAL, solvers.uniform_grid(view.begin, view.end, steps)) for steps in (8, 4)]
    fine, coarse = (view.leave(solvers.solve(view.flow, view.enter(drawn.x), plan)) for plan in plans)
    # The finer end errs by about a fifteenth of the distance; round-off of a state is that of its size.
    floor = float((fine - coarse).norm(dim=1).max()) + common.SAFETY * EPS * float(fine.norm(dim=1).max())
    return drawn, times, fine, floor


def _missed(learned: Learned, path: str, solver: str, seed: int) -> tuple[Tensor, Tensor, float]:
    """Return the times (T,), how far the sample ends from what one step or greedy predicts, (T, n), and a floor."""
    name, options = ("greedy", {}) if solver == "greedy" else ("end_to_end", {"steps": 1, "solver": solver})
    order = 1 if solver == "greedy" else SOLVERS[solver].order
    drawn, times, end, floor = _ends(learned, path, order, seed)
    found = ESTIMATORS[name](drawn.flow, drawn.loss, drawn.x, drawn.t, **options).endpoint
    return times, common.by_time((end - found).norm(dim=1), len(times)), floor


@on_network("T3")
def greedy_end(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Fit how far the sample is from its own greedy prediction."""
    for path in PATHS:
        times, error, floor = _missed(learned, path, "greedy", seed)
        for reading, step in guided_ends.STEP_SIZES.items():
            h, said = step(common.path_named(path), times), OWN_PREDICTION.format(reading)
            yield common.order(READING, said, f"network, {path}", h, error, 2.0, floor=floor)
    yield guided_ends.printed_step(PATHS[0])


@on_network("C4.1")
def solver_end(learned: Learned, quick: bool, seed: int) -> Iterator[Case]:
    """Fit the distance of the sample from the end of a single step, in t and in zeta."""
    reading = OWN_PREDICTION.format(guided_ends.OWN_STEP)
    for path, name in product(("condot", "cosine"), ("euler", "midpoint", "heun", "rk4")):
        for solver, size in ((name, "h = 1 - t"), (f"{name}_zeta", "h = zeta_t")):
            order, (times, error, floor) = SOLVERS[solver].order, _missed(learned, path, solver, seed)
            h = guided_ends.STEP_SIZES[size](common.path_named(path), times)
            yield common.order(READING, reading, f"{solver}, network, {path}", h, error, order + 1.0, floor=floor)
    yield guided_ends.printed_step(PATHS[0])
