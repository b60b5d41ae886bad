"""Weights on disk: safetensors with the architecture in the metadata, written atomically."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as encode
from torch import Tensor, nn

from analysis import results

Module = TypeVar("Module", bound=nn.Module)


def save(path: Path, tensors: Mapping[str, Tensor], **record: Any) -> None:
    """Write named tensors and a record of JSON values, which ``read`` returns."""
    metadata = {key: json.dumps(value, sort_keys=True) for key, value in record.items()}
    content = encode({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata)
    results.write_whole(path, lambda file: file.write(content))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the record of a file.

    Returns
    -------
    tuple
        The tensors by name, on the CPU, and the record.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        For a file that is truncated or not safetensors.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"path: there is no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it is no mapping)
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"path must name a whole safetensors file, and {path} is not one: {error}") from error
    return tensors, {key: json.loads(value) for key, value in metadata.items()}


def load(path: Path, build: Callable[..., Module]) -> Module:
    """Build ``build(**config)`` from the ``config`` in a file, and load the file's weights.

    Returns
    -------
    Module
        On the CPU, in the dtype of the weights.

    Raises
    ------
    FileNotFoundError
        If there is no file.
    ValueError
        For a file that ``read`` refuses, a file without a ``config``, and weights of another architecture than
        ``build`` makes.
    """
    tensors, record = read(path)
    if "config" not in record:
        raise ValueError(f"path must name a checkpoint that records its architecture, and {path} does not")
    try:
        module = build(**record["config"])
        module.load_state_dict(tensors)
    except (TypeError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(f"{path} holds another architecture than {build.__name__} makes: {first}") from error
    return module
