"""Where a table comes from: commit, versions, device, and the hash of the code that made it."""

from __future__ import annotations

import functools
import hashlib
import platform
import subprocess
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).parents[1]
CODE = ("analysis", "toy_models", "real_models")
SUFFIXES = (".py", ".npz", ".json", ".safetensors")
PACKAGES = ("torch", "numpy", "scipy", "pandas", "pyarrow")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None  # an unpacked archive has no history, which is no error
    return done.stdout.strip()


@functools.cache
def code_hash() -> str:
    """Return a hash of every source and data file that a number can depend on."""
    digest = hashlib.sha256()
    for path in sorted(p for room in CODE for p in (ROOT / room).rglob("*") if p.suffix in SUFFIXES):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def device_name(device: str) -> str:
    """Return the name of a torch device: the GPU's own, or the processor's architecture."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"cpu {platform.machine()}"


def provenance(device: str, seed: int) -> dict[str, object]:
    """Return what a table carries about its making; nothing in it changes from one run to the next."""
    status = _git("status", "--porcelain")
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if status is None else bool(status),
        "code": code_hash(),
        "versions": versions(),
        "device": device_name(device),
        "seed": seed,
    }
