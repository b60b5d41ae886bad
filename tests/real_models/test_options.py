"""Options of commands. Truth: which texts name a value, and which do not."""

import argparse

import pytest
import torch

from real_models import options

REFUSED = {
    options.count: ("0", "-5", "1.5", "nan", "", "x"),
    options.seed: ("-1", "1.5", str(2**63), "x"),
    options.positive: ("0", "-1", "nan", "inf", "x"),
    options.share: ("-0.1", "2", "nan", "x"),
    options.device: ("banana", "meta", "cuda:99"),
    options.file: ("no_such_file", "."),
    options.folder: ("/proc/x",),
}
TAKEN = {options.count: ("3", 3), options.seed: ("0", 0), options.positive: ("0.5", 0.5), options.share: ("1", 1.0)}


@pytest.mark.parametrize(("read", "text"), [(read, text) for read, some in REFUSED.items() for text in some])
def test_what_names_no_value_is_refused(read, text):
    with pytest.raises(argparse.ArgumentTypeError) as caught:
        read(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("read", TAKEN)
def test_values_are_read(read):
    text, value = TAKEN[read]
    assert read(text) == value


def test_a_folder_that_is_not_there_yet_can_be_written(tmp_path):
    assert options.folder(str(tmp_path / "new")) == tmp_path / "new"
    assert not list(tmp_path.iterdir())
    assert torch.device(options.device("cpu")).type == "cpu"


@pytest.mark.parametrize("error", [ValueError("why"), ImportError("why"), OSError("why"), FloatingPointError("why")])
def test_a_command_ends_in_one_line(error):
    @options.in_one_line
    def command():
        raise error

    with pytest.raises(SystemExit, match="error: why"):
        command()


def test_a_command_that_is_stopped_says_how_to_go_on():
    @options.in_one_line
    def command():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="the same command goes on"):
        command()
