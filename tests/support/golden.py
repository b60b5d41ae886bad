"""The golden cases: values computed in 40-digit arithmetic, rounded to double."""

import json
from pathlib import Path

import torch

from analysis import losses
from analysis.paths import PATHS
from toy_models import GaussianFlow, GaussianMixture, MixtureFlow, ProductMixtureFlow, RadialMixtureFlow

CASES = json.loads((Path(__file__).parent / "data" / "ideal_gradients.json").read_text())
NAMES = [case["name"] for case in CASES]


def tensor(value):
    return torch.tensor(value, dtype=torch.float64)


def flow_of(case, general=False):
    """The case's flow; ``general`` forgets that it has an exact map."""
    path = PATHS[case["path"]]()
    weights, means = tensor(case["weights"]), tensor(case["means"])
    eye = torch.eye(means.shape[1], dtype=torch.float64)
    covariances = (
        tensor(case["covariances"]) if "covariances" in case else tensor(case["variances"])[:, None, None] * eye
    )
    if general or case["family"] == "mixture":
        return MixtureFlow(GaussianMixture(weights / weights.sum(), means, covariances), path)
    if case["family"] == "gaussian":
        return GaussianFlow(means[0], covariances[0], path)
    if case["family"] == "radial":
        return RadialMixtureFlow(weights, tensor(case["variances"]), case["dim"], path)
    factors = [tuple(tensor(f[k]) for k in ("weights", "means", "variances")) for f in case["factors"]]
    return ProductMixtureFlow(factors, tensor(case["rotation"]), path)


def arguments(case, general=False):
    """flow, loss, x, t of a case."""
    return (
        flow_of(case, general),
        losses.HalfSquaredDistance(tensor(case["loss"]["target"])),
        tensor(case["x"])[None],
        case["t"],
    )


def distance(actual, case, key):
    """Relative distance in the maximum norm."""
    expected = tensor(case[key])
    return float((actual[0] - expected).abs().max() / expected.abs().max())
