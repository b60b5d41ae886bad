"""Checks of arguments: flows, losses, paths, states, times, arrays, counts, numbers and choices.

Every public function checks its arguments by these functions and trusts them from then on. Each check returns the
argument in the form in which the code uses it. It raises ``TypeError`` for an object of another kind and ``ValueError``
for a value out of range; the message names the argument and states the expectation. NumPy arrays are accepted wherever
a tensor is, and NumPy numbers and tensors of one element wherever a number is. Booleans, complex numbers and strings
are not numbers.
"""

from analysis.checks.arrays import alike, array, finite, floats, schedule_times, state, tensor, time, vector
from analysis.checks.calls import (
    arguments,
    door_passed,
    flow,
    function,
    loss,
    may_ask,
    passed_door,
    path,
)
from analysis.checks.numbers import (
    MOST,
    MOST_STEPS,
    Registry,
    UnknownNameError,
    at_least,
    count,
    device,
    finite_number,
    generator,
    inside,
    kind,
    known,
    number,
    positive,
    seed,
    sequence,
    share,
    steps,
)

__all__ = [
    "MOST",
    "MOST_STEPS",
    "Registry",
    "UnknownNameError",
    "alike",
    "arguments",
    "array",
    "at_least",
    "count",
    "device",
    "door_passed",
    "finite",
    "finite_number",
    "floats",
    "flow",
    "function",
    "generator",
    "inside",
    "kind",
    "known",
    "loss",
    "may_ask",
    "number",
    "passed_door",
    "path",
    "positive",
    "schedule_times",
    "seed",
    "sequence",
    "share",
    "state",
    "steps",
    "tensor",
    "time",
    "vector",
]
