"""Provenance of a table: commit, versions, device."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("torch", "numpy", "scipy", "pandas", "pyarrow")
OPTIONAL = ("numba",)  # what changes the last digits where it is installed


def _git(*arguments: str) -> str | None:
    # In a hook, git's own variables name the repository that it runs for.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True, "check": True}
    try:
        done: subprocess.CompletedProcess[str] = subprocess.run(["git", *arguments], **options)  # type: ignore[call-overload]
    except (OSError, subprocess.CalledProcessError):
        return None  # an unpacked archive has no history, which is no error
    return done.stdout.strip()


def commit() -> tuple[str | None, bool | None]:
    """Find the commit of this package's own repository, and whether files differ from it.

    A copy of the package inside another repository (unpacked there, or installed into an environment there) has no
    commit; nor has one at its top whose files it does not track.

    Returns
    -------
    tuple
        The commit and the difference, or None for both.
    """
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT.resolve():
        return None, None
    if not _git("ls-files", "analysis/provenance.py"):
        return None, None
    status = _git("status", "--porcelain")
    return _git("rev-parse", "HEAD"), None if status is None else bool(status)


@functools.cache
def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    there = [name for name in OPTIONAL if importlib.util.find_spec(name)]
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in (*packages, *there)}


def device_name(device: str) -> str:
    """Return the name of a torch device: the GPU's own, or the processor's architecture."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"cpu {platform.machine()}"


def provenance(device: str, seed: int) -> dict[str, object]:
    """Return the provenance that a table carries; it is the same for every run of the same code."""
    name, dirty = commit()
    return {"commit": name, "dirty": dirty, "versions": versions(), "device": device_name(device), "seed": seed}
