"""The tutorial runs as it is printed. The truth of what its text says is what its own code has measured."""

import re
import time

import pytest

from analysis.provenance import ROOT

BLOCKS = re.compile(r"```python\n(.*?)```", re.DOTALL)
LIMIT = 180.0  # seconds of the processor, as other work may share it


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Return the folder and the names that the tutorial leaves behind, and the seconds it took."""
    text = (ROOT / "docs" / "pages" / "tutorial.md").read_text()
    folder, names, start = tmp_path_factory.mktemp("tutorial"), {}, time.process_time()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MPLBACKEND", "Agg")
        patch.chdir(folder)
        for block in BLOCKS.findall(text):
            exec(compile(block, "tutorial.md", "exec"), names)
    return folder, names, time.process_time() - start


def test_it_takes_less_than_three_minutes(ran):
    assert ran[2] < LIMIT


def test_its_pictures_are_there(ran):
    assert {path.name for path in ran[0].iterdir()} == {"surface.png", "samples.png"}


def test_the_network_has_learned_the_moons(ran):
    """Half of the points at which samples end lie within two standard deviations of the noise of a datum."""
    names = ran[1]
    distance = names["torch"].cdist(names["samples"]["unguided"].x, names["data"].double()).amin(1)
    assert float(distance.median()) < 0.1


def test_greedy_errs_most_and_steps_bring_the_gradient_closer(ran):
    measured = ran[1]["measured"]
    assert max(measured, key=measured.get) == ("greedy", 0)
    assert min(measured, key=measured.get) == ("end_to_end", 16)
    assert measured["end_to_end", 16] < 0.01


def test_few_steps_are_best_short_of_the_end(ran):
    names = ran[1]
    assert float(names["best"][0]) < 1
    assert names["ideal"].tier == "converged"
    assert float(names["ideal"].error_bound.max()) < 1e-6


def test_guidance_lowers_the_loss_and_no_sample_fails(ran):
    samples = ran[1]["samples"]
    mean = {name: float(sample.value.mean()) for name, sample in samples.items()}
    assert all(mean[name] < mean["unguided"] / 4 for name in mean if name != "unguided")
    assert not any(bool(sample.failed.any()) for sample in samples.values())
