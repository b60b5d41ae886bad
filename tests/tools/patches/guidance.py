"""Mistakes in guided sampling."""

from tests.tools.patches.record import add

GUIDANCE = ["analysis/guidance/test_guidance.py", "analysis/guidance/test_guidance_input.py"]
add(
    "analysis/guidance/oracle.py",
    GUIDANCE,
    {
        "oracle_sde: noise by churn, not by its root": ("noise = churn**0.5 *", "noise = churn *"),
        "oracle_sde: the old noise keeps its weight beside the new": ("sigma(s) ** 2 - noise**2)", "sigma(s) ** 2)"),
        "oracle_sde: the share of the noise without its square": ("(1 - ratio**2)", "(1 - ratio)"),
    },
)
add(
    "analysis/guidance/registry.py",
    ["analysis/guidance/test_divergence.py", *GUIDANCE, "analysis/guidance/test_guidance_optimised.py"],
    {
        "divergence: a loss taken out of bounds does not count": ("(self.far(new) | self.noted)", "self.far(new)"),
        "divergence: an overflow of the loss does not count": ("far = far | overflows", "far = far"),
        "divergence: the value of the origin in place of infinity": (
            "torch.where(last.noted, math.inf, value)",
            "value",
        ),
        "divergence: the step is not kept": (
            "torch.where(bad, step, self.failed_at)",
            "torch.where(bad, 0, self.failed_at)",
        ),
        "divergence: a sample comes back": (
            "where(expand(self.failed_at < 0, new)",
            "where(expand(~self.far(new), new)",
        ),
        "divergence: the last iterate is not taken": (
            "where(expand(self.far(new), new)",
            "where(expand(self.failed_at >= 0, new)",
        ),
    },
)
add(
    "analysis/guidance/posterior.py",
    GUIDANCE,
    {
        "posterior guidance: a gradient where alpha = 0": (
            "informed_time(flow.path, times[i], x.dtype), **options",
            "times[i], **options",
        ),
        "posterior guidance: one inner update less": (
            "range(1, inner if active else 1)",
            "range(2, inner if active else 1)",
        ),
    },
)
add(
    "analysis/guidance/step_sizes.py",
    GUIDANCE,
    {
        "step sizes: inner updates each take a whole step": ("move.scale / move.inner", "move.scale"),
        "step sizes: DPS's norm without its factor two": (
            "(2 * widened(move.value)).sqrt()",
            "widened(move.value).sqrt()",
        ),
    },
)
add(
    "analysis/guidance/likelihood.py",
    GUIDANCE,
    {"likelihood: lambda without its score's share": ("path.alpha(t) - readout.minus_score", "path.alpha(t)")},
)
add(
    "analysis/guidance/tuning.py",
    ["analysis/guidance/test_guidance_optimised.py"],
    {
        "tuning: a sample that diverged counts with its score": (
            "torch.where(sample.failed, math.inf, score(sample).double())",
            "score(sample).double()",
        ),
        "tuning: the worst options": ("best = min(tried", "best = max(tried"),
        "tuning: candidates in other units": ("c * noise**self.noise_power", "c * noise"),
    },
)
add(
    "analysis/guidance/midpoint.py",
    ["analysis/guidance/test_midpoint.py"],
    {
        "midpoint: the variance to a later state without its noise": (
            "sigma(s) ** 2 - (after * sigma) ** 2",
            "sigma(s) ** 2",
        ),
        "midpoint: the fit without its prior": ("(mean - prior) / variance + g", "g"),
        "midpoint: the spread without its entropy": ("/ variance - 1 + g * spread", "/ variance + g * spread"),
        "midpoint: the spread without its loss": ("- 1 + g * spread", "- 1"),
        "midpoint: predictions are carried from the mean": ("carried = target(middle", "carried = target(mean"),
        "midpoint: the step ends without noise": ("between.variance.sqrt() * noise()", "0 * noise()"),
    },
)
