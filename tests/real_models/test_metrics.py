"""PSNR, SSIM, misfit and a classifier's agreement, one number per image.

The truths are scikit-image's own functions image by image, a PSNR by hand, and the law of large numbers for the misfit
of pure noise.
"""

import math

import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from real_models import metrics
from tests.support.problems import randn

CLEAN = randn(5, 784).clamp(-1, 1)
RESTORED = CLEAN + 0.4 * randn(5, 784, seed=1)  # leaves [-1, 1], as samples do
WINDOW = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2.0}


def pairs():
    return [tuple(v.reshape(28, 28).numpy() for v in pair) for pair in zip(CLEAN, RESTORED.clamp(-1, 1), strict=True)]


def test_psnr_is_the_librarys_image_by_image_after_clipping():
    expected = [peak_signal_noise_ratio(a, b, data_range=2.0) for a, b in pairs()]
    torch.testing.assert_close(metrics.psnr(RESTORED, CLEAN), torch.tensor(expected, dtype=torch.float64))


def test_ssim_is_the_librarys_image_by_image_after_clipping():
    expected = [structural_similarity(a, b, **WINDOW) for a, b in pairs()]
    torch.testing.assert_close(metrics.ssim(RESTORED, CLEAN), torch.tensor(expected, dtype=torch.float64))


def test_equal_images_have_the_best_value():
    assert torch.isinf(metrics.psnr(CLEAN, CLEAN)).all()
    torch.testing.assert_close(metrics.ssim(CLEAN, CLEAN), torch.ones(5, dtype=torch.float64))


def test_a_known_psnr():
    grey, step = torch.zeros(1, 784), torch.full((1, 784), 0.2)
    assert float(metrics.psnr(step, grey)) == pytest.approx(20.0, abs=1e-5)  # 10 log10(4 / 0.04), in float32


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_an_image_that_is_not_finite_fails_alone(value):
    broken = RESTORED.clone()
    broken[2, 7] = value
    named = metrics.agreement(lambda x: torch.zeros(len(x), dtype=torch.long), broken, torch.zeros(5, dtype=torch.long))
    for found in (metrics.psnr(broken, CLEAN), metrics.ssim(broken, CLEAN), named):
        assert torch.isnan(found).tolist() == [False, False, True, False, False]


def test_misfit_of_the_noise_alone_is_one():
    residuals = 0.05 * randn(3, 20_000)
    assert metrics.misfit(residuals, 0.05).tolist() == pytest.approx([1.0] * 3, abs=6 / math.sqrt(10_000))


def test_agreement_compares_label_by_label():
    def nearest(x):
        return (x.mean(1) > 0).long()

    x = torch.stack([torch.full((6,), v) for v in (-0.5, 0.5, 0.3, -0.2)])
    assert metrics.agreement(nearest, x, torch.tensor([0, 0, 1, 1])).tolist() == [1, 0, 1, 0]
    with pytest.raises(ValueError, match="labels must have shape"):
        metrics.agreement(nearest, x, torch.tensor([0, 1]))


@pytest.mark.parametrize(
    ("restored", "clean", "message"),
    [
        (CLEAN[0], CLEAN, "restored must have shape"),
        (CLEAN, CLEAN.reshape(5, 28, 28), "clean must have shape"),
        (CLEAN, CLEAN[:3], "must have one shape"),
        (CLEAN[:, :0], CLEAN[:, :0], "restored must have shape"),
        ("image", CLEAN, "restored must have shape"),
    ],
)
@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_wrong_shapes_are_refused(metric, restored, clean, message):
    with pytest.raises(ValueError, match=message):
        metric(restored, clean)


@pytest.mark.parametrize("size", [80, 100])
def test_ssim_needs_square_images_as_large_as_its_window(size):
    with pytest.raises(ValueError, match="square images"):
        metrics.ssim(torch.zeros(2, size), torch.zeros(2, size))
