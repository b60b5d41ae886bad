"""From a frozen spec to a tidy table: independent cells, each measured once and stored on disk.

A ``Cell`` is one flow with a set of times and estimators. Its rows are cached under a key that covers the cell, the
sources that it depends on and the library versions; a run that was interrupted reuses its finished cells. Wall time
never repeats, so it goes to a table of its own, and the tables of measurements are the same bit for bit in every run.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from analysis import checks, cost, errors, provenance, reference, sources
from analysis.gradients import ESTIMATORS, Estimate
from analysis.losses import Loss
from analysis.settings import DTYPES, Variant, resolve
from analysis.subject import Subject


@dataclass(frozen=True)
class Cell:
    """One independent unit of work.

    Attributes
    ----------
    measure : "module:function" that maps the cell to a table, and ``factory``: "module:function" that maps
        (problem, path, dtype, device) to a ``Subject``; names, so that a cell travels to another process
    problem, path : their names
    times : (T,) times in [0, 1)
    samples : states per time
    variants : the estimators to measure
    track_memory : whether to measure peak bytes
    extra : what else the measure reads, as pairs of a name and a value

    Raises
    ------
    TypeError
        For names that are not strings, and variants that are not such.
    ValueError
        For times, samples or a seed out of range.
    """

    measure: str
    factory: str = ""
    problem: str = ""
    path: str = ""
    times: tuple[float, ...] = ()
    samples: int = 0
    variants: tuple[Variant, ...] = ()
    seed: int = 0
    dtype: str = "float64"
    device: str = "cpu"
    track_memory: bool = False
    extra: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for name in ("measure", "factory", "problem", "path"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a string, got {checks.kind(getattr(self, name))}")
        for t in () if self.times == () else checks.sequence("times", self.times):
            checks.share("times", t)
        checks.count("samples", self.samples, least=0)
        checks.count("seed", self.seed, most=2**64 - 1, least=0)
        checks.known("dtype", self.dtype, DTYPES)
        checks.device(self.device)
        variants = isinstance(self.variants, tuple | list) and all(isinstance(v, Variant) for v in self.variants)
        if not variants:
            raise TypeError(f"variants must be Variants, such as Variant.of('greedy'), got {self.variants!r}")

    @property
    def extra_dict(self) -> dict[str, Any]:
        """``extra`` as a dictionary."""
        return dict(self.extra)

    @property
    def label(self) -> str:
        """A short name, for reports on a run."""
        module, _, function = self.measure.partition(":")
        kind = {"measure": module.rpartition(".")[2], "measure_errors": "errors"}.get(function, function)
        return " ".join(name for name in (kind, self.problem, self.path) if name)

    def columns(self) -> dict[str, Any]:
        """Return what every row of the cell's table begins with."""
        place = {"problem": self.problem, "path": self.path, "seed": self.seed, "dtype": self.dtype}
        return place | {"device": provenance.device_name(self.device)}

    def names(self) -> set[str]:
        """Return every string of the cell: ``analysis.sources`` finds the code by them."""
        return set(sources.strings(asdict(self)))

    def closure(self) -> sources.Closure:
        """Return the sources that the cell's rows depend on."""
        return sources.here().closure(self.names())

    def key(self) -> str:
        """Return the cache key: the cell, its sources and the versions."""
        content = json.dumps([asdict(self), self.closure().digest, provenance.versions()], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:24]

    def generator(self) -> torch.Generator:
        """Return the cell's own generator: seeded by the spec's seed and the problem's name."""
        seed = self.seed * 1_000_003 + zlib.crc32(self.problem.encode())
        return torch.Generator().manual_seed(seed % 2**64)  # all that torch takes


@dataclass(frozen=True)
class StateBatch:
    """States of a cell with their reference: x (T * N, *event), t (T * N,); ``columns`` begin every row."""

    subject: Subject
    x: Tensor
    t: Tensor
    loss: Loss
    reference: reference.Reference
    columns: dict[str, Any] = field(default_factory=dict)


def sample_states(cell: Cell) -> StateBatch:
    """Draw the cell's states, time after time, and compute all their ideal gradients in one batch."""
    subject = resolve(cell.factory)(cell.problem, cell.path, cell.dtype, cell.device)
    generator, times = cell.generator(), torch.tensor(cell.times, dtype=torch.float64)
    x, t = subject.states(times, cell.samples, generator), times.repeat_interleave(cell.samples)
    loss = subject.loss(len(times), cell.samples, generator)
    truth = reference.ideal_gradient(subject.reference_flow, loss, x, t, max_error=math.inf)
    # A state whose ideal gradient is not known well enough fails, and is counted, instead of failing its whole cell.
    truth.gradient[~(truth.error_bound <= reference.MAX_ERROR)] = math.nan
    return StateBatch(subject, x, t, loss, truth, cell.columns() | {"truth": truth.tier})


def estimate(cell: Cell, batch: StateBatch, variant: Variant) -> Estimate:
    """Run one variant on all states of a cell, in the cell's dtype and on its device."""
    x = batch.x.to(cell.device, DTYPES[cell.dtype])
    t = batch.t if len(cell.times) > 1 else cell.times[0]  # one time for all costs less than one for each
    with cost.track_memory() if cell.track_memory else contextlib.nullcontext():
        return ESTIMATORS[variant.estimator](batch.subject.flow, batch.loss, x, t, **dict(variant.options))


def horizon_of(t: float, fraction: float) -> float:
    """Return the time that is a fraction of the way from t to 1."""
    return t + fraction * (1 - t) if fraction < 1 else 1.0


def rows_of(cell: Cell, batch: StateBatch, variant: Variant) -> Iterator[dict[str, Any]]:
    """Yield the rows of one variant: each time and metric, or one row that says why it cannot run."""
    options = dict(variant.options)
    named = {"estimator": variant.estimator, "solver": options.pop("solver", None), "steps": options.pop("steps", None)}
    named |= {"horizon": options.pop("horizon", None), "fraction": options.pop("horizon_fraction", None)}
    row = batch.columns | named | {"options": json.dumps(options, sort_keys=True)}
    try:
        estimated = estimate(cell, batch, variant)
    except ValueError as error:
        yield row | {"status": str(error), "samples": cell.samples, "failed": cell.samples}
        return
    gradient = estimated.gradient.double().cpu()
    per_sample = {name: metric(gradient, batch.reference.gradient) for name, metric in errors.METRICS.items()}
    for i, t in enumerate(cell.times):
        part = slice(i * cell.samples, (i + 1) * cell.samples)
        bounds = batch.reference.error_bound[part]
        floor = (
            float(bounds[bounds <= reference.MAX_ERROR].max()) if (bounds <= reference.MAX_ERROR).any() else math.nan
        )
        at = {"t": t, "zeta": float(batch.subject.reference_flow.path.zeta(t)), "reference_bound": floor}
        if named["fraction"] is not None:
            at["horizon"] = horizon_of(t, named["fraction"])
        for metric, values in per_sample.items():
            summary = errors.summary(values[part])
            status = "ok" if not summary["failed"] else "some samples are not finite or have no reference"
            yield row | asdict(estimated.cost) | at | {"status": status, "metric": metric} | summary


def measure_errors(cell: Cell) -> pd.DataFrame:
    """Measure every variant of a cell against the ideal gradient.

    Evaluations and VJPs are per sample, bytes per cell. A variant that cannot run is one row, with the reason as its
    status.

    Returns
    -------
    DataFrame
        One row per variant, time and metric.
    """
    batch = sample_states(cell)
    return pd.DataFrame([row for variant in cell.variants for row in rows_of(cell, batch, variant)])


def measure_cell(cell: Cell) -> pd.DataFrame:
    """Measure one cell, on one thread, so that the number of workers changes no digit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return resolve(cell.measure)(cell)
    finally:
        torch.set_num_threads(before)


def split_timings(frame: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    """Split wall time off a table: {"": the measurements, "_timings": what identifies a row, and its seconds}."""
    if "seconds" not in frame:
        return {"": frame}
    keys = ["problem", "path", "estimator", "solver", "steps", "fraction", "options", "dtype", "device"]
    timings = frame[[*(key for key in keys if key in frame), "seconds"]].drop_duplicates()
    return {"": frame.drop(columns="seconds"), "_timings": timings}
