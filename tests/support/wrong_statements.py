"""A wrong statement for each claim: its own code measures the same quantities, and compares them with another theory.

Each entry is a function that returns a context in which the claim's statement is off, by the claim's id.
"""

import contextlib
from unittest import mock

from analysis.bounds import two_term
from analysis.claims import cases, controls, leading, one_step, single_steps, solution
from toy_models.claims import exact_statements, greedy_error, horizons

# A statement that is compared by slopes, and one with another factor.
MORE, FACTOR = 1.0, 1.01


@contextlib.contextmanager
def higher_order():
    """Every slope is compared with one order more than the statement has."""
    right = cases.slope_case

    def wrong(kind, reading, case, slope, limit, rule):
        return right(kind, reading, case, slope, limit + MORE, rule)

    with mock.patch.object(cases, "slope_case", wrong), mock.patch.object(single_steps, "slope_case", wrong):
        yield


def scaled(module, name, factor=FACTOR):
    """What a function of a claim's module returns is multiplied by a factor."""
    right = getattr(module, name)
    return mock.patch.object(module, name, lambda *arguments, **options: factor * right(*arguments, **options))


def other_variances():
    """The law of one Gaussian with other variances."""
    right = horizons.direction_rows

    def wrong(*arguments):
        rows = right(*arguments)
        return rows | {"variance": FACTOR * rows["variance"]}

    return mock.patch.object(horizons, "direction_rows", wrong)


def other_terms():
    """Both forms of the two terms with a solver's term that falls at twice its order."""
    right = {name: two_term.FORMS[name] for name in ("printed", "interval")}

    def wrong(form):
        return lambda steps, zeta, fraction, p: form(steps, zeta, fraction, 2 * p)

    return mock.patch.dict(two_term.FORMS, {name: wrong(form) for name, form in right.items()})


WRONG = {
    "P1": lambda: scaled(solution, "curvature"),
    "T1a": lambda: scaled(one_step, "loss_gradient"),
    "T1b": lambda: scaled(one_step, "jacobian_by_autograd"),
    "P2": lambda: scaled(exact_statements, "vjp_by_autograd", -1),
    "T3": higher_order,
    "C4.1": higher_order,
    "T4": higher_order,
    "T5": lambda: scaled(controls, "_integral"),
    "D1": lambda: scaled(greedy_error, "_curvatures"),
    "D2": lambda: scaled(leading, "leading_term", 2 / 3),
    "D3": other_variances,
    "D4": higher_order,
    "D5": higher_order,
    "D6": other_terms,
    "D7": higher_order,
}
