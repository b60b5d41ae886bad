r"""The interface of a flow, and wrappers that make one from a velocity, a denoiser or a noise predictor.

A flow returns the readout :math:`a\,\hat x_1(x,t) + b\,\hat x_0(x,t)` for given coefficients (a, b): its value, and its
Jacobian's products with vectors (``analysis.paths`` lists the readout of each prediction). Estimators and solvers use
nothing else, so an analytic flow with closed-form products and a network differentiated by autograd run through the
same code.
"""

from analysis.flow.interface import Flow, HasDensity, HasExactMap, Pullback, Reparametrized
from analysis.flow.prediction import (
    END,
    Prediction,
    PredictionFlow,
    from_denoiser,
    from_noise_predictor,
    from_velocity,
    usable_times,
)

__all__ = [
    "END",
    "Flow",
    "HasDensity",
    "HasExactMap",
    "Prediction",
    "PredictionFlow",
    "Pullback",
    "Reparametrized",
    "from_denoiser",
    "from_noise_predictor",
    "from_velocity",
    "usable_times",
]
