"""The gradient-accuracy library: how good is a guidance gradient, and what does it cost?

Nothing is imported here, so that ``analysis.results`` (all that figures need) does not pull torch in.
Use ``from analysis import gradients, losses, reference``.
"""
