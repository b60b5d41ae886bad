"""Mistakes in the ideal gradient, in its error bound and in its refusals."""

from tests.tools.patches.record import add

BOUNDS = ["analysis/test_reference.py", "analysis/test_reference_round_off.py"]
REFUSALS = ["analysis/test_reference_refused.py"]

add(
    "analysis/reference.py",
    BOUNDS,
    {
        "reference: the round trip left out of the bound": ('+ parts["round_trip"] + SAFETY', "+ SAFETY"),
        "reference: the stiffness of the loss left out": ("(*moved, pull(stiffness))", "moved"),
        "reference: both solves at one tolerance": (
            "10 * tolerance, MAX_STEP, budget",
            "tolerance, MAX_STEP / 2, budget",
        ),
        "reference: the replicas' round-off left out of the bound": ('bound + ROUND_OFF * parts["round_off"]', "bound"),
        "reference: the loss's round-off left out of an exact bound": (" + ROUND_OFF * round_off", ""),
        "reference: any bound": ("if bool(bound[worst] <= max_error):", "if True:"),
    },
)

add(
    "analysis/reference.py",
    REFUSALS,
    {
        "reference: any determinant": (
            "return bool((residual < DETERMINANT",
            "return True or bool((residual < DETERMINANT",
        ),
        "reference: the determinant's limit whatever the densities": (
            "max(DETERMINANT_SHARE, 100 * tolerance) * size",
            "0 * size",
        ),
        "reference: a flow that draws": ("if not adjoint_solves.repeats(problem, budget):", "if False:"),
        "reference: any noise for any tolerance": ("if wanted < lowest:", "if False:"),
        "reference: the least tolerance whatever the noise": ("max(least, lowest)", "least"),
        "reference: half precision taken": ("if x.dtype not in (torch.float32, torch.float64):", "if False:"),
        "reference: no budget of the caller's": (
            "MAX_EVALUATIONS if max_evaluations is None else",
            "MAX_EVALUATIONS or",
        ),
    },
)

add(
    "analysis/adjoint_solves.py",
    BOUNDS,
    {
        "reference: a backward solve from the loss gradient of another length": (
            "problem.gradient(size * pulled), endpoint",
            "problem.gradient(pulled), endpoint",
        ),
        "reference: the replicas' loss as it is": (
            "[perturbed_gradient(problem.loss, end, generator) for end in ends[1:]]",
            "[value_and_gradient(problem.loss, end)[1] for end in ends[1:]]",
        ),
        "reference: the replicas' states as they are": (
            "[tensors[0], *(last_digits(y, generator) for y in tensors[1:])]",
            "list(tensors)",
        ),
    },
)

add(
    "analysis/integration.py",
    REFUSALS,
    {
        "reference: a budget without an end": ("if self.spent > self.limit:", "if False:"),
        "reference: progress of one solve alone": ("(self.finished + share) / self.solves", "share"),
    },
)

add(
    "analysis/round_off.py",
    ["analysis/test_round_off.py", *BOUNDS],
    {
        "round-off: fused derivatives in one piece": ('if "backward" in func.name() and', "if False and"),
        "round-off: results as they are": ("return last_digits(value, self.generator)\n", "return value\n"),
        "round-off: noise without the binomial factor": (" / math.comb(2 * k, k)", ""),
        "round-off: views moved too": ("if alias.is_write else value", "if True else value"),
    },
)
