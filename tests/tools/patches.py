"""Deliberate mistakes in the source: one replacement each, and the tests nearest to it, which must fail.

What is replaced occurs once in its file.
"""

from typing import NamedTuple


class Patch(NamedTuple):
    """``old`` becomes ``new`` in the file ``path``; ``tests`` are paths or node ids as pytest takes them."""

    path: str
    old: str
    new: str
    tests: tuple[str, ...]


PATCHES: dict[str, Patch] = {}


def _add(path, tests, replacements):
    for name, (old, new) in replacements.items():
        PATCHES[name] = Patch(path, old, new, tuple(f"tests/{test}" for test in tests))


STATE_ALONE = "((want.target, want.source, alpha), (want.source, want.target, sigma))"
_add(
    "analysis/paths/affine.py",
    ["analysis/paths"],
    {
        "change_readout: the state forgotten where sigma = 0": (STATE_ALONE, "((want.source, want.target, sigma),)"),
        "change_readout: the state forgotten where alpha = 0": (STATE_ALONE, "((want.target, want.source, alpha),)"),
        "change_readout: a readout changed to itself": ("torch.where(same, 1.0, on_value)", "on_value"),
        "convert: a score taken for the source prediction": ("-expand(self._sigma(t), x) * value", "-value"),
        "states: data and noise swapped": ("(alpha * x1 + sigma * x0)", "(sigma * x1 + alpha * x0)"),
    },
)
SPLIT = "right = min(math.comb(slots - 1 + repeats, repeats), n - 1)"
_add(
    "analysis/solvers/checkpointing.py",
    ["analysis/solvers/test_checkpointing.py"],
    {
        "recursive: more slots on the way back than are free": ("cotangents, slots - k)", "cotangents, slots)"),
        "recursive: a slot too many inside": ("max(slots - 1, 1))", "slots)"),
        "recursive: a slot too many on the way there": ("range(slots - 1, 0, -1)", "range(slots, 0, -1)"),
        "recursive: the split a step late": (SPLIT, f"{SPLIT} - 1 or 1"),
        "reversible: one sample that came back vouches for all": ("if not bool(back.all())", "if not bool(back.any())"),
        "reversible: the coupling left out of the way back": ("coupling * by + pull(by)", "by + pull(by)"),
        "reversible: a return that is not small counts": ("RETURN, ORIGIN = 1e-3", "RETURN, ORIGIN = 1e-1"),
    },
)
_add(
    "analysis/solvers/solve.py",
    ["analysis/solvers"],
    {
        "discrete adjoint: the past of a multistep method has none": (
            "adjoints[kept:] = [_add(a, v) for a, v in zip(adjoints[kept:], cotangents[1:], strict=True)]",
            "pass",
        ),
    },
)
CUBIC = "rest.square() * (1 + 2 * theta) * start.state + theta.square() * (3 - 2 * theta) * end.state + bend"
IN_TURN = "in_turn([end, *reversed(states)])"
_add(
    "analysis/gradients/_adjoint.py",
    ["analysis/gradients/test_adjoint.py"],
    {
        "cached adjoint: states between in forward order": (IN_TURN, "in_turn([end, *states[1:], states[0]])"),
        "cached adjoint: all stages at the end of the step": (IN_TURN, "in_turn([end] * 4)"),
        "cached adjoint: steps in forward order": ("enumerate(reversed(kept)):", "enumerate(kept):"),
        "interpolated adjoint: velocities of the ends swapped": (
            "(rest * start.velocity - theta * end.velocity)",
            "(rest * end.velocity - theta * start.velocity)",
        ),
        "interpolated adjoint: straight lines": (CUBIC, "rest * start.state + theta * end.state"),
    },
)
_add(
    "analysis/gradients/_truncated.py",
    ["analysis/gradients/test_cheap.py", "analysis/gradients/test_cheap_accuracy.py"],
    {
        "truncated: one step more is differentiated": ("cut = steps - keep", "cut = steps - keep - 1"),
        "truncated: one step less is differentiated": ("cut = steps - keep", "cut = min(steps - keep + 1, steps - 1)"),
        "truncated: all steps are differentiated": (
            "return pull(",
            "return end_to_end.rule(flow, loss, x, t, steps=steps, solver=solver)\n    return pull(",
        ),
    },
)
_add(
    "analysis/gradients/_identity.py",
    ["analysis/gradients/test_cheap.py"],
    {"identity Jacobian: alpha in the wrong scale": ('if scale == "one" else', 'if scale == "alpha" else')},
)
INSIDE = "ends = torch.cat([curvature[:1], curvature, curvature[-1:]])"
_add(
    "analysis/gradients/mesh.py",
    ["analysis/gradients/test_mesh.py"],
    {
        "mesh: no share of even steps": ("EVEN = 0.3", "EVEN = 0.0"),
        "mesh: half of the steps even": ("EVEN = 0.3", "EVEN = 0.5"),
        "mesh: steps in proportion to the curvature itself": (
            "torch.ones_like(inside)).sqrt()",
            "torch.ones_like(inside))",
        ),
        "mesh: the curvature of a neighbour": (INSIDE, "ends = torch.cat([curvature, curvature[-1:], curvature[-1:]])"),
        "mesh: p weighted as q is": ("(steps**3 * curvature).sum(0), (", "(steps**2 * curvature).sum(0), ("),
    },
)
ADAPTIVE = ["analysis/gradients/test_adaptive.py", "analysis/gradients/test_adaptive_edges.py"]
_add(
    "analysis/gradients/corrected_greedy.py",
    ADAPTIVE,
    {
        "adaptive: one half where a path ends with noise": (
            "(1 - (sigma_1 * alpha / (alpha_1 * sigma) if float(sigma_1) else 0 * s)) / 2",
            "(1 - 0 * s) / 2",
        ),
        "adaptive: greedy's leading term not added": ("CorrectedGreedy(greedy + term,", "CorrectedGreedy(greedy,"),
        "adaptive: the loss's share of the leading term left out": (
            "term = jacobian_part + spread * (corrected - loss_gradient)",
            "term = jacobian_part",
        ),
        "adaptive: a term too large to be one believed": (
            "torch.where(near, relative(",
            "torch.where(near | True, relative(",
        ),
    },
)
_add(
    "analysis/gradients/_adaptive.py",
    ADAPTIVE,
    {
        "adaptive: a leading term believed at any size": (
            "~(chosen.error <= min(tolerance, LARGEST_LEADING_TERM))",
            "~(chosen.error <= tolerance)",
        ),
        "adaptive: greedy tried at any time": ("LATE = 0.75", "LATE = 0.0"),
        "adaptive: an estimate that is no number accepted": ("~(error <= tolerance) & (", "(error > tolerance) & ("),
        "adaptive: extrapolated away from the finer gradient": (
            "return fine + expand(weight.nan_to_num(), fine)",
            "return fine - expand(weight.nan_to_num(), fine)",
        ),
        "adaptive: extrapolated at any distance": ("EXTRAPOLATED = 0.1", "EXTRAPOLATED = 1e9"),
        "adaptive: the coarser gradient compared with itself": (
            "previous[0][index], previous[1][index] = fine,",
            "previous[0][index], previous[1][index] = better,",
        ),
        "adaptive: steps of another number of them": ("torch.maximum(wanted, steps + 1)", "steps + 1 + 0 * wanted"),
    },
)
_add(
    "analysis/gradients/mesh_solves.py",
    ADAPTIVE,
    {
        "adaptive: the loss gradient of other samples": (
            "return value[index], gradient[index]",
            "return value[index], gradient[: len(index)]",
        )
    },
)
_add(
    "analysis/gradients/control_adjoint.py",
    ["analysis/gradients/test_control.py"],
    {
        "control: gradients of the intervals in reverse": (
            "torch.stack(gradients[::-1]), x",
            "torch.stack(gradients), x",
        ),
        "control: a stretch's gradient given to each of its steps": ("share / expand(length[who], x)", "share"),
        "control: the control of a stretch is its sum": ("total[who] / expand(length[who], x))", "total[who])"),
        "control: a stretch ends a step late": ("follows = bend < tolerance", "follows = bend <= tolerance"),
    },
)
GUIDANCE = ["analysis/guidance/test_guidance.py", "analysis/guidance/test_guidance_input.py"]
_add(
    "analysis/guidance/oracle.py",
    GUIDANCE,
    {
        "oracle_sde: noise by churn, not by its root": ("noise = churn**0.5 *", "noise = churn *"),
        "oracle_sde: the old noise keeps its weight beside the new": ("sigma(s) ** 2 - noise**2)", "sigma(s) ** 2)"),
        "oracle_sde: the share of the noise without its square": ("(1 - ratio**2)", "(1 - ratio)"),
    },
)
_add(
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
_add(
    "analysis/guidance/posterior.py",
    GUIDANCE,
    {
        "posterior guidance: a gradient where alpha = 0": (
            "informed_time(flow.path, times[i], x.dtype), **options",
            "times[i], **options",
        ),
        "posterior guidance: one inner update less": (
            "range(1, inner if scale else 1)",
            "range(2, inner if scale else 1)",
        ),
    },
)
_add(
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
_add(
    "analysis/guidance/likelihood.py",
    GUIDANCE,
    {"likelihood: lambda without its score's share": ("path.alpha(t) - readout.minus_score", "path.alpha(t)")},
)
_add(
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
_add(
    "analysis/errors.py",
    ["analysis/test_errors.py"],
    {
        "errors: relative to the measured gradient": ("- widened(truth), truth)", "- widened(truth), g)"),
        "errors: the cosine without its half": (".square().sum(1) / 2", ".square().sum(1)"),
        "errors: a value that is not finite counts as none": ("len(values) - len(usable)", "0"),
        "errors: quartiles the wrong way round": ("(0.25, 0.5, 0.75)", "(0.75, 0.5, 0.25)"),
    },
)
_add(
    "analysis/norms.py",
    ["analysis/test_errors.py", "analysis/test_norms.py"],
    {
        "norms: squares overflow": (
            "torch.where(usable, largest / (2 * torch.frexp(largest)[0]), 1.0)",
            "torch.ones_like(largest)",
        )
    },
)
