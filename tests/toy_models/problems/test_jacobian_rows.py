"""Problems whose gradients are rows of the Jacobian.

The truth is their construction: losses that are products with one unit vector for all times, and states of equal
x/alpha.
"""

import torch

from tests.support.problems import f64
from toy_models.problems import jacobian_rows


def test_gradients_are_products_with_the_jacobian():
    subject = jacobian_rows.subject("product256", "condot")
    times, generator = f64([0.5, 0.9]), torch.Generator().manual_seed(0)
    x, loss = subject.states(times, 3, generator), subject.loss(2, 3, generator)
    torch.testing.assert_close(x[:3] / 0.5, x[3:] / 0.9)
    assert loss.direction.shape == x.shape == (6, 8)
    torch.testing.assert_close(loss.direction.norm(dim=1), torch.ones(6, dtype=torch.float64))
    assert torch.equal(loss.direction[:3], loss.direction[3:])
