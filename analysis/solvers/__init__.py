"""ODE methods as tables of coefficients (``methods``), solves with discrete adjoints (``solve``), checkpointing."""

from analysis.plan import StepPlan
from analysis.solvers.grids import uniform_grid
from analysis.solvers.methods import SOLVERS, Solver, plan, projection, runge_kutta
from analysis.solvers.solve import advance, advance_vjp, begin, solve, solve_vjp, step, step_vjp

__all__ = [
    "SOLVERS",
    "Solver",
    "StepPlan",
    "advance",
    "advance_vjp",
    "begin",
    "plan",
    "projection",
    "runge_kutta",
    "solve",
    "solve_vjp",
    "step",
    "step_vjp",
    "uniform_grid",
]
