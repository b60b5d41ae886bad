r"""Distances of restored images from clean ones: one number per image, (B,).

Images are flat (B, side^2) with pixels in [-1, 1]; restored ones are clipped to that range first, as for display.
``psnr`` is :math:`10 \log_{10}(2^2 / \mathrm{mean}\,|x - \hat x|^2)` in dB; ``ssim`` is scikit-image's, with the
Gaussian window of Wang et al. (2004, *IEEE Trans. Image Process.* 13). An image with a pixel that is not finite has the
value NaN, which ``analysis.intervals.interval`` counts as failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from analysis import sample_distances

SPAN = 2.0  # from black, -1, to white, 1
WINDOW: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "win_size": 11}
Classifier = Callable[[Tensor], Tensor]


def pair(restored: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """Return both (B, d) as float64 on the CPU, the restored ones clipped.

    Raises
    ------
    ValueError
        For other shapes.
    """
    for name, value in (("restored", restored), ("clean", clean)):
        if not isinstance(value, Tensor) or value.ndim != 2 or not value.numel():
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name} must have shape (B, d), flat images; got {got}")
    if restored.shape != clean.shape:
        raise ValueError(f"restored and clean must have one shape, got {tuple(restored.shape)}, {tuple(clean.shape)}")
    return restored.detach().double().cpu().clamp(-1, 1), clean.detach().double().cpu()


def failed(values: Tensor, images: Tensor) -> Tensor:
    """Return values (B,) with NaN where an image is not finite."""
    finite = torch.isfinite(images).all(1).cpu()
    return torch.where(finite, values, torch.nan)


def psnr(restored: Tensor, clean: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio in dB, (B,); infinite for equal images."""
    a, b = pair(restored, clean)
    return failed(10 * torch.log10(SPAN**2 / (a - b).square().mean(1)), restored)


def ssim(restored: Tensor, clean: Tensor) -> Tensor:
    """Return the structural similarity, (B,), at most 1; the windows lie inside the image, of at least 11 x 11.

    Raises
    ------
    ImportError
        Where scikit-image is not installed.
    ValueError
        For images that are not square or smaller than the window.
    """
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise ImportError("metrics.ssim needs scikit-image: pip install scikit-image") from error
    a, b = pair(restored, clean)
    side, reach = math.isqrt(a.shape[1]), WINDOW["win_size"] // 2
    if side**2 != a.shape[1] or side < WINDOW["win_size"]:
        raise ValueError(f"restored must be square images of at least 11 x 11 pixels, got {a.shape[1]} pixels")
    images = (v.nan_to_num().unflatten(1, (side, side)).numpy() for v in (a, b))
    places = structural_similarity(*images, channel_axis=0, full=True, data_range=SPAN, **WINDOW)[1]
    inside = torch.from_numpy(places)[:, reach : side - reach, reach : side - reach]
    return failed(inside.mean((1, 2)), restored)


def misfit(residuals: Tensor, noise: float) -> Tensor:
    r"""Return :math:`|A(x) - y|^2 / (m\,\mathrm{noise}^2)` of residuals (B, m), (B,): about 1 for the clean image."""
    return sample_distances.misfit(residuals.detach().cpu()[:, None], noise)


def agreement(classifier: Classifier, restored: Tensor, labels: Tensor) -> Tensor:
    """Return 1 where the classifier gives a restored image (B, d) this label (B,), else 0, as (B,) float64.

    Raises
    ------
    ValueError
        For labels that are not one per image.
    """
    if labels.shape != restored.shape[:1]:
        raise ValueError(f"labels must have shape ({len(restored)},), one per image; got {tuple(labels.shape)}")
    named = classifier(restored.nan_to_num().clamp(-1, 1)).cpu()
    return failed((named == labels.cpu()).double(), restored)
