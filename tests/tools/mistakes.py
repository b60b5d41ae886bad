"""Deliberate mistakes, each a context manager that breaks one piece of the suite, and what the ledger says of it."""

import contextlib
import dataclasses
import warnings
from unittest import mock

import torch

import toy_models.claims
from analysis import solvers
from analysis.bounds import leading_term
from analysis.claims import CLAIMS, judge
from analysis.gradients import ESTIMATORS, _adjoint, _control, _lookahead
from analysis.losses import value_and_gradient
from analysis.paths import CondOT, expand
from analysis.solvers import grids, methods
from analysis.solvers.coordinates import COORDINATES
from analysis.solvers.tableaux import TABLEAUX
from toy_models.mixtures.gaussian import MixtureFlow

MISTAKES = {}


def mistake(name):
    """Enter a function that returns a patch, under the name of the mistake it makes."""

    def add(make):
        MISTAKES[name] = make
        return make

    return add


def rule(name, wrong):
    return mock.patch.object(ESTIMATORS[name], "rule", wrong(ESTIMATORS[name].rule))


@mistake("greedy: sign")
def _():
    def wrong(right):
        def negative(flow, loss, x, t):
            gradient, endpoint, value = right(flow, loss, x, t)
            return -gradient, endpoint, value

        return negative

    return rule("greedy", wrong)


def _greedy(jacobian="target", factor=lambda flow, t: 1.0, late=0.0, at=None):
    """Greedy with another Jacobian, a factor, another time, or the loss gradient somewhere else."""

    def wrong(flow, loss, x, t):
        t = t + late * (1 - t)
        endpoint = flow.predict(x, t, flow.path.readout("target", t))
        pull = flow.predict_vjp(x, t, flow.path.readout(jacobian, t))[1]
        where = endpoint if at is None else at(flow, x, t)
        return expand(torch.as_tensor(factor(flow, t)), x) * pull(value_and_gradient(loss, where)[1]), endpoint

    return rule("greedy", lambda right: wrong)


def _sample(flow, x, t):
    grid = solvers.uniform_grid(t, torch.ones_like(t), 4)
    return solvers.solve(flow, x, solvers.plan("rk4", flow.path, grid))


mistake("greedy: Jacobian of the source prediction")(lambda: _greedy(jacobian="source"))
mistake("greedy: Jacobian without its factor alpha")(lambda: _greedy(factor=lambda flow, t: 1 / flow.path.alpha(t)))
mistake("greedy: one hundredth of the way late")(lambda: _greedy(late=0.01))
mistake("greedy: loss gradient at the state")(lambda: _greedy(at=lambda flow, x, t: x))
mistake("greedy: loss gradient at the sample")(lambda: _greedy(at=_sample))


@mistake("lookahead: prediction short of the horizon")
def _():
    def wrong(flow, x, s):
        return project(flow, x, torch.where(s < 1, 0.95 * s, s))

    project = _lookahead.project
    return mock.patch.object(_lookahead, "project", wrong)


@mistake("end-to-end: Jacobian left out")
def _():
    def wrong(right):
        def straight(flow, loss, x, t, **options):
            endpoint = right(flow, loss, x, t, **options)[1]
            return value_and_gradient(loss, endpoint)[1], endpoint

        return straight

    return rule("end_to_end", wrong)


@mistake("lookahead, end-to-end: first step starts late")
def _():
    def wrong(start, end, steps):
        grid = solvers.uniform_grid(start, end, steps)
        grid[0] = grid[0] + 0.1 * (grid[1] - grid[0])
        return grid

    return mock.patch.object(grids, "uniform_grid", wrong)


def _tableau(name, **change):
    wrong = dataclasses.replace(TABLEAUX[name], **change)
    found = {n: solvers.runge_kutta(wrong, c) for c in COORDINATES for n in [_named(name, c)]}
    return mock.patch.dict(solvers.SOLVERS, found)


def _named(name, coordinate):
    return name + ("" if coordinate == "t" else f"_{coordinate}")


mistake("midpoint: weights 0.1, 0.9")(lambda: _tableau("midpoint", b=(0.1, 0.9)))
mistake("midpoint: stage at 0.6")(lambda: _tableau("midpoint", c=(0.0, 0.6)))
mistake("euler: step 1 % short")(lambda: _tableau("euler", b=(0.99,)))


@mistake("ddim: noise weight 0.01 too large")
def _():
    def wrong(path, grid):
        stages = methods._ddim(path, grid)
        readout = path.combination(path.alpha(grid[1:]), path.sigma(grid[1:]) + 0.01, grid[:-1])
        return dataclasses.replace(stages, readouts=(readout,))

    return mock.patch.dict(solvers.SOLVERS, ddim=dataclasses.replace(solvers.SOLVERS["ddim"], coefficients=wrong))


@mistake("backsolve: Jacobian at the end of the solve")
def _():
    def wrong(flow, loss, x, t, *, steps, solver="euler"):
        grid = _adjoint.time_grid(t, steps, solver)
        endpoint = solvers.solve(flow, x, solvers.plan(solver, flow.path, grid))
        a, plan = value_and_gradient(loss, endpoint)[1], solvers.plan(solver, flow.path, grid.flip(0))
        for i in range(steps):
            a = _adjoint.adjoint_step(flow, a, plan[i], lambda s: endpoint)
        return a, endpoint

    return rule("adjoint_backsolve", lambda right: wrong)


@mistake("backsolve: sign of the adjoint's rate")
def _():
    def wrong(flow, loss, x, t, *, steps, solver="euler"):
        grid = _adjoint.time_grid(t, steps, solver)
        endpoint = solvers.solve(flow, x, solvers.plan(solver, flow.path, grid))

        def rate(joint, s, readout):
            velocity, pull = flow.predict_vjp(joint[:, 0], s, readout)
            return torch.stack([velocity, pull(joint[:, 1])], 1)

        joint = torch.stack([endpoint, value_and_gradient(loss, endpoint)[1]], 1)
        plan = solvers.plan(solver, flow.path, grid.flip(0))
        return solvers.solve(_adjoint.Rate(flow, rate), joint, plan)[:, 1], endpoint

    return rule("adjoint_backsolve", lambda right: wrong)


def _controlled(change):
    def wrong(*arguments):
        estimate = right(*arguments)
        return estimate._replace(gradient=change(estimate.gradient))

    right = _control.discrete_adjoint
    return mock.patch.object(_control, "discrete_adjoint", wrong)


mistake("control: factor 1.01")(lambda: _controlled(lambda g: 1.01 * g))
mistake("control: one interval late")(lambda: _controlled(lambda g: g.roll(1, 0)))


@mistake("leading term: 1/3 in place of 1/2")
def _():
    right = leading_term.remainder
    return mock.patch.object(leading_term, "remainder", lambda *arguments: right(*arguments) * 2 / 3)


@mistake("CondOT: sigma' 1 % too large")
def _():
    return mock.patch.object(CondOT, "_d_sigma", lambda self, t: torch.full_like(t, -1.01))


@mistake("mixture: Jacobian without the responsibilities' derivative")
def _():
    def wrong(self, x, t, readout):
        shape = x.shape
        x, t, a, c = toy_models.mixtures.gaussian.fold(x, t, readout)
        r, y, root, gain = self._components(x, t, a, c)

        def pull(w):
            return self._back(r[..., None] * self._rotate(w.reshape(x.shape), gain), root).reshape(shape)

        return self._mean(r, y, a, gain).reshape(shape), pull

    return mock.patch.object(MixtureFlow, "predict_vjp", wrong)


CHEAP = {"T1a", "T1b", "P2", "T3", "D3"}
GREEDY = {"T1a", "T1b", "P2", "D2"}
STEPS = {"C4.1", "T4", "D4", "D5"}
# What each mistake turns red, of the claims measured: all of them for two, else these and the cheap ones.
EVERYWHERE = {"greedy: sign", "midpoint: weights 0.1, 0.9"}
EXPECTED = {
    "greedy: sign": GREEDY | {"T3", "D1", "D3"},
    "greedy: Jacobian of the source prediction": GREEDY | {"T3", "D1", "D3"},
    "greedy: Jacobian without its factor alpha": GREEDY | {"D3"},  # descent goes on along a scaled gradient
    "greedy: one hundredth of the way late": GREEDY | {"T3", "D3"},
    "greedy: loss gradient at the state": GREEDY | {"T3"},  # D3's loss is linear
    "greedy: loss gradient at the sample": GREEDY | {"T3"},
    "lookahead: prediction short of the horizon": {"D6"},
    "end-to-end: Jacobian left out": {"T1a", "T1b", "T4", "D4", "D5"},
    "lookahead, end-to-end: first step starts late": {"T1a", "T1b", "D6"} | STEPS,
    "midpoint: weights 0.1, 0.9": {"T5", "D6"} | STEPS,
    "midpoint: stage at 0.6": {"T5"} | STEPS,
    "euler: step 1 % short": {"T1a", "C4.1", "T4", "D4", "D7"},
    "ddim: noise weight 0.01 too large": {"T1a", "T1b", "D4", "D5"},
    "backsolve: Jacobian at the end of the solve": {"D7"},
    "backsolve: sign of the adjoint's rate": {"D7"},
    "control: factor 1.01": {"T5"},
    "control: one interval late": {"T5"},
    "leading term: 1/3 in place of 1/2": {"D2"},
    "CondOT: sigma' 1 % too large": {"P1", "C4.1", "T4", "D3"},
    "mixture: Jacobian without the responsibilities' derivative": {"T1a", "T1b", "D1", "D2"},
}


def red(name, ids):
    """Return the claims of ``ids`` that a mistake (or none) turns red; one that cannot be measured is red too."""
    with contextlib.nullcontext() if name is None else MISTAKES[name](), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that are not finite: what is broken may make them
        return {id for id in ids if not _stands(CLAIMS[id])}


def _stands(claim):
    try:
        return bool(judge(claim.rows(quick=True, seed=0))["standing"])
    except (ValueError, RuntimeError):
        return False
