"""Networks as recordings on a GPU. Truth: the network itself."""

import pytest
import torch

from real_models.molecules.network import Velocity
from real_models.replayed import ROWS, Replayed

SMALL = {"width": 16, "channels": 8, "layers": 2, "heads": 4, "blocks": 2, "pairs": 8, "forces": 2, "context": 8}


def differ(device, counts):
    """Return the largest difference of values and products, for batches of some sizes, one after the other."""
    torch.manual_seed(0)
    network = Velocity(**SMALL).to(device).requires_grad_(False)
    replayed, far = Replayed(network), []
    for count in counts:
        x = torch.randn(count, 5, 8, device=device, requires_grad=True)
        t, v = torch.rand(count, device=device), torch.randn(count, 5, 8, device=device)
        values = [made(x, t) for made in (replayed, network)]
        products = [torch.autograd.grad(value, x, v, retain_graph=True)[0] for value in values]
        far += [float((one - other).detach().abs().max()) for one, other in (values, products)]
    return replayed, max(far)


def test_on_a_cpu_it_is_the_network():
    replayed, far = differ("cpu", [3])
    assert far == 0
    assert not replayed.recordings


@pytest.mark.skipif(not torch.cuda.is_available(), reason="recordings need a GPU")
def test_values_and_products_are_those_of_the_network_for_every_number_of_samples():
    replayed, far = differ("cuda", [3, 30, ROWS, ROWS + 3, 2, 3 * ROWS - 1])
    assert far < 1e-5
    assert len(replayed.recordings) == 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="recordings need a GPU")
def test_calls_before_a_product_do_not_change_it():
    torch.manual_seed(0)
    network = Velocity(**SMALL).cuda().requires_grad_(False)

    def twice(made):
        x = torch.ones(2, 5, 8, device="cuda").cumsum(1).requires_grad_()
        t = torch.full((2,), 0.5, device="cuda")
        y = x + made(x, t) / 2
        z = y + made(y, t) / 2
        return torch.autograd.grad(z.square().sum(), x)[0]

    assert torch.allclose(twice(Replayed(network)), twice(network), atol=1e-5)
