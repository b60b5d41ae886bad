"""A Gaussian mixture fitted to real images: 8x8 handwritten digits, d = 64, ten full-covariance components.

``python -m toy_models.problems.digits`` refits it and rewrites ``toy_models/data/digits.npz``, ``digits.json`` and
``digits_held_out.npz``, the 360 images used neither for the fit nor for the choice of its settings. Data: Alpaydin &
Kaynak (1998), "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
https://doi.org/10.24432/C50P49 (CC BY 4.0), the 1797 images that scikit-learn ships as ``load_digits``.
"""

import json
from pathlib import Path
from typing import IO, Any

import numpy as np

from analysis import intervals
from analysis.results import write_text, write_whole

DATA = Path(__file__).parents[1] / "data"
HELD_OUT = DATA / "digits_held_out.npz"
SEED, RESAMPLES = 0, 9999
FULL = ["digits"]  # the committed mixtures with full covariances; ``toy_models.problems.mnist`` has the other kind
# Pixels take 17 levels 1/8 apart, so rounding alone has this variance. It is the least reg_covar allowed:
# some pixels are never lit, and there the log-likelihood grows without bound as reg_covar goes to 0.
ROUNDING_VARIANCE = (1 / 8) ** 2 / 12
GRID = [ROUNDING_VARIANCE * 2.0**k for k in range(6, -1, -1)]
BELOW_FLOOR = [ROUNDING_VARIANCE * 4.0**-k for k in range(1, 5)]  # recorded to show the growth, never chosen


def load(name: str = "digits") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Read a committed mixture of images with pixels in [-1, 1], row-major.

    Returns
    -------
    tuple
        Weights (k,), means (k, d), covariances (k, d, d), all float64.

    Raises
    ------
    ValueError
        If ``name`` is not a committed mixture.
    """
    if name not in FULL:
        raise ValueError(f"name must be one of {FULL}, got {name!r}")
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as arrays:
        return arrays["weights"], arrays["means"], arrays["covariances"]


def held_out() -> tuple[np.ndarray, np.ndarray]:
    """Read the 360 held-out images: pixels (360, 64) in [-1, 1], float64, and their labels (360,), int64."""
    with np.load(HELD_OUT, allow_pickle=False) as arrays:
        return arrays["levels"] / 8 - 1, arrays["labels"].astype(np.int64)


def digits_splits() -> dict[str, np.ndarray]:
    """Split the digits by class, 60/20/20: "train" (1078, 64), "validation" (359, 64), "test" (360, 64).

    Returns
    -------
    dict
        Float64 arrays by name, with pixels in [-1, 1].

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    """
    return {name: images for name, (images, _) in labelled_splits().items()}


def labelled_splits() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return ``digits_splits`` with the labels of each split's images; raises ``ImportError`` as it does."""
    try:
        from sklearn.datasets import load_digits
        from sklearn.model_selection import train_test_split
    except ImportError as error:
        raise ImportError('digits_splits needs scikit-learn: pip install -e ".[fit]"') from error
    pixels, labels = load_digits(return_X_y=True)
    images, split = pixels / 8 - 1, {"random_state": SEED}
    train, rest, *labels_left = train_test_split(images, labels, train_size=0.6, stratify=labels, **split)
    validation, test, *labels_split = train_test_split(
        rest, labels_left[1], train_size=0.5, stratify=labels_left[1], **split
    )
    return {
        "train": (train, labels_left[0]),
        "validation": (validation, labels_split[0]),
        "test": (test, labels_split[1]),
    }


def fit_path(train: np.ndarray, components: int) -> dict[float, Any]:
    """Fit a mixture to train (n, d) at each reg_covar, largest first.

    The first fit is the best of five k-means starts. Each later one starts from the fit before it, because at a small
    reg_covar fits from k-means starts stop within a few steps at poor optima.

    Returns
    -------
    dict
        {reg_covar: fitted scikit-learn GaussianMixture}.
    """
    from sklearn.mixture import GaussianMixture

    fits: dict[float, Any] = {}
    start: dict[str, Any] = {"n_init": 5}
    for reg in GRID + BELOW_FLOOR:
        model = GaussianMixture(components, reg_covar=reg, max_iter=500, random_state=SEED, **start)
        fits[reg] = model.fit(train)
        start = {f"{part}_init": getattr(model, f"{part}_") for part in ("weights", "means", "precisions")}
    return fits


def mean_interval(values: np.ndarray) -> dict[str, Any]:
    """Return the mean of values (n,) and its 95 % BCa bootstrap interval over the n images, as stored in a record."""
    ends = intervals.interval(values, seed=SEED, resamples=RESAMPLES)
    return {"mean": ends.mean, "interval_95": [ends.low, ends.high]}


def _held_out(best: dict[str, Any], test: np.ndarray) -> dict[str, Any]:
    scores = {model: fit.score_samples(test) for model, fit in best.items()}
    scores["mixture_minus_single"] = scores["mixture"] - scores["single"]
    return {model: mean_interval(values) for model, values in scores.items()}


def _save(file: IO[bytes], fit: Any) -> None:
    # EM leaves the covariances symmetric only up to rounding.
    covariances = (fit.covariances_ + fit.covariances_.transpose(0, 2, 1)) / 2
    np.savez_compressed(file, weights=fit.weights_, means=fit.means_, covariances=covariances)


def _save_held_out(file: IO[bytes], images: np.ndarray, labels: np.ndarray) -> None:
    # Levels are whole numbers from 0 to 16, and so are labels: a byte each keeps them exactly.
    np.savez_compressed(file, levels=((images + 1) * 8).astype(np.uint8), labels=labels.astype(np.uint8))


def _record(splits: dict[str, np.ndarray], sweep: dict[str, Any], best: dict[str, Any]) -> dict[str, Any]:
    import scipy
    import sklearn

    return {
        "data": "sklearn.datasets.load_digits: 1797 handwritten digits, 8x8 pixels, row-major, d = 64",
        "source": "Alpaydin & Kaynak (1998), https://doi.org/10.24432/C50P49, CC BY 4.0",
        "scaling": "pixel / 8 - 1, so levels 0..16 become -1..1",
        "split_sizes": {name: len(images) for name, images in splits.items()},
        "seed": SEED,
        "reg_covar_floor": ROUNDING_VARIANCE,
        "reg_covar": {model: fit.reg_covar for model, fit in best.items()},
        "log_likelihood_units": "nats per image",
        "test_log_likelihood": _held_out(best, splits["test"]),
        "validation_log_likelihood_by_reg_covar": sweep,
        "condition_numbers": np.linalg.cond(best["mixture"].covariances_).tolist(),
        "versions": {module.__name__: module.__version__ for module in (np, scipy, sklearn)},
    }


def main() -> None:
    """Fit on train, choose reg_covar on validation, score on test; write the arrays, the record and the test images."""
    from threadpoolctl import threadpool_limits

    labelled = labelled_splits()
    splits = {name: images for name, (images, _) in labelled.items()}
    best, sweep = {}, {}
    with threadpool_limits(1):  # the last bits must not depend on the number of cores
        for model, components in {"mixture": 10, "single": 1}.items():
            fits = fit_path(splits["train"], components)
            scores = {reg: fit.score(splits["validation"]) for reg, fit in fits.items()}
            best[model] = fits[max(GRID, key=scores.__getitem__)]
            sweep[model] = {f"{reg:.3e}": score for reg, score in scores.items()}
        text = json.dumps(_record(splits, sweep, best), indent=2) + "\n"
    write_whole(DATA / "digits.npz", lambda file: _save(file, best["mixture"]))
    write_text(DATA / "digits.json", text)
    write_whole(HELD_OUT, lambda file: _save_held_out(file, *labelled["test"]))


if __name__ == "__main__":
    main()
