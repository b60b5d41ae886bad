"""The glossary: one name, one meaning and one source for each method, solver, path, problem, operator and regime.

Tables hold keys ("two_step_euler"); figures, captions, LaTeX tables and the report print the names given here.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Name:
    """The printed name of a key, its meaning, and the paper that it comes from, if any."""

    label: str
    meaning: str
    source: str = ""


GREED = "arXiv 2502.08006"
METHODS = {
    "ideal": Name("ideal", "gradient of the loss at the end of the exact flow", GREED),
    "score": Name("likelihood score", "gradient of log p(y | x_t), what exact posterior sampling needs"),
    "greedy": Name("greedy", "gradient of the loss at the one-step prediction of the end", GREED),
    "end_to_end": Name("end-to-end", "gradient of the loss at the end of a discrete solve", "arXiv 1806.07366"),
    "lookahead": Name("lookahead", "some solver steps to a horizon, then the one-step prediction", GREED),
    "adaptive": Name("adaptive", "lookahead to the end whose number of steps follows from a tolerance"),
    "truncated": Name("truncated", "gradient through the last solver steps alone", "arXiv 2309.17400"),
    "identity_jacobian": Name("identity Jacobian", "loss gradient at the prediction, unpropagated", "arXiv 2412.00100"),
    "lgd": Name("LGD", "greedy with a loss that is smoothed by samples", "PMLR 202, Song et al. 2023"),
    "pigdm": Name("ΠGDM", "greedy with the variance of the unknown image in the loss", "ICLR 2023, Song et al."),
    "tmpd": Name("TMPD", "greedy with the posterior covariance in the loss", "arXiv 2310.06721"),
    "dtmpd": Name("DTMPD", "TMPD with the row sums of its covariance in place of it", "arXiv 2310.06721"),
    "control_average": Name("average control", "adjoint, averaged over the time left", GREED),
    "adjoint_backsolve": Name("adjoint, back-solved", "state and adjoint, solved back together", "arXiv 1806.07366"),
    "adjoint_cached": Name("adjoint, cached", "adjoint solved back along stored states"),
    "adjoint_interpolated": Name("adjoint, interpolated", "adjoint solved back along a Hermite interpolant"),
    "adjoint_deis": Name("AdjointDEIS", "adjoint solved back by exponential integrators", "arXiv 2405.15020"),
    "two_step_euler": Name("two Euler steps", "end-to-end with two Euler steps", GREED),
    "euler_4": Name("four Euler steps", "end-to-end with four Euler steps", GREED),
    "midpoint_1": Name("one midpoint step", "end-to-end with one midpoint step", GREED),
    "midpoint_4": Name("four midpoint steps", "end-to-end with four midpoint steps", GREED),
    "greedy_more": Name("greedy, 64 steps", "greedy guidance in a sampler of 64 steps", GREED),
    "dps": Name("DPS", "greedy gradient of the residual's norm with each step of the sampler", "arXiv 2209.14687"),
    "mgps": Name("MGPS", "at every step, a Gaussian of a later state fitted to its posterior", "arXiv 2410.09945"),
    "d_flow": Name("D-Flow", "gradient descent on the initial noise", "arXiv 2402.14017"),
    "flowgrad": Name("FlowGrad", "gradient descent on added velocities", "CVPR 2023, Liu et al."),
    "oc_flow": Name("OC-Flow", "FlowGrad with a price on the added velocities", "arXiv 2410.18070"),
    "unguided": Name("unguided", "samples of the flow without guidance"),
    "oracle_ode": Name("oracle ODE", "posterior ODE with the exact likelihood score, 16 steps"),
    "oracle_ode_more": Name("oracle ODE, 64 steps", "posterior ODE with the exact likelihood score, 64 steps"),
    "oracle_sde": Name("oracle SDE", "posterior SDE with the exact likelihood score"),
    "exact": Name("exact", "samples of the exact posterior"),
    "clean": Name("clean", "the image that was measured"),
    "image": Name("clean", "the image that was measured"),
    "measurement": Name("measured", "the measurement, shown as an image"),
    "mean": Name("exact mean", "mean of the exact posterior"),
    "state": Name("state $x_t$", "the noisy image"),
}
SOLVERS = {
    "euler": Name("Euler", "order 1"),
    "midpoint": Name("midpoint", "order 2"),
    "heun": Name("Heun", "order 2"),
    "rk4": Name("RK4", "the classical method of order 4"),
    "ralston": Name("Ralston", "order 2, with the least bound of its local error"),
    "rk3": Name("RK3", "Kutta's method of order 3"),
    "dopri5": Name("Dormand-Prince", "order 5, with fixed steps"),
    "ddim": Name("DDIM", "Euler's method in ζ", "arXiv 2010.02502"),
    "ab2": Name("Adams-Bashforth", "two-step method of order 2"),
    "dpmpp_2m": Name("DPM-Solver++(2M)", "exponential two-step method of order 2", "arXiv 2211.01095"),
}
PATHS = {
    "condot": Name("CondOT", "α = t, σ = 1 − t", "arXiv 2210.02747"),
    "cosine": Name("cosine", "α = sin(πt/2), σ = cos(πt/2)", "arXiv 2102.09672"),
    "vp_linear": Name("linear VP", "variance preserving, linear β", "arXiv 2006.11239"),
    "ve": Name("VE", "variance exploding: α = 1, σ falls linearly", "arXiv 2011.13456"),
    "polynomial": Name("polynomial", "α = t², σ = 1 − t²"),
}
PROBLEMS = {
    "gaussian": Name("Gaussian", "one Gaussian, d = 6, condition number 30"),
    "separated": Name("separated", "five tight modes far apart, d = 3"),
    "overlapping": Name("overlapping", "six overlapping modes, d = 5"),
    "anisotropic": Name("anisotropic", "three modes of condition number 10⁴, d = 10"),
    "ring8": Name("ring", "eight equal modes on a circle, d = 2"),
    "product256": Name("product", "256 modes, a rotated product of eight two-mode mixtures, d = 8"),
    "radial32": Name("heavy tails", "isotropic scale mixture, d = 32"),
    "digits": Name("8×8 digits", "ten Gaussians fitted to real 8×8 digits, d = 64"),
    "mnist": Name("MNIST", "low-rank Gaussians fitted to MNIST, d = 784"),
    "mnist_unet": Name("learned flow", "a U-Net trained on MNIST, d = 784"),
    "qm9": Name("learned flow of molecules", "a transformer trained on QM9, molecules of 18 atoms"),
    "mixture_unet": Name("learned flow of the mixture", "a U-Net trained on samples of the MNIST mixture, d = 784"),
}
KINDS = {  # families of random problems
    "scattered": Name(
        "scattered",
        "a mixture as the audit of the bounds does, d = 1 to 40, 2 to 16 modes: condition numbers up to 10⁴",
    ),
    "smooth": Name("smooth", "1 to 8 modes that overlap, d = 2 to 24: unit scale, condition 2 to 30"),
    "grid": Name("grid", "3×3 to 5×5 modes, d = 2, 0.5 to 3 apart, each as wide as 5 to 30 % of that"),
    "spiral": Name("spiral", "8 to 20 modes along a spiral, d = 2, 2 to 8 times longer along it than across"),
    "clusters": Name("clusters", "3 to 6 clusters of 2 to 5 modes each, d = 2 to 10: decisions at two scales"),
    "chain": Name("chain", "8 to 24 modes of condition 3 to 100 along a random walk, d = 5 to 24"),
    "unequal": Name("unequal", "a broad Gaussian and 2 to 6 rare, tight modes inside it, d = 3 to 16"),
    "product": Name("product", "mixtures of two or three modes for each of 3 to 6 axes, multiplied and rotated; exact"),
    "shells": Name(
        "shells", "2 to 4 concentric isotropic Gaussians of standard deviations 0.2 to 3, d = 3 to 20; exact"
    ),
    "posterior": Name(
        "posterior",
        "a measurement of 8 to 32 pixels of the 8×8 digits mixture, with noise 0.1 to 0.5: d = 64, ten modes",
    ),
    "sheets": Name("sheets", "3 to 5 parallel sheets at uneven distances, 0.003 to 0.05 thick, d = 3 to 20"),
    "helix": Name("helix", "12 to 30 modes along a helix of radius 1, 0.005 to 0.05 thick, in 3 to 12 dimensions"),
    "corners": Name("corners", "modes of width 0.01 to 0.08 in most corners of a rotated cube, d = 3 to 5"),
    "stars": Name("stars", "2 to 6 spikes through one point, of condition 10⁴ to 10⁶, d = 2 to 16"),
    "scales": Name("scales", "3 to 8 modes of widths from 0.002 to 1, d = 2 to 30"),
    "nested": Name(
        "nested",
        "a mode in a mode in a mode, each 0.05 to 0.2 times as wide as the last and off its centre, d = 2 to 12",
    ),
    "levels": Name(
        "levels", "seven to nine uneven narrow levels for each of 2 to 4 axes, multiplied and rotated; exact"
    ),
    "simplex": Name(
        "simplex", "d + 1 modes of width 0.01 to 0.1 in the corners of a simplex, one of them rare, d = 3 to 16"
    ),
    "saddles": Name(
        "saddles", "3 to 6 unequal long modes of condition 3 to 300, d = 2 to 16; the states lie between two samples"
    ),
}
OPERATORS = {
    "box_inpainting": Name("box inpainting", "a square of pixels is missing"),
    "random_inpainting": Name("random inpainting", "random pixels are missing"),
    "super_resolution_2": Name("super-resolution ×2", "means over 2×2 pixels are seen"),
    "super_resolution_4": Name("super-resolution ×4", "means over 4×4 pixels are seen"),
    "gaussian_deblurring": Name("Gaussian deblurring", "a Gaussian blur is seen"),
    "motion_deblurring": Name("motion deblurring", "a blur along a line is seen"),
    "compressed_sensing": Name("compressed sensing", "random projections are seen"),
    "hdr_clipping": Name("HDR clipping", "doubled contrast, clipped, is seen"),
    "nonlinear_blur": Name("nonlinear deblurring", "light, of which pixels are logarithms, is blurred"),
    "all": Name("all", "mean over the operators"),
}
REGIMES = {
    "guidance": Name("per-step guidance", "one small move at every step of a solve", "arXiv 2209.14687"),
    "steps": Name("per-step optimisation", "several moves by an optimiser at every step", "arXiv 2410.09945"),
    "source": Name("source optimisation", "the initial state is optimised until its sample fits", "arXiv 2402.14017"),
    "source_late": Name("source, late start", "the state at t = 0.6 is optimised until its sample fits"),
    "source_own": Name("source, own endpoint", "late start; the sample is the estimator's own endpoint"),
    "controls": Name("control optimisation", "velocities added to the flow's are optimised", "arXiv 2410.18070"),
}
STARTS = {"source": "from t = 0", "source_late": "late start"}  # of source optimisation, where panels compare them
PROPERTIES = {
    "all": Name("all / spread", "mean over the properties, each as a share of its spread in the data"),
    "alpha": Name("α, Bohr³", "isotropic polarisability"),
    "gap": Name("gap, meV", "HOMO-LUMO gap"),
    "homo": Name("HOMO, meV", "energy of the highest occupied orbital"),
    "lumo": Name("LUMO, meV", "energy of the lowest empty orbital"),
    "mu": Name("μ, D", "dipole moment"),
    "Cv": Name("$C_v$, cal/mol/K", "heat capacity at 298.15 K"),
}
BOUNDS = {
    "integral_form": Name("integral form", "bound of greedy's error by an integral along the trajectory"),
    "sup_form": Name("sup form", "bound of greedy's error by suprema along the trajectory"),
    "a_priori": Name("a priori", "bound of greedy's error from the mixture's parameters"),
    "logarithmic_norm": Name("logarithmic norm", "bound of the end-to-end error by logarithmic norms"),
    "gronwall": Name("Lipschitz constant", "bound of the end-to-end error by Grönwall's inequality"),
}
GLOSSARY = {
    "methods": METHODS,
    "solvers": SOLVERS,
    "paths": PATHS,
    "problems": PROBLEMS,
    "families": KINDS,
    "operators": OPERATORS,
    "regimes": REGIMES,
    "properties": PROPERTIES,
    "bounds": BOUNDS,
}
"""Every name by kind."""
JUDGES = {
    "guide_error": "the guide itself",
    "error": "evaluator",
    "xtb_error": "GFN2-xTB",
    "dft_error": "density functional theory",
}
"""What judges guided molecules, by the metric that holds its errors."""
SETTINGS = {
    "source": "source",
    "late": "source, late",
    "guidance": "per step",
    "guidance_stable": "per step, whole",
    "steps": "optimiser per step",
    "controls": "controls",
}
"""Short names of regimes, and of the settings in which molecules are guided."""
RULES = {"likelihood": "", "dps": ", DPS steps"}
SAMPLED = {"midpoint": "midpoint_1"}  # keys of samplers' tables
VARIABLES = {"_zeta": " in ζ", "_gamma": " in γ", "_logsnr": " in log SNR"}


def of(kind: str, key: str) -> str:
    """Return the printed name of a key of one kind of ``GLOSSARY``; for an unknown key, the key without underscores."""
    entry = GLOSSARY[kind].get(key)
    return entry.label if entry else str(key).replace("_", " ")


def label(key: str) -> str:
    """Return the printed name of a key of any kind; methods are searched first."""
    for names in GLOSSARY.values():
        if key in names:
            return names[key].label
    return method(key)


def method(key: str, solver: object = None, steps: float | None = None) -> str:
    """Build the printed name of an estimator, of a sampler ("rule:estimator"), or of either through a solver.

    Parameters
    ----------
    key : the estimator's or sampler's key
    solver : key of the solver; None, "" or NaN for none
    steps : number of solver steps to print, if any

    Returns
    -------
    str
        The name.
    """
    if key == "dps:greedy":
        return METHODS["dps"].label
    rule, _, estimator = str(key).rpartition(":")
    name = of("methods", estimator) + RULES.get(rule, "")
    if isinstance(solver, str) and solver:
        name = f"{name}, {of_solver(solver)}"
    if steps is not None and not pd.isna(steps):
        name += f" {steps:.0f}"
    return name


def of_solver(key: str) -> str:
    """Return the printed name of a solver, with its step variable where that is not t."""
    for end, shown in VARIABLES.items():
        if key.endswith(end):
            return of("solvers", key.removesuffix(end)) + shown
    return of("solvers", key)


def sampler(key: str) -> str:
    """Return the printed name of a guided sampler, "rule:estimator" or another one."""
    rule, mark, estimator = key.rpartition(":")
    return method(rule + mark + SAMPLED.get(estimator, estimator))


def two_lines(text: str) -> str:
    """Break a name into two lines, after "super-" or at its last space."""
    return text.replace("super-", "super-\n") if text.startswith("super-") else "\n".join(text.rsplit(" ", 1))


def table() -> pd.DataFrame:
    """Return the glossary as a table: kind, key, name, meaning, source."""
    rows = [
        {"kind": kind, "key": key, "name": name.label, "meaning": name.meaning, "source": name.source}
        for kind, names in GLOSSARY.items()
        for key, name in names.items()
    ]
    return pd.DataFrame(rows)
