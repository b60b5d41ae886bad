r"""Distances of restored images from clean ones: one number per image, (B,).

Images are flat (B, side^2) with pixels in [-1, 1]; restored ones are first clipped to that range, as for display.
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
    """Check both sets of images (B, d), and clip the restored ones.

    Returns
    -------
    tuple
        Restored and clean images (B, d), float64 on the CPU.

    Raises
    ------
    ValueError
        Unless both are (B, d) of one shape.
    """
    for name, value in (("restored", restored), ("clean", clean)):
        if not isinstance(value, Tensor) or value.ndim != 2 or not value.numel():
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name} must have shape (B, d), flat images; got {got}")
    if restored.shape != clean.shape:
        raise ValueError(f"restored and clean must have one shape, got {tuple(restored.shape)}, {tuple(clean.shape)}")
    return restored.detach().double().cpu().clamp(-1, 1), clean.detach().double().cpu()


def failed(values: Tensor, images: Tensor) -> Tensor:
    """Return values (B,) with NaN where an image of (B, d) is not finite."""
    finite = torch.isfinite(images).all(1).cpu()
    return torch.where(finite, values, torch.nan)


def psnr(restored: Tensor, clean: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio (B,) in dB, infinite for equal images; raises as ``pair`` does."""
    a, b = pair(restored, clean)
    return failed(10 * torch.log10(SPAN**2 / (a - b).square().mean(1)), restored)


def ssim(restored: Tensor, clean: Tensor) -> Tensor:
    """Compute the structural similarity, at most 1, over windows of 11 x 11 pixels inside the image.

    Returns
    -------
    Tensor
        (B,).

    Raises
    ------
    ImportError
        If scikit-image is not installed.
    ValueError
        For images that are not square or are smaller than the window, and as ``pair`` does.
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
    r"""Return :math:`|A(x) - y|^2 / (m\,\mathrm{noise}^2)` (B,) of residuals (B, m): about 1 for the clean image."""
    return sample_distances.misfit(residuals.detach().cpu()[:, None], noise)


def agreement(classifier: Classifier, restored: Tensor, labels: Tensor) -> Tensor:
    """Compare the classifier's label of each restored image (B, d) with a given label (B,).

    Returns
    -------
    Tensor
        (B,) float64: 1 where they agree, else 0.

    Raises
    ------
    ValueError
        Unless there is one label per image.
    """
    if labels.shape != restored.shape[:1]:
        raise ValueError(f"labels must have shape ({len(restored)},), one per image; got {tuple(labels.shape)}")
    named = classifier(restored.nan_to_num().clamp(-1, 1)).cpu()
    return failed((named == labels.cpu()).double(), restored)
