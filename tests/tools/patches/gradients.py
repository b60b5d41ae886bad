"""Mistakes in paths, solvers and gradients."""

from tests.tools.patches.record import add

STATE_ALONE = "((want.target, want.source, alpha), (want.source, want.target, sigma))"
add(
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
add(
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
add(
    "analysis/solvers/solve.py",
    ["analysis/solvers/test_solvers.py"],
    {
        "discrete adjoint: the past of a multistep method has none": (
            "adjoints[recent:] = [_add(a, v) for a, v in zip(adjoints[recent:], cotangents[1:], strict=True)]",
            "pass",
        ),
    },
)
CUBIC = "rest.square() * (1 + 2 * theta) * start.state + theta.square() * (3 - 2 * theta) * end.state + bend"
IN_TURN = "in_turn([end, *reversed(states)])"
add(
    "analysis/gradients/_adjoint.py",
    ["analysis/gradients/test_adjoint.py"],
    {
        "cached adjoint: states between in forward order": (IN_TURN, "in_turn([end, *states[1:], states[0]])"),
        "cached adjoint: all stages at the end of the step": (IN_TURN, "in_turn([end] * 4)"),
        "cached adjoint: steps in forward order": ("enumerate(reversed(stored)):", "enumerate(stored):"),
        "interpolated adjoint: velocities of the ends swapped": (
            "(rest * start.velocity - theta * end.velocity)",
            "(rest * end.velocity - theta * start.velocity)",
        ),
        "interpolated adjoint: straight lines": (CUBIC, "rest * start.state + theta * end.state"),
    },
)
add(
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
add(
    "analysis/gradients/_identity.py",
    ["analysis/gradients/test_cheap.py"],
    {"identity Jacobian: alpha in the wrong scale": ('if scale == "one" else', 'if scale == "alpha" else')},
)
INSIDE = "ends = torch.cat([curvature[:1], curvature, curvature[-1:]])"
add(
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
ADAPTIVE = ["analysis/gradients/test_adaptive_edges.py", "analysis/gradients/test_adaptive.py"]
add(
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
add(
    "analysis/gradients/_adaptive.py",
    ADAPTIVE,
    {
        "adaptive: a leading term believed at any size": (
            "~(chosen.error <= min(tolerance, LARGEST_LEADING_TERM))",
            "~(chosen.error <= tolerance)",
        ),
        "adaptive: greedy tried at any time": ("LATE = 0.75", "LATE = 0.0"),
        "adaptive: an estimate that is no number accepted": (
            "~(judged.error <= tolerance) |",
            "(judged.error > tolerance) |",
        ),
        "adaptive: extrapolated away from the finer gradient": (
            "better = fine + expand(weight.nan_to_num(), fine)",
            "better = fine - expand(weight.nan_to_num(), fine)",
        ),
        "adaptive: extrapolated at any distance": ("EXTRAPOLATED = 0.1", "EXTRAPOLATED = 1e9"),
        "adaptive: the coarser gradient compared with itself": (
            "previous[0][index], previous[1][index] = fine,",
            "previous[0][index], previous[1][index] = better,",
        ),
        "adaptive: steps of another number of them": ("torch.maximum(wanted, least)", "least + 0 * wanted"),
        "adaptive: a first solve that turns is believed": ("unseen = (curvature.turn > LARGEST_TURN) |", "unseen ="),
        "adaptive: growth along the way passed over": ("unmet | (curvature.growth > LARGEST_GROWTH)", "unmet"),
        "adaptive: two solves not compared as alike": ("torch.maximum(error, alike)", "error"),
    },
)
add(
    "analysis/gradients/mesh_solves.py",
    ADAPTIVE,
    {
        "adaptive: the loss gradient of other samples": (
            "return value[index], gradient[index]",
            "return value[index], gradient[: len(index)]",
        )
    },
)
add(
    "analysis/gradients/control_adjoint.py",
    ["analysis/gradients/test_control.py"],
    {
        "control: gradients of the intervals in reverse": (
            "torch.stack(gradients[::-1]), x",
            "torch.stack(gradients), x",
        ),
        "control: a stretch's gradient given to each of its steps": ("share / expand(length[rows], x)", "share"),
        "control: the control of a stretch is its sum": ("total[rows] / expand(length[rows], x))", "total[rows])"),
        "control: a stretch ends a step late": ("follows = bend < tolerance", "follows = bend <= tolerance"),
    },
)
add(
    "analysis/gradients/_surface.py",
    ["analysis/gradients/test_surface.py"],
    {
        "surface: projected at another cell's horizon": (
            "solvers.projection(flow.path, horizons[short], batch)",
            "solvers.projection(flow.path, horizons[short].flip(0), batch)",
        ),
        "surface: the sample projected at time 1 too": ("short = horizons < 1", "short = horizons <= 1"),
        "surface: grids end at another cell's horizon": (
            "end = horizons.repeat_interleave(batch // repeat)",
            "end = horizons.repeat(batch // repeat)",
        ),
    },
)
add(
    "analysis/gradients/_adjoint_deis.py",
    ["analysis/gradients/test_adjoint.py"],
    {
        "DEIS: the weight of the past without its half": (
            "lengths[1:] / (2 * lengths[:-1])",
            "lengths[1:] / lengths[:-1]",
        ),
        "DEIS: the states of a step forward": (
            "backward_adjoint(flow, a, states[::-1],",
            "backward_adjoint(flow, a, states,",
        ),
    },
)
add(
    "analysis/gradients/_pigdm.py",
    ["analysis/gradients/test_cheap.py", "analysis/gradients/test_cheap_accuracy.py"],
    {
        "PiGDM: the noise left out": ("residual / (1 + variance", "residual / (0 + variance"),
        "PiGDM: the variance of the noise": (
            "return data_variance * sigma**2 / (data_variance * alpha**2 + sigma**2)",
            "return data_variance * sigma**2",
        ),
        "TMPD: sigma^2 in place of sigma^2/alpha": ("torch.where(alpha > 0, sigma**2 / alpha, 0.0)", "sigma**2"),
    },
)
add(
    "analysis/gradients/_dtmpd.py",
    ["analysis/gradients/test_cheap.py", "analysis/gradients/test_cheap_accuracy.py"],
    {
        "DTMPD: row sums of the orthogonal rows": ("if isinstance(loss, LinearGaussian)", "if False"),
        "DTMPD: the noise left out": ("residual / (1 + spread)", "residual / (0 + spread)"),
    },
)
add(
    "analysis/solvers/methods.py",
    ["analysis/solvers/test_solvers.py", "analysis/solvers/test_convergence.py"],
    {
        "AB2: as if all steps were equal": ("0.0, h[1:] / h[:-1])", "0.0, 1.0)"),
        "DPM-Solver++: the past weighted twice": ("h[1:] / (2 * h[:-1])", "h[1:] / h[:-1]"),
        "DDIM: noise of the step's start": ("path.sigma(grid[1:]), grid[:-1])", "path.sigma(grid[:-1]), grid[:-1])"),
    },
)
add(
    "analysis/solvers/grids.py",
    ["analysis/solvers"],
    {"grid: EDM's spacing with another power": ("EDM_RHO = 7.0", "EDM_RHO = 5.0")},
)
