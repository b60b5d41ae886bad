"""A user's own model as a flow, in one line.

- ``adapters.module.flow(network, path)``: any ``nn.Module`` or function, with its conventions of time as options
- ``adapters.azula.flow(denoiser)``: an azula denoiser with its noise schedule
- ``adapters.diffusers.flow(network, scheduler)``: a diffusers model with its scheduler
- ``adapters.edm.flow(network)``: an EDM-preconditioned denoiser D(x; sigma)

Each returns a ``PredictionFlow``, with time from noise (0) to data (1). azula and diffusers are imported when a flow is
made, and not before. Put the network in ``eval()`` mode first: a flow is a function of (x, t) alone.
"""

from real_models.adapters import azula, diffusers, edm, module

__all__ = ["azula", "diffusers", "edm", "module"]
