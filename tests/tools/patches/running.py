"""Mistakes in cells, their cache and the audit."""

from tests.tools.patches.record import add

KEY = "json.dumps([asdict(self), self.closure().digest, provenance.versions()]"
add(
    "analysis/experiment.py",
    ["analysis/test_experiment.py"],
    {
        "key: variants left out": (KEY, KEY.replace("asdict(self)", "asdict(self) | {'variants': ()}")),
        "key: extra left out": (KEY, KEY.replace("asdict(self)", "asdict(self) | {'extra': ()}")),
        "key: the device left out": (KEY, KEY.replace("asdict(self)", "asdict(self) | {'device': ''}")),
        "key: the factory left out": (KEY, KEY.replace("asdict(self)", "asdict(self) | {'factory': ''}")),
        "key: versions left out": (KEY, KEY.replace(", provenance.versions()", "")),
        "key: sources left out": (KEY, KEY.replace("self.closure().digest, ", "")),
        "seed: the same for all problems": ("+ zlib.crc32(self.problem.encode())", ""),
        "references: one that failed counts as good": (
            "truth.gradient[~(truth.error_bound <= reference.MAX_ERROR)] = math.nan",
            "",
        ),
        "references: the bound of one that failed is the floor": (
            "float(bounds[bounds <= reference.MAX_ERROR].max())",
            "float(bounds.max())",
        ),
        "rows: a sample that failed is not said": (
            'status = "ok" if not summary["failed"] else',
            'status = "ok" if True else',
        ),
        "rows: states of another time": ("slice(i * cell.samples, (i + 1) * cell.samples)", "slice(0, cell.samples)"),
    },
)
add(
    "analysis/runner.py",
    ["analysis/test_runner.py"],
    {
        "cache: a cell's own key is not compared": ('about.get("key") == cell.key() and', ""),
        "cache: the code that ran is not compared": ('about.get("code") == cell.closure().digest and', ""),
        "cache: a cell without rows is whole": (" and len(frame):", ":"),
        "cache: a damaged cell stops the run": ("except results.TableError:", "except ZeroDivisionError:"),
        "workers: other code is believed": ("if other.digest != self.digest:", "if False:"),
        "workers: other versions are believed": ("if other.versions.get(name) != version:", "if False:"),
        "workers: files written meanwhile are believed": ("if other.place == self.place and written:", "if False:"),
        "workers: rows come in the order in which they finish": (
            "return files\n\n\ndef _is_finished",
            "return files[::-1]\n\n\ndef _is_finished",
        ),
    },
)
add(
    "analysis/source_files.py",
    ["analysis/test_sources.py"],
    {
        "sources: fitted data left out": (
            'DATA = (".npz", ".json", ".safetensors")',
            'DATA = (".json", ".safetensors")',
        ),
        "sources: records left out": ('DATA = (".npz", ".json", ".safetensors")', 'DATA = (".npz", ".safetensors")'),
        "sources: weights left out": ('DATA = (".npz", ".json", ".safetensors")', 'DATA = (".npz", ".json")'),
    },
)
add(
    "analysis/sources.py",
    ["analysis/test_sources.py"],
    {
        "sources: learned flows left out": (
            'ROOMS = ("analysis", "toy_models", "real_models")',
            'ROOMS = ("analysis", "toy_models")',
        ),
        "sources: analytic flows left out": (
            'ROOMS = ("analysis", "toy_models", "real_models")',
            'ROOMS = ("analysis", "real_models")',
        ),
        "sources: content of data files left out": (".encode() + content)", ".encode())"),
    },
)
add(
    "analysis/results.py",
    ["analysis/test_results.py"],
    {
        "results: content is not compared with its checksum": ("if known.get(CHECKSUM) != checksum:", "if False:"),
        "results: the order of values is not in the checksum": (
            "index=False).to_numpy().tobytes()",
            "index=False).sort_values().to_numpy().tobytes()",
        ),
        "results: provenance is not in the checksum": ("hashlib.sha256(provenance)", "hashlib.sha256()"),
        "results: a failed write leaves its temporary file": ("temporary.unlink(missing_ok=True)", "pass"),
    },
)
add(
    "analysis/provenance.py",
    ["analysis/test_results.py"],
    {
        "provenance: the commit of a repository around it": (
            "if top is None or Path(top).resolve() != ROOT.resolve():",
            "if top is None:",
        ),
        "provenance: the commit of a repository that does not track the package": (
            'if not _git("ls-files", "analysis/provenance.py"):',
            "if False:",
        ),
        "provenance: a hook's own repository": ('if not name.startswith("GIT_")', "if True"),
        "provenance: a changed checkout is clean": (
            "None if status is None else bool(status)",
            "None if status is None else False",
        ),
    },
)
AUDIT = ["analysis/audit/test_audit.py", "analysis/audit/test_audit_refused.py"]
add(
    "analysis/audit/truth.py",
    AUDIT,
    {
        "audit: its two solves are not compared": ("usable &= settled & (apart <= 2 * limit)", "usable &= settled"),
        "audit: a solve that has not settled counts": (
            "usable &= settled & (apart <= 2 * limit)",
            "usable &= apart <= 2 * limit",
        ),
        "audit: a reference that is not good enough counts": (
            "usable, apart = computed.error_bound <= limit,",
            "usable, apart = computed.error_bound <= math.inf,",
        ),
        "audit: states without a reference are given one": (
            "torch.where(expand(usable, x) > 0, computed.gradient, math.nan)",
            "computed.gradient",
        ),
        "audit: refused only where no state is usable": (
            "if 2 * int(usable.sum()) < len(usable):",
            "if not bool(usable.any()):",
        ),
        "audit: the float64 copy is not used": (
            "return states.reference_flow, states.x.double()",
            "return states.flow, states.x",
        ),
    },
)
add(
    "analysis/audit/measure.py",
    AUDIT,
    {"audit: a projection costs nothing": ("evaluations + (s < 1)", "evaluations")},
)
