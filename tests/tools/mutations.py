"""Deliberate mistakes, each a context manager that breaks one piece of the suite, and what the ledger says of it.

``python -m tests.tools.mutations [CLAIM ...]`` (in the repository's root) prints the table of all mutations against
claims.
"""

import contextlib
import dataclasses
import sys
import time
import warnings
from unittest import mock

import torch

import toy_models.claims
from analysis import claims, solvers
from analysis.bounds import leading_term
from analysis.gradients import ESTIMATORS, _adjoint, _control, _lookahead
from analysis.losses import value_and_gradient
from analysis.paths import CondOT, expand
from analysis.solvers import grids, methods
from analysis.solvers.coordinates import COORDINATES
from analysis.solvers.tableaux import TABLEAUX
from toy_models.mixtures.gaussian import MixtureFlow

MUTATIONS = {}


def mutation(name):
    """Enter a function that returns a patch, under the name of the mistake it makes."""

    def add(make):
        MUTATIONS[name] = make
        return make

    return add


def rule(name, wrong):
    return mock.patch.object(ESTIMATORS[name], "rule", wrong(ESTIMATORS[name].rule))


@mutation("greedy: sign")
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


mutation("greedy: Jacobian of the source prediction")(lambda: _greedy(jacobian="source"))
mutation("greedy: Jacobian without its factor alpha")(lambda: _greedy(factor=lambda flow, t: 1 / flow.path.alpha(t)))
mutation("greedy: one hundredth of the way late")(lambda: _greedy(late=0.01))
mutation("greedy: loss gradient at the state")(lambda: _greedy(at=lambda flow, x, t: x))
mutation("greedy: loss gradient at the sample")(lambda: _greedy(at=_sample))


@mutation("lookahead: prediction short of the horizon")
def _():
    def wrong(flow, x, s):
        return project(flow, x, torch.where(s < 1, 0.95 * s, s))

    project = _lookahead.project
    return mock.patch.object(_lookahead, "project", wrong)


@mutation("end-to-end: Jacobian left out")
def _():
    def wrong(right):
        def straight(flow, loss, x, t, **options):
            endpoint = right(flow, loss, x, t, **options)[1]
            return value_and_gradient(loss, endpoint)[1], endpoint

        return straight

    return rule("end_to_end", wrong)


@mutation("lookahead, end-to-end: first step starts late")
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


mutation("midpoint: weights 0.1, 0.9")(lambda: _tableau("midpoint", b=(0.1, 0.9)))
mutation("midpoint: stage at 0.6")(lambda: _tableau("midpoint", c=(0.0, 0.6)))
mutation("euler: step 1 % short")(lambda: _tableau("euler", b=(0.99,)))


@mutation("ddim: noise weight 0.01 too large")
def _():
    def wrong(path, grid):
        stages = methods._ddim(path, grid)
        readout = path.combination(path.alpha(grid[1:]), path.sigma(grid[1:]) + 0.01, grid[:-1])
        return dataclasses.replace(stages, readouts=(readout,))

    return mock.patch.dict(solvers.SOLVERS, ddim=dataclasses.replace(solvers.SOLVERS["ddim"], coefficients=wrong))


@mutation("backsolve: Jacobian at the end of the solve")
def _():
    def wrong(flow, loss, x, t, *, steps, solver="euler"):
        grid = _adjoint.time_grid(t, steps, solver)
        endpoint = solvers.solve(flow, x, solvers.plan(solver, flow.path, grid))
        a, plan = value_and_gradient(loss, endpoint)[1], solvers.plan(solver, flow.path, grid.flip(0))
        for i in range(steps):
            a = _adjoint.adjoint_step(flow, a, plan[i], lambda s: endpoint)
        return a, endpoint

    return rule("adjoint_backsolve", lambda right: wrong)


@mutation("backsolve: sign of the adjoint's rate")
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
        gradients, endpoint = right(*arguments)
        return change(gradients), endpoint

    right = _control.discrete_adjoint
    return mock.patch.object(_control, "discrete_adjoint", wrong)


mutation("control: factor 1.01")(lambda: _controlled(lambda g: 1.01 * g))
mutation("control: one interval late")(lambda: _controlled(lambda g: g.roll(1, 0)))


@mutation("leading term: 1/3 in place of 1/2")
def _():
    right = leading_term.remainder
    return mock.patch.object(leading_term, "remainder", lambda *arguments: right(*arguments) * 2 / 3)


@mutation("CondOT: sigma' 1 % too large")
def _():
    return mock.patch.object(CondOT, "_d_sigma", lambda self, t: torch.full_like(t, -1.01))


@mutation("mixture: Jacobian without the responsibilities' derivative")
def _():
    def wrong(self, x, t, readout):
        shape = x.shape
        x, t, a, c = toy_models.mixtures.gaussian.fold(x, t, readout)
        r, y, root, gain = self._components(x, t, a, c)

        def pull(w):
            return self._back(r[..., None] * self._rotate(w.reshape(x.shape), gain), root).reshape(shape)

        return self._mean(r, y, a, gain).reshape(shape), pull

    return mock.patch.object(MixtureFlow, "predict_vjp", wrong)


def standing(ids):
    """Return whether each claim of ``ids`` stands on its quick measurement; one that cannot be made does not."""
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of numbers that are not finite: what is broken may make them
        for id in ids:
            try:
                found[id] = bool(claims.judge(claims.CLAIMS[id].rows(True, 0))["standing"])
            except (ValueError, RuntimeError):
                found[id] = False
    return found


def red(name, ids):
    """Return the claims of ``ids`` that a mutation turns red."""
    with MUTATIONS[name]():
        return {id for id, stands in standing(ids).items() if not stands}


def main():
    torch.set_num_threads(1)
    ids = sys.argv[1:] or list(claims.CLAIMS)
    print(" " * 62 + " ".join(f"{id:>4}" for id in ids))
    for name in ["none", *MUTATIONS]:
        start = time.perf_counter()
        with contextlib.nullcontext() if name == "none" else MUTATIONS[name]():
            found = standing(ids)
        marks = " ".join(f"{'.' if found[id] else 'RED':>4}" for id in ids)
        print(f"{name:<62}{marks}  {time.perf_counter() - start:5.1f} s", flush=True)


if __name__ == "__main__":
    main()
