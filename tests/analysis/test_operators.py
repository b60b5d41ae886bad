"""Measurement operators: adjoints, known values, and the refusal of pairs that are no operator.

The truths are images whose averages and selected pixels are plain, the normal density for kernels, and pairs of
functions of which one is no adjoint by construction.
"""

import math

import pytest
import torch

from analysis.operators import (
    OPERATORS,
    InverseProblem,
    LinearOperator,
    box_inpainting,
    compressed_sensing,
    from_forward,
    from_matrix,
    gaussian_deblurring,
    inverse_problem,
    motion_deblurring,
    random_inpainting,
    super_resolution,
)
from tests.support.problems import distance, f64, randn

ROWS = {  # by side: what each operator measures
    8: [48, 19, 16, 4, 64, 64, 16],
    28: [588, 235, 196, 49, 784, 784, 196],
}


@pytest.mark.parametrize("side", ROWS)
@pytest.mark.parametrize("name", OPERATORS)
def test_operators_are_their_matrices(name, side):
    operator = OPERATORS[name](side)
    a = operator.matrix()
    m = dict(zip(OPERATORS, ROWS[side], strict=True))[name]
    assert (operator.in_dim, operator.out_dim, tuple(a.shape)) == (side**2, m, (m, side**2))
    assert a.dtype == torch.float64
    x, y = randn(5, side**2), randn(3, m, seed=1)
    assert distance(operator(x), x @ a.T) <= 1e-13
    assert distance(operator.adjoint(y), y @ a) <= 1e-13
    assert torch.linalg.matrix_rank(a) == m
    assert operator(x.float()).dtype == torch.float32


@pytest.mark.parametrize(
    "name", ["super_resolution_2", "super_resolution_4", "gaussian_deblurring", "motion_deblurring"]
)
def test_averages_keep_a_constant_image(name):
    operator = OPERATORS[name](8)
    assert distance(operator(torch.full((1, 64), -1.0).double()), torch.full((1, operator.out_dim), -1.0)) <= 1e-15
    assert (operator.matrix() >= 0).all()


def test_known_values():
    x = torch.arange(16, dtype=torch.float64)[None]
    assert super_resolution(4, 2)(x).tolist() == [[2.5, 4.5, 10.5, 12.5]]
    assert box_inpainting(4)(x).tolist() == [[0, 1, 2, 3, 4, 7, 8, 11, 12, 13, 14, 15]]
    assert box_inpainting(4, box=3, top=0, left=1)(x).tolist() == [[0, 4, 8, 12, 13, 14, 15]]
    assert set(random_inpainting(4, keep=0.5)(x)[0].tolist()) < set(range(16))


def test_gaussian_kernel_is_the_normal_density():
    row = gaussian_deblurring(15, width=1.5).matrix()[7 * 15 + 7].reshape(15, 15)
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    kernel = line[:, None] * line / line.sum() ** 2
    assert distance(row[2:13, 2:13], kernel) <= 1e-14
    assert row.sum() == pytest.approx(1, abs=1e-14)


def test_motion_kernel_lies_along_its_angle():
    row, column = (motion_deblurring(9, 5, angle).matrix()[40].reshape(9, 9) for angle in (0.0, 90.0))
    assert row[4, 2:7].tolist() == pytest.approx([0.2] * 5)
    assert column[2:7, 4].tolist() == pytest.approx([0.2] * 5, abs=1e-12)
    slanted = motion_deblurring(9, 5, 45.0).matrix()[40].reshape(9, 9)
    rows, columns = (torch.arange(-4.0, 5.0)[s] for s in ((slice(None), None), (None, slice(None))))
    along, across = ((slanted * (rows + sign * columns) ** 2).sum() for sign in (-1, 1))
    assert along > 5 * across  # counted from the top, rows fall as columns grow
    assert slanted.sum() == pytest.approx(1)


def test_seeds_and_scales():
    assert torch.equal(random_inpainting(8).matrix(), random_inpainting(8).matrix())
    assert not torch.equal(random_inpainting(8).matrix(), random_inpainting(8, seed=1).matrix())
    a = compressed_sensing(28, ratio=0.5, seed=3).matrix()
    assert len(a) == 392
    assert float(a.var()) * 784 == pytest.approx(1, abs=0.02)


def test_measurements_have_the_noise_asked_for():
    problem, x = inverse_problem("super_resolution_2", 8, 0.3), randn(4000, 64)
    y = problem.measure(x, torch.Generator().manual_seed(0))
    assert float((y - problem.operator(x)).std()) == pytest.approx(0.3, rel=0.02)
    assert torch.equal(problem.noise_covariance, 0.3**2 * torch.eye(16).double())
    assert torch.equal(y, problem.measure(x, torch.Generator().manual_seed(0)))
    assert inverse_problem("random_inpainting", 8, 0.1, keep=0.5).operator.out_dim == 32


def test_wrong_adjoints_are_refused():
    a = randn(3, 5)
    good = {"forward": lambda x: x @ a.T, "adjoint": lambda y: y @ a, "in_dim": 5, "out_dim": 3}
    assert torch.equal(LinearOperator(**good).matrix(), a)
    wrong = {
        "scaled": lambda y: 1.001 * y @ a,
        "pseudo-inverse": lambda y: y @ torch.linalg.pinv(a).T,
        "another": lambda y: y @ randn(3, 5, seed=1),
    }
    for adjoint in wrong.values():
        with pytest.raises(ValueError, match=r"adjoint must be the transpose of forward: .* differ by"):
            LinearOperator(**good | {"adjoint": adjoint})
    for forward in (lambda x: x @ a.T + 1, lambda x: (x @ a.T) ** 3):
        with pytest.raises(ValueError, match="adjoint must be the transpose of forward"):
            LinearOperator(**good | {"forward": forward})


BAD = [
    ("adjoint", lambda y: y, r"adjoint must map \(3, 3\) to \(3, 5\) torch.float64, got \(3, 3\)"),
    ("forward", lambda x: x[0, :3], r"forward must map \(3, 5\) to \(3, 3\) torch.float64, got \(3,\)"),
    ("forward", lambda x: x[:, :3].float(), r"forward must map .* got \(3, 3\) torch.float32"),
    ("forward", lambda x: None, "forward must map .* got NoneType"),
    ("forward", lambda x: math.nan * x[:, :3], "forward's value must be finite"),
    ("out_dim", 4, r"forward must map \(3, 5\) to \(3, 4\)"),
    ("in_dim", 0, "in_dim must be an integer of at least 1, got 0"),
]


@pytest.mark.parametrize(("name", "bad", "message"), BAD)
def test_functions_of_the_wrong_kind_are_refused(name, bad, message):
    pad = torch.nn.functional.pad
    good = {"forward": lambda x: x[:, :3], "adjoint": lambda y: pad(y, (0, 2)), "in_dim": 5, "out_dim": 3}
    LinearOperator(**good)
    with pytest.raises(ValueError, match=message):
        LinearOperator(**good | {name: bad})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: super_resolution(6, 4), "factor must divide the side, 6, got 4"),
        (lambda: box_inpainting(8, box=4, top=5), r"box must lie in the image of side 8, got size 4 at \(5, 2\)"),
        (lambda: box_inpainting(8, box=8), "the mask must hide some pixels and keep some, but keeps 0 of 64"),
        (lambda: random_inpainting(8, keep=1.5), r"keep must lie in \(0, 1\], got 1.5"),
        (lambda: random_inpainting(8, keep=1.0), "the mask must hide some pixels"),
        (lambda: gaussian_deblurring(8, width=0.0), "width must be positive and finite"),
        (lambda: motion_deblurring(8, length=4), "length must be odd"),
        (lambda: compressed_sensing(8, ratio=0.0), r"ratio must lie in \(0, 1\]"),
        (lambda: inverse_problem("deblurring", 8, 0.1), "name must be one of box_inpainting, .*; got 'deblurring'"),
        (lambda: inverse_problem("box_inpainting", 8, 0.0), "noise must be positive and finite"),
        (lambda: InverseProblem(from_matrix(randn(2, 3)), math.nan), "noise must be positive"),
        (lambda: from_matrix(randn(3)), r"matrix must have shape \(m, d\), got \(3,\)"),
        (lambda: from_matrix(f64([[math.inf]])), "matrix must be finite"),
        (lambda: from_forward(lambda x: x**2 + x, 4), "adjoint must be the transpose"),
        (lambda: from_matrix(randn(2, 3))(randn(4, 2)), r"x must have shape \(B, 3\), got \(4, 2\)"),
    ],
)
def test_bad_options_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
