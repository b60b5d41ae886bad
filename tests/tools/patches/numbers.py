"""Mistakes in what is measured and compared: errors, references, bounds, claims."""

from tests.tools.patches.record import add

add(
    "analysis/errors.py",
    ["analysis/test_errors.py"],
    {
        "errors: relative to the measured gradient": ("- widened(truth), truth)", "- widened(truth), g)"),
        "errors: the cosine without its half": (".square().sum(1) / 2", ".square().sum(1)"),
        "errors: a value that is not finite counts as none": ("len(values) - len(usable)", "0"),
        "errors: quartiles the wrong way round": ("(0.25, 0.5, 0.75)", "(0.75, 0.5, 0.25)"),
    },
)
add(
    "analysis/norms.py",
    ["analysis/test_errors.py", "analysis/test_norms.py"],
    {
        "norms: squares overflow": (
            "torch.where(usable, largest / (2 * torch.frexp(largest)[0]), 1.0)",
            "torch.ones_like(largest)",
        )
    },
)
CASES = ["analysis/claims"]
add(
    "analysis/claims/ledger.py",
    CASES,
    {
        "claims: near where the interval contains the limit": (
            'pd.concat([rows["limit"] - rows["low"], rows["high"] - rows["limit"]], axis=1).max(axis=1)',
            'pd.concat([rows["low"] - rows["limit"], rows["limit"] - rows["high"]], axis=1).max(axis=1)',
        ),
        "claims: a reading holds where one of its cases does": (
            '["passed"].transform("all")',
            '["passed"].transform("any")',
        ),
        "claims: a case without a number passes": (
            'frame["passed"] = headroom(frame) >= 0',
            'frame["passed"] = ~(headroom(frame) < 0)',
        ),
        "claims: a slope is compared by its value": ('- rows["high"],', '- rows["value"],'),
    },
)
add(
    "analysis/claims/cases.py",
    CASES,
    {
        "claims: equality of the mean sample": (
            "worst = int((error / limit).nan_to_num(math.inf).argmax())",
            "worst = 0",
        ),
        "claims: a slope of the worst sample": ("error.median(1).values", "error.amax(1)"),
    },
)
add(
    "analysis/orders.py",
    ["analysis/test_errors.py"],
    {
        "orders: fitted on the largest steps": ("np.where(usable, h, np.inf))", "np.where(usable, -h, np.inf))"),
        "orders: fitted below the floor": ("& (error > floor)", ""),
        "orders: an interval of one standard error": ("stats.t.ppf(0.975, len(window) - 2) * ", "1.0 * "),
    },
)
add(
    "analysis/converged.py",
    ["analysis/test_converged.py"],
    {
        "converged: compared with as many steps": ("at[k:], halves[k:])[1]", "at[k:], [2 * n for n in halves[k:]])[1]"),
        "converged: gradients in the canonical scale": (
            "gradients.append(adjoint / size)",
            "gradients.append(adjoint)",
        ),
        "converged: gradients of the times in reverse": ("torch.stack(gradients[::-1])", "torch.stack(gradients)"),
    },
)
add(
    "analysis/canonical.py",
    ["analysis/test_canonical.py"],
    {
        "canonical: left at the scale of the beginning": (
            "expand(self.end_scale, y) * y",
            "expand(self.begin_scale, y) * y",
        ),
        "canonical: entered without its scale": ("return x / expand(self.begin_scale, x)", "return x"),
    },
)
add(
    "analysis/bounds/leading_term.py",
    ["analysis/bounds/test_leading_term.py", "analysis/bounds/test_leading_term_networks.py"],
    {
        "leading term: without its half": ("(zeta - sigma / alpha) ** 2 / 2", "(zeta - sigma / alpha) ** 2"),
        "leading term: as if the path ended without noise": ("(zeta - sigma / alpha) ** 2", "zeta**2"),
    },
)
add(
    "analysis/bounds/single_step.py",
    ["analysis/bounds/test_single_step.py"],
    {
        "single steps: no gain of midpoint": ("return order + 1 + gains", "return order + 1"),
        "single steps: the exponent in the other variable": ("return own / rate if", "return own * rate if"),
    },
)
add(
    "analysis/batching.py",
    ["analysis/test_batching.py"],
    {
        "batching: costs of parts averaged as if equal": (
            "* n for cost, n in pairs) / sum(samples)",
            "for cost, n in pairs) / len(samples)",
        ),
        "batching: bytes of the parts added up": ("max(known) if known", "sum(known) if known"),
        "batching: times of the first samples": ("times = t[part] if", "times = t[: part.stop - part.start] if"),
        "batching: targets of the first samples": (
            "target=loss.target[part])",
            "target=loss.target[: part.stop - part.start])",
        ),
    },
)
add(
    "analysis/cost.py",
    ["analysis/test_cost.py"],
    {
        "cost: a product counts once however often it is taken": (
            "self.cost.vjps += self._share(v)\n",
            "self.cost.vjps = self._share(v)\n",
        ),
        "cost: evaluations of a part count for the batch": ("numel() / self.batch", "numel() / x.shape[0]"),
    },
)
add(
    "analysis/sample_distances.py",
    ["analysis/test_sample_distances.py"],
    {
        "distances: a member's distance from itself counts": ("(n * (n - 1))", "(n * n)"),
        "distances: energy without its two": ("2 * _distances(a, b).mean((1, 2))", "_distances(a, b).mean((1, 2))"),
        "distances: another projection for every call": (
            'manual_seed(checks.seed("seed", seed))',
            "manual_seed(torch.seed())",
        ),
    },
)
LOSSES = ["analysis/test_losses.py"]
add(
    "analysis/losses/distances.py",
    LOSSES,
    {"losses: the distance without its half": (".square().flatten(1).sum(1) / 2", ".square().flatten(1).sum(1)")},
)
add(
    "analysis/losses/linear_gaussian.py",
    LOSSES,
    {
        "losses: the noise not squared": ("/ (2 * self.noise**2)", "/ (2 * self.noise)"),
        "losses: the covariance of the noise by its diagonal": (
            "torch.linalg.solve_triangular(factor, ",
            "torch.linalg.solve_triangular(factor.diagonal().diag(), ",
        ),
    },
)
