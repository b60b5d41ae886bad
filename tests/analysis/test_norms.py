"""Norms and relative errors at the ends of the number range; the truths are powers of two and ratios, known exactly."""

import pytest
import torch

from analysis.errors import norm_ratio, one_minus_cosine, relative, relative_error
from analysis.gradients._adaptive import choices
from analysis.norms import norms
from analysis.paths import CondOT
from tests.support.problems import randn, random_mixture
from toy_models import MixtureFlow

SIZES = [  # an entry whose square overflows, or underflows, in its dtype
    (torch.float16, 2.0**10),
    (torch.float16, 2.0**-14),
    (torch.bfloat16, 2.0**70),
    (torch.float32, 2.0**70),
    (torch.float32, 2.0**-100),
    (torch.float64, 2.0**600),
    (torch.float64, 2.0**-600),
]


@pytest.mark.parametrize(("dtype", "size"), SIZES)
def test_norms_neither_overflow_nor_underflow(dtype, size):
    v = torch.full((2, 4, 4), size, dtype=dtype)
    v[1] /= 2
    found = norms(v)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert found.tolist() == [4 * size, 2 * size]


@pytest.mark.parametrize(("dtype", "size"), SIZES)
def test_errors_do_not_depend_on_the_size_of_what_they_compare(dtype, size):
    g = torch.full((1, 4), size, dtype=dtype)
    turned = g * torch.tensor([1.0, 1.0, 1.0, -1.0], dtype=dtype)
    assert relative_error(2 * g, g).tolist() == [1.0]
    assert relative(g, 2 * g).tolist() == [0.5]
    assert norm_ratio(2 * g, g).tolist() == [2.0]
    assert one_minus_cosine(turned, g).tolist() == [0.5]


def test_a_difference_that_its_own_dtype_cannot_hold_is_taken_in_a_wider_one():
    g = torch.full((1, 2), 6e4, dtype=torch.float16)
    assert relative_error(-g, g).tolist() == [2.0]


def test_norms_are_bit_for_bit_those_of_torch_where_these_are_in_range():
    v = randn(50, 7)
    assert torch.equal(norms(v), torch.linalg.vector_norm(v, dim=1))
    assert torch.equal(norms(v.float()), torch.linalg.vector_norm(v.float(), dim=1))


def test_norms_of_zero_infinity_and_nan():
    v = torch.tensor([[0.0, 0.0], [torch.inf, 1.0], [torch.nan, 1.0]])
    assert norms(v)[:2].tolist() == [0.0, torch.inf]
    assert torch.isnan(norms(v)[2])


@pytest.mark.parametrize("scale", [1e15, 1e19, 1e20])
def test_adaptive_lookahead_does_not_depend_on_the_scale_of_the_loss(scale):
    flow, x = MixtureFlow(random_mixture(3, 2), CondOT(), torch.float32), randn(4, 2).float()
    one, other = (choices(flow, lambda z, s=s: s * z.square().sum(1), x, 0.3, tolerance=0.1) for s in (1.0, scale))
    assert one.steps.tolist() == other.steps.tolist()
    torch.testing.assert_close(one.error, other.error, rtol=1e-4, atol=0)
    torch.testing.assert_close(other.gradient / scale, one.gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("metric", [relative_error, one_minus_cosine, norm_ratio])
@pytest.mark.parametrize("shape", [(1, 3), (5, 1), (5, 2), (3,), (5, 3, 1)])
def test_nothing_is_broadcast(metric, shape):
    with pytest.raises(ValueError, match="g and truth must have one shape"):
        metric(torch.ones(5, 3), torch.ones(shape))
