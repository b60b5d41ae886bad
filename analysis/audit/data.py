"""The data of an audit: a tensor, a data set of PyTorch, its loader, or a sampler of states, as rows and extras.

A row is a sample x1, or a tuple (x1, extra, ...) whose extras (a label, a measurement, a mask) belong to it: they are
handed to the model and to the loss beside x, row by row.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from analysis import checks
from analysis.audit.refusal import ask

Extras = tuple[Tensor, ...]
Sampler = Callable[[float, int, torch.Generator], Any]
Source = Tensor | tuple[Tensor, ...] | Dataset[Any] | DataLoader[Any] | Sampler
MOST_STREAMED = 4096  # rows that are read of data without a length
NO_ROWS = (Tensor, str, bytes, Mapping)  # what has members, which are no rows
KINDS = "a tensor, a tuple of tensors, a Dataset, a DataLoader, or a sampler (t, n, generator) -> states"


@dataclass(frozen=True)
class Rows:
    """Data in rows: ``pick(indices)`` returns x1 (n, *event) and the extras of these rows, of which there are count."""

    count: int
    pick: Callable[[Sequence[int]], tuple[Tensor, Extras]]


def rows_of(source: Source) -> Rows | None:
    """Return data as rows, or None for a sampler of states.

    Returns
    -------
    Rows or None
        How to pick rows.

    Raises
    ------
    TypeError
        For what is none of the kinds of data.
    ValueError
        For data without rows, or rows that are no tensors.
    """
    if isinstance(source, DataLoader):
        if not isinstance(source.dataset, IterableDataset):
            return _of_dataset(source.dataset, source.collate_fn)
        return _of_stream(source)
    if isinstance(source, IterableDataset):
        return _of_stream(DataLoader(source, batch_size=64))
    if isinstance(source, tuple):
        return _of_tensors(source)
    if isinstance(source, Dataset) or (hasattr(source, "__getitem__") and not isinstance(source, NO_ROWS)):
        return _of_dataset(source, default_collate)
    if callable(source):
        return None
    try:
        return _of_tensors((checks.tensor(source, "data"),))
    except TypeError as error:
        raise TypeError(f"data must be {KINDS}; got {checks.kind(source)}") from error


def _of_tensors(tensors: tuple[Any, ...]) -> Rows:
    given = tuple(torch.as_tensor(value) for value in tensors)
    counts = {len(value) if value.ndim else 0 for value in given}
    if len(counts) != 1:
        raise ValueError(f"data must be tensors with one row per sample each; got {[tuple(v.shape) for v in given]}")
    checks.state(given[0], None, "data")
    return Rows(len(given[0]), lambda rows: split([value[torch.as_tensor(rows)] for value in given]))


def _of_dataset(dataset: Any, collate: Callable[[list[Any]], Any]) -> Rows:
    if not callable(getattr(dataset, "__len__", None)):
        raise TypeError(
            f"data must have a length, and {checks.kind(dataset)} has no __len__: give it one, or make it an "
            "IterableDataset, whose rows are read one after another"
        )
    if not len(dataset):
        raise ValueError("data must hold at least one row, and has none")
    return Rows(len(dataset), lambda rows: ask("data", _picked, dataset, collate, rows))


def _picked(dataset: Any, collate: Callable[[list[Any]], Any], rows: Sequence[int]) -> tuple[Tensor, Extras]:
    return split(collate([dataset[int(i)] for i in rows]))


def _of_stream(loader: Iterable[Any]) -> Rows:
    batches, count = [], 0
    for batch in loader:
        batches.append(split(batch))
        count += len(batches[-1][0])
        if count >= MOST_STREAMED:
            break
    if not batches:
        raise ValueError("data must hold at least one row, and has none")
    parts = [torch.cat(column) for column in zip(*((x, *extras) for x, extras in batches), strict=True)]
    return _of_tensors(tuple(parts))


def split(batch: Any) -> tuple[Tensor, Extras]:
    """Return x1 (n, *event) and the extras of a batch, which is a tensor or a sequence of them.

    Returns
    -------
    tuple[Tensor, tuple[Tensor, ...]]
        x1 and the extras, with one row per sample each.

    Raises
    ------
    ValueError
        For a batch of another kind, and for a first tensor that is no batch of samples.
    """
    parts = tuple(batch) if isinstance(batch, list | tuple) else (batch,)
    if not parts or not all(isinstance(part, Tensor) for part in parts):
        got = ", ".join(map(checks.kind, parts))
        raise ValueError(
            f"rows of data must be tensors x1, or tuples (x1, extra, ...) of tensors and numbers; got {got}"
        )
    if parts[0].ndim < 2:
        raise ValueError(
            "rows of data must begin with x1, a tensor (*event), and begin with a number: a list of lists of "
            "numbers becomes data by torch.tensor(data)"
        )
    return checks.state(parts[0], None, "data"), parts[1:]


def takes_extras(function: Callable[..., Any], arguments: int, extras: int, name: str) -> bool:
    """Say whether a function is to be called with the extras behind its own arguments, as its signature says.

    Returns
    -------
    bool
        Whether the extras are passed.

    Raises
    ------
    ValueError
        For a function that needs more arguments than the extras are, or more than there are.
    """
    target = function.forward if isinstance(function, torch.nn.Module) else function
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        return False
    for count in dict.fromkeys((arguments + extras, arguments)):
        try:
            signature.bind(*itertools.repeat(None, count))
        except TypeError:
            continue
        return count > arguments
    raise ValueError(
        f"{name} must take {arguments} arguments, or {arguments + extras} with the extras of a row of data; "
        f"its signature is {signature}"
    )


class WithExtras:
    """A function of a user's that is called with extras, cast to the dtype and device of x, behind its arguments."""

    def __init__(self, function: Callable[..., Any], extras: Extras) -> None:
        self.function, self.extras = function, extras

    def __call__(self, x: Tensor, *arguments: Any) -> Any:
        """Return ``function(x, *arguments, *extras)``."""
        return self.function(x, *arguments, *(like(x, extra) for extra in self.extras))

    def select_rows(self, rows: Tensor) -> WithExtras:
        """Return the function of the samples ``rows`` (C,)."""
        return WithExtras(self.function, tuple(extra[rows.to(extra.device)] for extra in self.extras))


def like(x: Tensor, extra: Tensor) -> Tensor:
    """Return an extra on the device of x and, where it is no integer, in its dtype."""
    return extra.to(x) if extra.is_floating_point() else extra.to(x.device)
