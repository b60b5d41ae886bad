"""A quick run of one figure, made once for the tests of the command line."""

import pytest

import reproduce
from tests.support.command import FAST


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    out = tmp_path_factory.mktemp("made")
    assert reproduce.main(["run", *FAST, "--out", str(out)]) == 0
    return out
