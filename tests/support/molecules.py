"""Molecules made up for the tests: random chains, whose geometry only has to be of the right size."""

import numpy as np

from real_models.molecules import data


def molecules(count: int = 40, seed: int = 0) -> data.Molecules:
    """Return ``count`` molecules of 3 to 8 atoms with properties that are functions of their composition."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        n = int(rng.integers(3, 9))
        names = list(rng.choice(data.ELEMENTS, n))
        steps = rng.normal(size=(n, 3))
        place = np.cumsum(1.3 * steps / np.linalg.norm(steps, axis=1, keepdims=True), 0)
        made.append((names, place, np.arange(6.0) + n))
    return data.collect(made)
