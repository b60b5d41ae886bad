"""The one door: what a flow, a loss, a path, a state, a time, an array, a count, a number and a choice are.

Every public function takes its arguments through here and trusts them from then on. Each check returns the argument in
the form in which the code uses it, or raises a ``TypeError`` for an object of another kind and a ``ValueError`` for a
value out of range; the message names the argument and says what was expected. NumPy arrays are taken wherever a tensor
is, NumPy numbers and tensors of one element wherever a number is. Booleans, complex numbers and strings are no numbers.
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
