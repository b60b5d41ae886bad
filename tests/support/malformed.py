"""Malformed values by kind of argument, and what a call with one of them turns out to be.

A value is either to be refused, by a ``ValueError`` or ``TypeError`` that names the argument and is raised in this
project's own code, or to be taken as another spelling of a good one, with the same result.
"""

import re
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from analysis.losses import HalfSquaredDistance
from analysis.paths import CondOT
from tests.support.problems import f64
from toy_models import MixtureFlow

OWN = Path(__file__).parents[2]
NAN, INF = float("nan"), float("inf")


@dataclass(frozen=True)
class Kind:
    """Values that must be refused, and functions that spell a good value in another way, which must be taken."""

    refused: list[Any]
    spelled: list[Any] = field(default_factory=list)


class Bare(torch.nn.Module):
    """A network that nobody has wrapped."""

    def forward(self, x, t):
        return -x


def itself(x):
    return x


# Losses that are none: of the wrong shape, kind or dtype, without a derivative, and without a value.
NO_LOSSES = [
    itself,
    lambda x: x.sum(),
    lambda x: x.square().sum(1, keepdim=True),
    lambda x: x.detach().square().sum(1).numpy(),
    lambda x: x.detach().square().sum(1),
    lambda x: x.square().sum(1) * NAN,
    lambda x: x.square().sum(1) * 1j,
]
BITS = torch.tensor([True, False, True])
SPARSE, META = torch.eye(2).double().to_sparse(), torch.empty(3, 2, dtype=torch.float64, device="meta")
OBJECTS = [None, "a", b"a", object(), {}, 1j, torch.tensor([1j, 0j]), np.array(["a", "b"]), np.array([None, 1.0])]
NUMBERS = [None, "0.5", True, 1j, NAN, INF, -INF, [0.5], {}, torch.tensor([0.1, 0.2]), np.array([True]), object()]
COUNTS = [None, -1, 1.5, 2.0, "3", True, NAN, INF, 1j, [3], {}, 10**15, torch.tensor([2, 3]), np.float64(2.0), object()]
NO_TIMES = [*OBJECTS, True, NAN, INF, -0.1, 1.1, "0.4", [0.4], torch.tensor(True), BITS, META, np.array(True)]
NO_ARRAYS = [*OBJECTS, NAN, [NAN], ["a"], [True], [[1.0], [1.0, 2.0]], SPARSE, META, np.array([True])]
OTHER_SHAPES = [torch.ones(shape).double() for shape in ((3, 5), (1, 2), (3, 1), (3,))]
WHOLE = [torch.ones(3, 2, dtype=torch.long), torch.ones(3, 2) > 0, np.ones((3, 2), int)]
NO_STATES = [0.5, [[0.1, 0.2]], f64([0.1, 0.2]), f64([[NAN, 0.0]]), f64([[INF, 0.0]]), torch.zeros(0, 2).double()]
NO_STATES += [*WHOLE, SPARSE, META]


def numpy(x):
    return x.numpy()


def foreign(x):
    """The numbers as another program hands them on: read-only, in the other order of bytes."""
    array = x.numpy().astype(x.numpy().dtype.newbyteorder())
    array.flags.writeable = False
    return array


def tracked(x):
    return x.clone().requires_grad_()


KINDS = {
    "flow": Kind([None, 3, "flow", [1.0], itself, Bare(), MixtureFlow, Bare, CondOT(), torch.zeros(2)]),
    "loss": Kind([None, 1.0, "loss", [0.0, 1.0], torch.zeros(2), HalfSquaredDistance, *NO_LOSSES]),
    "path": Kind([None, "condot", CondOT, 3, torch.zeros(2), itself]),
    "function": Kind([None, 3, "net", [1.0], torch.zeros(2), Bare]),
    "mixture": Kind([None, 3, "ring", torch.zeros(2), CondOT(), [1.0]]),
    "schedule": Kind([None, 0.5, "t", torch.zeros(2), type(itself), lambda t: 0.5, lambda t: -t, lambda t: t * NAN]),
    "state": Kind(
        [*OBJECTS, *NO_STATES],
        [numpy, foreign, tracked, lambda x: torch.nn.Parameter(x.clone()), lambda x: 1 * tracked(x)],
    ),
    "time": Kind(
        [*NO_TIMES, f64([[0.4]]), f64([0.4, 0.4]), f64([0.4, NAN, 0.4]), np.array([0.4, 0.4])],
        [np.float64, np.array, f64, lambda t: np.full(3, t), lambda t: f64([t] * 3), lambda t: tracked(f64(t))],
    ),
    "one time": Kind([*NO_TIMES, f64([0.4, 0.4])], [np.float64, np.array, f64]),
    "times": Kind([*NO_TIMES, 0.4, f64([0.5, NAN]), f64([0.5, 1.5]), f64([]), SPARSE], [numpy]),
    "any time": Kind([*NO_TIMES, SPARSE, f64([0.2, NAN])], [np.float64, np.array, f64]),
    "coordinate": Kind([*OBJECTS, True, NAN, -0.1, [0.4], torch.tensor(True), SPARSE, META], [np.float64, f64]),
    "count": Kind([*COUNTS, 0], [np.int64, np.int32, torch.tensor, np.array]),
    "from 0": Kind(COUNTS[1:], [np.int64]),
    "odd": Kind([*COUNTS, 0, 4], [np.int64]),
    "positive": Kind([*NUMBERS, 0, 0.0, -1.0], [np.float64, f64, np.array]),
    "limit": Kind([n for n in [*NUMBERS, 0, -1.0] if n is not INF], [np.float64, f64]),
    "at least 0": Kind([*NUMBERS, -1e-9], [np.float64, f64, np.array]),
    "share": Kind([*NUMBERS, -0.1, 1.1], [np.float64, f64, np.array]),
    "inside": Kind([*NUMBERS, 0, 1, -0.1, 1.1], [np.float64, f64]),
    "above 0 to 1": Kind([*NUMBERS, 0, -0.1, 1.1], [np.float64, f64]),
    "floor": Kind([*OBJECTS, NAN, -1.0, [0.1], True], [np.float64, f64]),
    "number": Kind([n for n in NUMBERS if n is not None], [np.float64, f64]),
    "bound": Kind([*NUMBERS[1:], -0.1, 1.1], [np.float64, f64]),
    "name": Kind(["", "greed", 3, 1.0, True, ["euler"], b"euler", CondOT, object()]),
    "key": Kind(["", "greed", "none of them", 3, None]),
    "text": Kind([None, 3, 1.0, True, b"a", ["a"], object()]),
    "address": Kind([None, 3, "", "a", ":", ":a", "a:", ".a:b", "no_such_module:a", "math:no_such", object()]),
    "device": Kind([None, 0, "", "cp", "gpu", ["cpu"], object()]),
    "variants": Kind([None, 3, ["greedy"], ("greedy",), [None], [("greedy", {})]]),
    "matrix": Kind([*NO_ARRAYS, f64([1.0]), torch.zeros(0, 2)], [numpy, foreign, lambda v: v.tolist(), tracked]),
    "map": Kind([None, 3, "map", torch.zeros(2), Bare, lambda x: 1.0, lambda x: x.sum(), lambda x: x[0]]),
    "seed": Kind([None, "0", 0.5, 1j, -1, 2**64, True, [0]], [np.int64]),
    "generator": Kind([None, 0, "seed", np.random.default_rng(0), torch.Generator]),
    "list": Kind([None, 3, 0.5, "a", ["a"], [None], [NAN], [True], [], {}, [1j], object()]),
    "shape": Kind([3, "ab", [0], [1.5], [True], [None], [-1], [2.0], [10**15], {}, object()], [np.array, torch.tensor]),
    "array": Kind([*NO_ARRAYS, f64([[[[1.0]]]])], [numpy, foreign, lambda v: v.tolist(), tracked]),
    "vector": Kind(
        [*OBJECTS, 1.0, [], [[1.0]], torch.ones(2, 2), ["a"], [None], BITS, SPARSE], [list, torch.tensor, pd.Series]
    ),
    "values": Kind([*OBJECTS, 1.0, f64([]), torch.ones(2, 2), BITS, SPARSE, META], [numpy, tracked]),
    "rows": Kind(
        [None, "a", 1.0, [[1.0, 2.0]], torch.ones(3, 2) > 0, torch.ones(3, 2) * 1j, SPARSE, META, *OTHER_SHAPES],
        [numpy, tracked],
    ),
    "set": Kind(
        [*OBJECTS, 1.0, f64(1.0), f64([[[[1.0]]]]), torch.zeros(0, 2), torch.ones(4, 2) > 0, SPARSE, META],
        [numpy, lambda x: x.tolist()],
    ),
}


@dataclass(frozen=True)
class Call:
    """A public function, good arguments by name, the kinds of those that are to be replaced, and how to name them.

    ``names`` are what a message may call an argument instead of its own name, separated by "|".
    """

    name: str
    function: Any
    good: dict[str, Any]
    kinds: dict[str, str]
    names: dict[str, str] = field(default_factory=dict)

    def malformed(self, most=None):
        """Yield (argument, value, whether it must be refused); at most so many of each argument, others each time."""
        for argument, name in self.kinds.items():
            kind = name.removesuffix(" or None")
            values = [(value, True) for value in KINDS[kind].refused if value is not None or kind == name]
            values += [(spell(self.good[argument]), False) for spell in KINDS[kind].spelled]
            stride = max(1, len(values) // (most or len(values)))
            start = sum(map(ord, self.name + argument)) % stride
            yield from ((argument, *pair) for pair in values[start::stride])

    def outcome(self, argument, value, refused, expected):
        """Return the class of a call, "clear", "right", "obscure" or "silent", and what it said."""
        try:
            found = self.function(**self.good | {argument: value})
        except Exception as error:
            clear = isinstance(error, ValueError | TypeError) and self._named(argument, error) and _own(error)
            said = f"{type(error).__name__}: {error}"[:300]
            return ("clear", said) if refused and clear else ("obscure", said)
        if refused:
            return "silent", f"returned {str(found)[:150]}"
        return ("right", "") if same(found, expected) else ("silent", "another result")

    def _named(self, argument, error):
        names = [argument, *self.names.get(argument, "").split("|")]
        return any(name and re.search(rf"(?<![\w']){re.escape(name)}(?!\w)", str(error)) for name in names)


def _own(error):
    """Say whether an error was raised in this project's own code."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).is_relative_to(OWN)


def same(a, b):
    """Say whether two results agree to round-off, whatever they are made of; costs aside."""
    if isinstance(a, torch.Tensor | np.ndarray):
        a, b = (torch.as_tensor(v).detach() for v in (a, b))
        return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-12)
    if isinstance(a, tuple | list):
        return len(a) == len(b) and all(same(*pair) for pair in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a.keys() - {"cost"})
    if hasattr(a, "__dict__") and not isinstance(a, type):
        return callable(a) or same(vars(a), vars(b))
    return callable(a) or a == b or (a != a and b != b)
