"""A network that predicts six properties of molecules, smooth in their coordinates and in soft atom types.

It reads the same events as the velocity network, without a time: (N, 3 + 5), half-Angstroms and types times
``TYPE_SCALE``. Types need not be one-hot, so that a loss of a predicted property has a gradient in them. Each layer
also adds up, over all other atoms, features of pairs (Schuett et al. 2018, arXiv 1706.08566); a sum, unlike attention,
can count.

- Polarizability and heat capacity grow with the molecule: sums over atoms.
- HOMO and LUMO do not: a perceptron of averages whose weights are learned. The gap is their difference, exactly.
- The dipole moment is the length of a vector of charges, which add up to zero, and atomic dipoles (Schuett et al. 2021,
  arXiv 2102.03150).

The network's output is added to a linear function of the composition (none for the dipole), fitted to the training
part.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from real_models.molecules.data import LARGEST, PROPERTIES
from real_models.molecules.network import ANGSTROM, TYPE_SCALE, TYPES, Layer, Pairs, matrices, project, softened

SOFT = 0.1  # length below which the dipole's norm is rounded off, in units of its scale
LEARNED = ("alpha", "homo", "lumo", "mu", "Cv")  # the gap follows


def count(position: Tensor) -> Tensor:
    """Return the number of atoms as a tensor (B, 1): for a plain number, a compiler makes a program for every value."""
    return torch.ones_like(position[..., 0]).sum(1, keepdim=True)


class Readout(nn.Module):
    """Map the scalars (B, N, width) and vectors (B, N, 3, channels) of atoms to the five ``LEARNED`` numbers (B, 5)."""

    def __init__(self, width: int, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.atoms = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 3))
        self.weights, self.values = nn.Linear(width, heads), nn.Linear(width, width)
        self.pooled = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 2))
        self.dipoles = nn.Linear(channels, 1, bias=False)

    def forward(self, scalars: Tensor, vectors: Tensor, position: Tensor) -> Tensor:
        """Return the numbers; ``position`` (B, N, 3) is centred."""
        atoms = self.atoms(scalars).to(position.dtype)
        polarizability, heat = (atoms[..., :2].sum(1) / count(position).sqrt()).unbind(-1)
        charge = atoms[..., 2:] - atoms[..., 2:].mean(1, keepdim=True)
        dipole = (charge * position / ANGSTROM + self.dipoles(vectors).squeeze(-1).to(position.dtype)).sum(1)
        moment = softened(dipole.square().sum(-1), SOFT) - SOFT
        weights = self.weights(scalars).softmax(1).transpose(1, 2).unsqueeze(2)  # (B, heads, 1, N)
        values = self.values(scalars).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, N, width / heads)
        pooled = functional.silu((weights.to(values.dtype) @ values).flatten(1))
        homo, lumo = self.pooled(pooled).to(position.dtype).unbind(-1)
        return torch.stack([polarizability, homo, lumo, moment, heat], -1)


class Predictor(nn.Module):
    """The properties of molecules, all of one number of atoms in a batch.

    Parameters
    ----------
    width, channels : of the scalars and of the vectors of an atom
    layers, heads : of the transformer
    pairs, forces, radial : hidden width of pair features, number of forces between two atoms, features of a distance

    Attributes
    ----------
    composition : the linear part, of the number of atoms of each element and of one, (6, 6), in units of the properties
    scale : the spread of what the linear part leaves, in units of the properties, (6,)

    Raises
    ------
    ValueError
        Unless ``heads`` divides ``width`` and ``channels``.
    """

    composition: Tensor
    scale: Tensor

    def __init__(
        self,
        width: int = 96,
        channels: int = 24,
        layers: int = 4,
        heads: int = 6,
        pairs: int = 32,
        forces: int = 8,
        radial: int = 32,
    ) -> None:
        super().__init__()
        if width % heads or channels % heads:
            raise ValueError("heads must divide width and channels")
        sizes = {"width": width, "channels": channels, "layers": layers, "heads": heads}
        self.config = sizes | {"pairs": pairs, "forces": forces, "radial": radial}
        self.embed = nn.Linear(TYPES, width)
        self.pairs = nn.ModuleList(Pairs(width, pairs, heads, forces, radial) for _ in range(layers))
        self.sums = nn.ModuleList(nn.Linear(pairs, width) for _ in range(layers))
        self.layers = nn.ModuleList(Layer(width, channels, heads, forces, 1) for _ in range(layers))
        self.seed = nn.Linear(1 + forces, channels, bias=False)
        self.norm, self.readout = nn.LayerNorm(width), Readout(width, channels, heads)
        self.register_buffer("composition", torch.zeros(TYPES + 1, len(PROPERTIES)))
        self.register_buffer("scale", torch.ones(len(PROPERTIES)))

    def matrices(self) -> list[nn.Parameter]:
        """Return the matrices inside the layers that map one hidden state to another."""
        return matrices(self.layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the properties (B, 6), in the order and units of ``data``, of events (B, N, 8)."""
        x = project(x)
        position, types = x[..., :3], x[..., 3:] / TYPE_SCALE
        context = count(position) / LARGEST
        scalars, vectors = self.embed(types), None
        for pairs, gather, layer in zip(self.pairs, self.sums, self.layers, strict=True):
            assert isinstance(pairs, Pairs)
            hidden, distance = pairs.hidden(scalars, position)
            biases, forces = pairs.read(hidden, distance, position)
            if vectors is None:
                vectors = self.seed(torch.cat([position.unsqueeze(-1).to(forces.dtype), forces], -1))
            near = (hidden / (1 + distance.square().unsqueeze(-1) / 16)).sum(2)
            scalars, vectors = layer(scalars + gather(near), vectors, position, biases, forces, context)
        learned = dict(zip(LEARNED, self.readout(self.norm(scalars), vectors, position).unbind(-1), strict=True))
        return self._in_units(learned, types)

    def _in_units(self, learned: dict[str, Tensor], types: Tensor) -> Tensor:
        """Return the properties (B, 6) from learned numbers in units of ``scale``; sums, as a matmul may be rounded."""
        linear = (types.sum(1).unsqueeze(-1) * self.composition[:-1]).sum(1) + self.composition[-1]
        known = {name: linear[:, i] for i, name in enumerate(PROPERTIES)}
        scales = dict(zip(PROPERTIES, self.scale, strict=True))
        values = {name: known[name] + scales[name] * value for name, value in learned.items()}
        values["gap"] = values["lumo"] - values["homo"]
        return torch.stack([values[name] for name in PROPERTIES], -1)
