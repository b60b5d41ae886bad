"""The velocity network: a transformer over atoms, equivariant to rotations, shifts and permutations.

An event is (N, 3 + 5): coordinates in units of half an Angstrom, in the subspace of zero centre of mass, and one-hot
atom types times ``TYPE_SCALE`` (a quarter per Angstrom, as in EDM, Hoogeboom et al. 2022, arXiv 2203.17003).

Scalars and vectors of each atom go through attention together. What an atom knows of the others are products of its
queries and their keys, and distances, which add a bias to the logits; vectors are attended vectors, attended positions
and signed pair forces, mixed linearly and gated by scalars (Satorras et al. 2021, arXiv 2102.09844; Schuett et al.
2021, arXiv 2102.03150; Irwin et al. 2024, arXiv 2406.07266). Every part is smooth: SiLU, softened norms, no cut-off.

Input and output are scaled as Karras et al. (2022, arXiv 2206.00364) do, here for the velocity of the CondOT path: with
data of second moment S^2, the best linear guess of u = X_1 - X_0 from x is c_skip x, and what is left has variance
c_out^2, where V = t^2 S^2 + (1 - t)^2, c_skip = (t S^2 - (1 - t)) / V and c_out = S / sqrt(V).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from real_models.molecules.data import ELEMENTS, LARGEST

ANGSTROM = 2.0  # units of the event in an Angstrom
TYPE_SCALE = 0.5
TYPES = len(ELEMENTS)
POSITION_RMS = 1.4 * ANGSTROM  # root mean square of the coordinates of QM9
TYPE_RMS = TYPE_SCALE / math.sqrt(TYPES)
RADII, RADIAL = 12.0 * ANGSTROM, 24  # the farthest centre of the radial features, and how many there are
WAVES = 16  # Fourier features of time


def project(x: Tensor) -> Tensor:
    """Return events (B, N, 8) with their coordinates' centre of mass moved to zero."""
    position, types = x[..., :3], x[..., 3:]
    return torch.cat([position - position.mean(-2, keepdim=True), types], -1)


def event(atoms: Tensor, position: Tensor) -> Tensor:
    """Return the events (B, N, 8) of atoms (B, N), indices into ``ELEMENTS``, at centred (B, N, 3) in Angstrom."""
    types = functional.one_hot(atoms, TYPES).to(position) * TYPE_SCALE
    return torch.cat([position * ANGSTROM, types], -1)


def scaling(t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return c_in, c_skip and c_out of the module's text at times (B,), each (B, 1, 8)."""
    rms = torch.cat([t.new_full((3,), POSITION_RMS), t.new_full((TYPES,), TYPE_RMS)])
    t = t[:, None, None]
    variance = (t * rms).square() + (1 - t).square()
    return variance.rsqrt(), (t * rms.square() - (1 - t)) / variance, rms * variance.rsqrt()


def softened(square: Tensor, length: float = 0.1) -> Tensor:
    """Return sqrt(square + length^2): a norm that is smooth at zero."""
    return (square + length * length).sqrt()


class Radial(nn.Module):
    """Smooth features of distances: bumps 1 / (1 + z^2) on a logarithmic scale, narrow about the lengths of bonds."""

    centres: Tensor

    def __init__(self, count: int = RADIAL) -> None:
        super().__init__()
        low, high = math.log(0.5 * ANGSTROM), math.log(RADII)
        self.width = (high - low) / (count - 1)
        self.register_buffer("centres", torch.linspace(low, high, count), persistent=False)

    def forward(self, distance: Tensor) -> Tensor:
        """Return features (..., count) of distances (...)."""
        return 1 / (1 + ((distance.log().unsqueeze(-1) - self.centres) / self.width).square())


class Pairs(nn.Module):
    """Features of pairs of atoms: biases of the attention of the next layers, and weights of forces between the two."""

    def __init__(self, width: int, hidden: int, biases: int, forces: int, radial: int = RADIAL) -> None:
        super().__init__()
        self.radial, self.biases = Radial(radial), biases
        self.distance = nn.Linear(radial, hidden)
        self.atom = nn.Linear(width, 2 * hidden, bias=False)
        self.out = nn.Linear(hidden, biases + forces)

    def hidden(self, scalars: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, N, N, hidden) and softened distances (B, N, N) of pairs at positions (B, N, 3)."""
        position = position.float() if position.dtype == torch.bfloat16 else position
        away = position.unsqueeze(1) - position.unsqueeze(2)
        distance = softened(away.square().sum(-1))
        one, other = self.atom(scalars).chunk(2, -1)
        features = self.distance(self.radial(distance)) + one.unsqueeze(2) + other.unsqueeze(1)
        return functional.silu(features), distance

    def read(self, hidden: Tensor, distance: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return biases (B, biases, N, N) and forces (B, N, 3, forces) from what ``hidden`` returned."""
        out = self.out(hidden).permute(0, 3, 1, 2)
        weights = out[:, self.biases :] / (1 + distance).unsqueeze(1)
        pulled = weights @ position.to(weights.dtype).unsqueeze(1)  # sum of w_ij x_j, less x_i sum of w_ij
        stayed = weights.sum(-1, keepdim=True) * position.to(weights.dtype).unsqueeze(1)
        return out[:, : self.biases], (pulled - stayed).permute(0, 2, 3, 1)

    def forward(self, scalars: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return biases (B, biases, N, N) and forces (B, N, 3, forces) at positions (B, N, 3)."""
        hidden, distance = self.hidden(scalars, position)
        return self.read(hidden, distance, position)


class Layer(nn.Module):
    """Attention over atoms and a perceptron for each, on scalars (B, N, width) and vectors (B, N, 3, channels)."""

    def __init__(self, width: int, channels: int, heads: int, forces: int, context: int) -> None:
        super().__init__()
        self.heads, self.channels = heads, channels
        self.norms = nn.ModuleList(nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.modulate = nn.Linear(context, 4 * width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.values = nn.Linear(channels, channels, bias=False)
        self.attended = nn.Linear(width, width + channels)
        self.mix = nn.Linear(channels + heads + forces, channels, bias=False)
        self.sides = nn.Linear(channels, 2 * channels, bias=False)
        self.up = nn.Linear(width + channels, 4 * width)
        self.down = nn.Linear(4 * width, width + channels)
        nn.init.zeros_(self.modulate.weight)
        nn.init.zeros_(self.modulate.bias)

    def attend(self, h: Tensor, vectors: Tensor, position: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return attended scalars (B, N, width), and attended vectors and positions (B, N, 3, channels + heads)."""
        batch, atoms, width = h.shape
        head, each = width // self.heads, self.channels // self.heads
        q, k, v = self.qkv(h).view(batch, atoms, 3, self.heads, head).permute(2, 0, 3, 1, 4)
        w = self.values(vectors).view(batch, atoms, 3, self.heads, each).permute(0, 3, 1, 2, 4)
        place = position.to(v.dtype).unsqueeze(1).expand(-1, self.heads, -1, -1)
        seen = torch.cat([v, w.flatten(3).to(v.dtype), place], -1)
        logits = (q * head**-0.5) @ k.transpose(-1, -2) + bias
        out = logits.softmax(-1).to(seen.dtype) @ seen
        scalars = out[..., :head].transpose(1, 2).flatten(2)
        turned = out[..., head:-3].unflatten(-1, (3, each)).permute(0, 2, 3, 1, 4).flatten(3)
        moved = (out[..., -3:] - place).permute(0, 2, 3, 1)
        return scalars, torch.cat([turned, moved], -1)

    def forward(
        self, scalars: Tensor, vectors: Tensor, position: Tensor, bias: Tensor, forces: Tensor, context: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the new scalars (B, N, width) and vectors (B, N, 3, channels)."""
        width, channels = scalars.shape[-1], self.channels
        scale, shift, scale2, shift2 = self.modulate(context).unsqueeze(1).chunk(4, -1)
        steady = vectors * (vectors.square().mean((-2, -1), keepdim=True) + 1).rsqrt()
        seen, around = self.attend(self.norms[0](scalars) * (1 + scale) + shift, steady, position, bias)
        new, gate = self.attended(seen).split([width, channels], -1)
        scalars = scalars + new
        vectors = vectors + self.mix(torch.cat([around, forces], -1)) * gate.unsqueeze(2)
        left, right = self.sides(vectors).chunk(2, -1)
        lengths = softened(left.square().sum(-2), 1.0)
        h = torch.cat([self.norms[1](scalars) * (1 + scale2) + shift2, lengths.to(scalars.dtype)], -1)
        new, gate = self.down(functional.silu(self.up(h))).split([width, channels], -1)
        return scalars + new, vectors + right * gate.unsqueeze(2)


def matrices(layers: nn.Module) -> list[nn.Parameter]:
    """Return the weight matrices inside layers that act on features of atoms, the ones that Muon trains."""
    return [part for name, part in layers.named_parameters() if part.ndim == 2 and "modulate" not in name]


class Velocity(nn.Module):
    """The velocity u(x, t) of molecules with any number of atoms, the same for all in a batch.

    Parameters
    ----------
    width, channels : of the scalars and of the vectors of an atom
    layers, heads : of the transformer
    blocks : number of updates of the positions, and with them of the distances; layers are shared out evenly
    pairs, forces : hidden width of the pair features, and number of forces between two atoms
    context : width of the features of time and number of atoms

    Raises
    ------
    ValueError
        Unless ``blocks`` divides ``layers``, and ``heads`` divides ``width`` and ``channels``.
    """

    def __init__(
        self,
        width: int = 128,
        channels: int = 32,
        layers: int = 8,
        heads: int = 8,
        blocks: int = 4,
        pairs: int = 32,
        forces: int = 8,
        context: int = 64,
    ) -> None:
        super().__init__()
        if layers % blocks or width % heads or channels % heads:
            raise ValueError("blocks must divide layers, and heads must divide width and channels")
        sizes = {"width": width, "channels": channels, "layers": layers, "heads": heads, "blocks": blocks}
        self.config = sizes | {"pairs": pairs, "forces": forces, "context": context}
        self.each, self.heads = layers // blocks, heads
        self.embed = nn.Linear(TYPES + 1, width)
        self.context = nn.Sequential(nn.Linear(2 * WAVES + 2, context), nn.SiLU(), nn.Linear(context, context))
        self.pairs = nn.ModuleList(Pairs(width, pairs, self.each * heads, forces) for _ in range(blocks))
        self.layers = nn.ModuleList(Layer(width, channels, heads, forces, context) for _ in range(layers))
        self.moves = nn.ModuleList(nn.Linear(channels, 1, bias=False) for _ in range(blocks))
        self.seed = nn.Linear(1 + forces, channels, bias=False)
        self.norm, self.types = nn.LayerNorm(width), nn.Linear(width, TYPES)
        for module in (*self.moves, self.types):
            nn.init.normal_(module.weight, std=1e-2)

    def matrices(self) -> list[nn.Parameter]:
        """Return the weight matrices inside the layers that act on features of atoms, the ones that Muon trains."""
        return matrices(self.layers)

    def _context(self, t: Tensor, atoms: int) -> Tensor:
        """Return features (B, context) of times (B,) and the number of atoms."""
        angle = math.pi * t[:, None] * torch.arange(1, WAVES + 1, device=t.device, dtype=t.dtype)
        rest = torch.stack([torch.log(1.02 - t) / 2, torch.full_like(t, atoms / LARGEST)], 1)
        return functional.silu(self.context(torch.cat([angle.sin(), angle.cos(), rest], 1)))

    def residual(self, x: Tensor, t: Tensor) -> Tensor:
        """Return (u - c_skip x) / c_out (B, N, 8), of about unit variance, at projected x (B, N, 8), t (B,)."""
        scaled = x * scaling(t)[0]
        position, square = scaled[..., :3] * POSITION_RMS, scaled[..., :3].square().mean(-1, keepdim=True)
        start, context = position, self._context(t, x.shape[1])
        scalars, vectors = self.embed(torch.cat([scaled[..., 3:], square], -1)), None
        for block, (pairs, move) in enumerate(zip(self.pairs, self.moves, strict=True)):
            biases, forces = pairs(scalars, position)
            if vectors is None:
                vectors = self.seed(torch.cat([position.unsqueeze(-1).to(forces.dtype), forces], -1))
            for i in range(self.each):
                bias = biases[:, i * self.heads : (i + 1) * self.heads]
                layer = self.layers[block * self.each + i]
                scalars, vectors = layer(scalars, vectors, position, bias, forces, context)
            position = position + move(vectors).squeeze(-1)
        return torch.cat([position - start, self.types(self.norm(scalars)).to(position.dtype)], -1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity (B, N, 8) at events (B, N, 8) and times (B,)."""
        x = project(x)
        _, skip, out = scaling(t)
        return project(skip * x + out * self.residual(x, t).to(x.dtype))
