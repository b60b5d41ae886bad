"""Deliberate mistakes in the source: importing this package enters all of them."""

from tests.tools.patches import gradients, guidance, numbers, references, running
from tests.tools.patches.record import PATCHES, Patch

__all__ = ["PATCHES", "Patch", "gradients", "guidance", "numbers", "references", "running"]
