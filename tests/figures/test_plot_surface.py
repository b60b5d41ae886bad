"""A user's own surface, drawn; the truth is the error of each cell, from the gradients themselves."""

import matplotlib as mpl
import numpy as np
import pytest

import figures
from analysis import errors, gradients, losses, reference
from analysis.paths import CondOT
from tests.support.problems import f64, randn, random_mixture
from toy_models import MixtureFlow

FLOW, X, LOSS = MixtureFlow(random_mixture(3, 2), CondOT()), randn(5, 2), losses.HalfSquaredDistance(f64([1.0, -0.5]))


def test_a_users_surface_is_drawn_with_the_best_horizon_of_each_step_count():
    steps, horizons = [1, 2, 4], [0.3, 0.6, 0.8, 1.0]
    surface = gradients.lookahead_surface(FLOW, LOSS, X, 0.3, steps, horizons)
    truth = reference.ideal_gradient(FLOW, LOSS, X, 0.3)
    expected = np.array(
        [[float(errors.relative_error(g, truth.gradient).median()) for g in row] for row in surface.gradient]
    )
    for given in (truth, truth.gradient):
        drawn = figures.plot_surface(surface, given)
        panel = drawn.axes[0]
        np.testing.assert_allclose(panel.collections[0].get_array().reshape(3, 4), expected)
        dots = panel.lines[0].get_xydata()
        best = [[horizons[i], np.log2(n)] for n, i in zip(steps, expected.argmin(1), strict=True)]
        np.testing.assert_allclose(dots, best)
        assert [label.get_text() for label in panel.get_yticklabels()] == ["1", "2", "4"]


@pytest.mark.parametrize(("steps", "horizons"), [([4], [0.3, 0.6, 1.0]), ([4, 1, 2], [1.0, 0.3, 0.6]), ([2], [1.0])])
def test_one_step_count_and_any_order_of_steps_and_horizons_are_drawn_whole(steps, horizons):
    surface = gradients.lookahead_surface(FLOW, LOSS, X, 0.3, steps, horizons)
    panel = figures.plot_surface(surface, reference.ideal_gradient(FLOW, LOSS, X, 0.3)).axes[0]
    x, y = (panel.collections[0].get_coordinates()[..., i] for i in (0, 1))
    assert (np.diff(x, axis=1) > 0).all()
    assert (np.diff(y, axis=0) > 0).all()
    assert panel.collections[0].get_array().count() == len(steps) * len(horizons)
    assert [label.get_text() for label in panel.get_yticklabels()] == [str(n) for n in sorted(steps)]


def test_the_users_own_figures_keep_their_style():
    surface = gradients.lookahead_surface(FLOW, LOSS, X, 0.3, [1, 2], [0.3, 1.0])
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 7}):
        before = dict(mpl.rcParams)
        drawn = figures.plot_surface(surface, reference.ideal_gradient(FLOW, LOSS, X, 0.3))
        assert dict(mpl.rcParams) == before
    assert drawn.axes[0].xaxis.label.get_size() < 30


def test_what_is_no_surface_is_refused():
    with pytest.raises(TypeError, match="surface must be what lookahead_surface returns, got Estimate"):
        figures.plot_surface(gradients.greedy(FLOW, LOSS, X, 0.3), X)
    surface = gradients.lookahead_surface(FLOW, LOSS, X, 0.3, [1], [0.3])
    with pytest.raises(ValueError, match="nothing to draw"):
        figures.plot_surface(surface, surface.gradient[0, 0])
