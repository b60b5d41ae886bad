"""Checkpoints: a file gives back what was saved, and anything else is refused by name.

The truths are the tensors before they were saved, and files that the test truncates, replaces or writes for another
architecture.
"""

import pytest
import torch
from torch import nn

from real_models import checkpoint


def build(inside: int, outside: int) -> nn.Module:
    return nn.Linear(inside, outside)


@pytest.fixture
def saved(tmp_path):
    module, path = build(3, 2), tmp_path / "weights.safetensors"
    checkpoint.save(path, module.state_dict(), config={"inside": 3, "outside": 2}, record={"steps": 7})
    return module, path


def test_what_is_saved_is_what_is_loaded(saved):
    module, path = saved
    found, (_, record) = checkpoint.load(path, build), checkpoint.read(path)
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), found.parameters(), strict=True))
    assert record == {"config": {"inside": 3, "outside": 2}, "record": {"steps": 7}}


@pytest.mark.parametrize("part", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(saved, part):
    _, path = saved
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ValueError, match="whole safetensors file"):
        checkpoint.load(path, build)


def test_a_pickle_is_refused_unread(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(build(3, 2).state_dict(), path)
    with pytest.raises(ValueError, match="whole safetensors file"):
        checkpoint.load(path, build)


def test_another_architecture_is_refused(saved):
    module, path = saved
    checkpoint.save(path, module.state_dict(), config={"inside": 4, "outside": 2})
    with pytest.raises(ValueError, match="another architecture than build makes"):
        checkpoint.load(path, build)
    checkpoint.save(path, module.state_dict(), config={"depth": 4})
    with pytest.raises(ValueError, match="another architecture than build makes"):
        checkpoint.load(path, build)


def test_weights_without_their_architecture_are_refused(saved):
    module, path = saved
    checkpoint.save(path, module.state_dict())
    with pytest.raises(ValueError, match="records its architecture"):
        checkpoint.load(path, build)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors"):
        checkpoint.load(tmp_path / "none.safetensors", build)
