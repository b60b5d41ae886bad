"""A small U-Net that predicts the velocity of images: three resolutions, residual blocks, attention at the coarsest.

The design is the usual one of diffusion models (Ho et al. 2020, arXiv 2006.11239; time enters by scale and shift of
group norms as in Dhariwal & Nichol 2021, arXiv 2105.05233). Every operation is smooth, so that the flow's ODE and its
adjoint have all the derivatives that high-order solvers need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from analysis import checks

GROUPS = 1  # of the norms: in channels-last bfloat16 on a CPU several groups take twenty times as long
HEADS = 4
FREQUENCIES = 64.0  # the highest of the time embedding, in radians per unit of time


def time_features(t: Tensor, count: int) -> Tensor:
    """Return sines and cosines (B, count) of times t (B,) at geometric frequencies from 1 to ``FREQUENCIES``."""
    exponents = torch.linspace(0, 1, count // 2, dtype=t.dtype, device=t.device)
    angles = t[:, None] * torch.exp(exponents * math.log(FREQUENCIES))
    return torch.cat([angles.sin(), angles.cos()], dim=1)


class Block(nn.Module):
    """Two convolutions with group norms and a residual connection; the time scales and shifts the second norm."""

    def __init__(self, inside: int, outside: int, embedding: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.GroupNorm(GROUPS, inside), nn.GroupNorm(GROUPS, outside)])
        last = nn.Conv2d(outside, outside, 3, padding=1)
        nn.init.zeros_(last.weight)
        self.convolutions = nn.ModuleList([nn.Conv2d(inside, outside, 3, padding=1), last])
        self.modulation = nn.Linear(embedding, 2 * outside)
        self.skip = nn.Conv2d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Return features (B, outside, H, W) of x (B, inside, H, W) and the time's embedding (B, e)."""
        h = self.convolutions[0](functional.silu(self.norms[0](x)))
        scale, shift = self.modulation(embedding)[..., None, None].chunk(2, dim=1)
        h = self.norms[1](h) * (1 + scale) + shift
        return self.skip(x) + self.convolutions[1](functional.silu(h))


class Attention(nn.Module):
    """Self-attention over all pixels of the features, with a residual connection."""

    def __init__(self, width: int, heads: int = HEADS) -> None:
        super().__init__()
        self.heads, self.norm = heads, nn.GroupNorm(GROUPS, width)
        self.project, self.merge = nn.Linear(width, 3 * width), nn.Linear(width, width)
        nn.init.zeros_(self.merge.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return features like x (B, width, H, W)."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.project(tokens).chunk(3, dim=2))
        # Written out: fused attention has no forward-mode derivative, which the leading term of the error needs.
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1])).softmax(dim=3)
        merged = self.merge((weights @ v).transpose(1, 2).flatten(2))
        return x + merged.transpose(1, 2).unflatten(2, x.shape[2:])


class UNet(nn.Module):
    """The velocity u(x, t) of images x (B, channels, side, side) at times t (B,) from noise (0) to data (1).

    Parameters
    ----------
    widths : features at each resolution, finest first, the last a multiple of 4; the side is halved between them
    blocks : residual blocks at each resolution in the encoder; the decoder has one more
    embedding : size of the time's embedding
    channels, side : of the images; the side divisible by 2 to the power of the number of halvings

    Raises
    ------
    ValueError
        For widths or a side that do not divide as stated.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 80),
        blocks: int = 1,
        embedding: int = 128,
        channels: int = 1,
        side: int = 28,
    ) -> None:
        super().__init__()
        self.config: dict[str, Any] = {"widths": list(widths), "blocks": checks.count("blocks", blocks)}
        self.config |= {"embedding": embedding, "channels": channels, "side": side}
        if side % 2 ** (len(widths) - 1) or widths[-1] % HEADS:
            raise ValueError(
                f"widths must halve side {side} evenly and end in a multiple of {HEADS}, got {list(widths)}"
            )
        self.embed = nn.Sequential(nn.Linear(embedding, embedding), nn.SiLU(), nn.Linear(embedding, embedding))
        self.first = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        skips = self._build_down(widths, blocks, embedding)
        last = widths[-1]
        self.middle = nn.ModuleList([Block(last, last, embedding), Attention(last), Block(last, last, embedding)])
        self._build_up(widths, blocks, embedding, skips)
        self.last = nn.Sequential(
            nn.GroupNorm(GROUPS, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], channels, 3, padding=1)
        )

    def _build_down(self, widths: Sequence[int], blocks: int, embedding: int) -> list[int]:
        """Build the encoder; return the widths of its features, which skip to the decoder."""
        skips, width = [widths[0]], widths[0]
        for level, out in enumerate(widths):
            for _ in range(blocks):
                self.down.append(Block(width, out, embedding))
                skips.append(width := out)
            if level < len(widths) - 1:
                self.down.append(nn.Conv2d(out, out, 3, stride=2, padding=1))
                skips.append(out)
        return skips

    def _build_up(self, widths: Sequence[int], blocks: int, embedding: int, skips: list[int]) -> None:
        width = widths[-1]
        for level in reversed(range(len(widths))):
            for _ in range(blocks + 1):
                self.up.append(Block(width + skips.pop(), widths[level], embedding))
                width = widths[level]
            if level:
                self.up.append(nn.Conv2d(width, width, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Compute the velocity at images x (B, channels, side, side) and times t (B,).

        Returns
        -------
        Tensor
            Like x.

        Raises
        ------
        ValueError
            For images of another shape.
        """
        expected = (self.config["channels"], self.config["side"], self.config["side"])
        if x.shape[1:] != expected:
            raise ValueError(f"x must have shape (B, {', '.join(map(str, expected))}), got {tuple(x.shape)}")
        embedding = functional.silu(self.embed(time_features(t, self.config["embedding"])))
        h = self.first(x)
        skips = [h]
        for part in self.down:
            h = part(h, embedding) if isinstance(part, Block) else part(h)
            skips.append(h)
        for part in self.middle:
            h = part(h, embedding) if isinstance(part, Block) else part(h)
        for part in self.up:
            if isinstance(part, Block):
                h = part(torch.cat([h, skips.pop()], dim=1), embedding)
            else:
                h = part(functional.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.last(h)
