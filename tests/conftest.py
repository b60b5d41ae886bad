"""What every test file needs."""

import sys
import warnings

import pytest
import torch

# The first forward-mode derivative in a process loads rules that call the deprecated torch.jit.script: torch's own
# warning, which is no error of ours. Every other warning stays an error.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r"`torch\.jit", category=DeprecationWarning)
    torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))

# The tensors of the tests are small: threads that wait for each other would cost time and save none.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _close_figures():
    """Close the figures that a test has drawn."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
