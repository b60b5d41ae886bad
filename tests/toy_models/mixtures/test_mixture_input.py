"""Arguments that a mixture and its flow refuse, and what they say.

The truth is a list of malformed parameters, states and counts, each written here beside the words that its message must
hold.
"""

import math

import numpy as np
import pytest
import torch

from analysis.paths import CondOT
from tests.support.problems import f64, random_mixture
from toy_models import GaussianMixture, MixtureFlow

GOOD = {
    "weights": f64([0.25, 0.75]),
    "means": torch.zeros(2, 3).double(),
    "covariances": torch.eye(3).double().repeat(2, 1, 1),
}
SKEW = torch.eye(3).double() + torch.triu(torch.full((3, 3), 1e-6).double(), 1)


@pytest.mark.parametrize(
    ("name", "bad", "message"),
    [
        ("weights", [-0.5, 1.5], "weights must be"),
        ("weights", [0.3, 0.3], "weights must be"),
        ("weights", [0.25, 0.75 + 1e-6], "weights must be"),
        ("weights", [math.nan, 1.0], "weights must be finite"),
        ("weights", [[0.25, 0.75]], "weights must be"),
        ("weights", [0.25, 0.25, 0.5], r"means must have shape \(K, d\) with K = 3"),
        ("means", torch.zeros(3, 3), "means must have shape"),
        ("means", torch.zeros(2), "means must have shape"),
        ("means", torch.full((2, 3), math.inf), "means must be finite"),
        ("means", torch.zeros(2, 4), "covariances must have shape"),
        ("covariances", torch.eye(3).repeat(3, 1, 1), "covariances must have shape"),
        ("covariances", torch.full((2, 3, 3), math.nan), "covariances must be finite"),
        ("covariances", SKEW.repeat(2, 1, 1), "covariances must be symmetric"),
        ("covariances", torch.diag(torch.tensor([1.0, 1.0, 0.0])).repeat(2, 1, 1), "covariances must be positive"),
        ("covariances", -torch.eye(3).repeat(2, 1, 1), "covariances must be positive"),
    ],
)
def test_bad_parameters_are_refused(name, bad, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(**GOOD | {name: torch.as_tensor(bad)})


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(5, 4).double(), ValueError, r"x must have shape \(B, 3\)"),
        (torch.zeros(3).double(), ValueError, r"x must have shape \(B, \*event\)"),
        (f64([[0.0, math.nan, 0.0]]), ValueError, "x must be finite"),
        (f64([[0.0, math.inf, 0.0]]), ValueError, "x must be finite"),
        (torch.zeros(5, 3, dtype=torch.long), TypeError, "x must be a floating-point tensor"),
        (np.zeros((5, 3), dtype=complex), TypeError, "x must hold real numbers"),
    ],
)
def test_bad_states_are_refused(x, error, message):
    flow = MixtureFlow(GaussianMixture(**GOOD), CondOT())
    for call in (flow.velocity, flow.target, flow.source, flow.score, flow.log_prob, flow.posterior_covariance):
        with pytest.raises(error, match=message):
            call(x, 0.5)


@pytest.mark.parametrize("n", [0, -1, 2.0])
def test_bad_sample_sizes_are_refused(n):
    with pytest.raises(ValueError, match="n must be an integer"):
        random_mixture(2, 3).sample(n, torch.Generator())
