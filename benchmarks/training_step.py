"""Images a second of one training step, against the same step written plainly, at the start and after each round.

The plain step keeps adapters at their first size at every site, masks the neurons that were pruned, and runs the whole
backbone every time. Ours has stripped them, has nothing at emptied sites, and starts behind the blocks that come before
the first adapter where there are any. Both train in the same precision on the same images; before anything is timed,
the two must give the same loss. Weights and images are random. Neurons are spread as in merged_latency.py; the last
line has the first blocks emptied besides, which is when the shortcut over the frozen prefix works.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from common import BUDGET_BYTES, CLASSES, Row, compared, parser, random_header, show, uneven_neurons
from torch import Tensor, nn
from torch.nn import functional

from mimi_edge.budgets import Budget, Cost, CostModel
from mimi_edge.errors import MimiEdgeError
from mimi_edge.images.decode import LabelledImages
from mimi_edge.methods import mimi
from mimi_edge.profiles.environment import current_environment
from mimi_edge.profiles.latency import WarmUp, measure
from mimi_edge.schedule import schedule
from mimi_edge.sites import Site
from mimi_edge.tasks.stores import Floats
from mimi_edge.training.backbones import LoadedBackbone, load_backbone
from mimi_edge.training.batches import DeviceImages, Place, on_device, prefix_tokens
from mimi_edge.training.config import TrainingConfig
from mimi_edge.training.devices import autocast, cache_limit_bytes, chosen_device
from mimi_edge.training.edited_model import EditedModel
from mimi_edge.training.loop import RoundInputs, make_optimizer, training_step

BACKBONES = {"built-in": "builtin", "Swin-T": "swin_tiny_patch4_window7_224"}
BATCHES_OF_IMAGES = 2
LOSS_TOLERANCE = 2e-2
"""bf16 rounds sums of another length differently."""
WARM_UP = WarmUp(window=2, most_rounds=8)


class PlainModel(nn.Module):
    """Full-size adapters on a frozen backbone, masked where neurons were pruned, and nothing clever."""

    def __init__(self, backbone: LoadedBackbone, neurons: Mapping[str, int]) -> None:
        super().__init__()
        self.backbone = backbone.module
        self.adapters = nn.ParameterDict()
        self.head = nn.Linear(backbone.identity.features, len(CLASSES))
        for site in backbone.sites:
            self._add(site, neurons.get(site.name, 0))

    def _add(self, site: Site, kept: int) -> None:
        key = site.name.replace(".", "/")
        down = nn.Parameter(torch.randn(site.width, site.width) / site.width)
        up = nn.Parameter(torch.randn(site.width, site.width) / site.width)
        self.adapters[f"{key}/down"], self.adapters[f"{key}/up"] = down, up
        self.register_buffer(f"mask {key}", (torch.arange(site.width) < kept).float())
        is_masked = kept < site.width

        def adapt(_: nn.Module, __: object, output: Tensor) -> Tensor:
            hidden = functional.gelu(output @ down)
            return output + (hidden * self.get_buffer(f"mask {key}") if is_masked else hidden) @ up

        self.backbone.get_submodule(site.name).register_forward_hook(adapt)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, C]."""
        logits: Tensor = self.head(self.backbone(images))
        return logits

    def weights(self, neurons: Mapping[str, int]) -> dict[str, Floats]:
        """What is left of the adapters behind their masks."""

        def array(value: Tensor) -> Floats:
            values: Floats = value.detach().cpu().numpy().copy()
            return values

        weights = {"head.weight": array(self.head.weight), "head.bias": array(self.head.bias)}
        for site, count in neurons.items():
            key = site.replace(".", "/")
            down, up = array(self.adapters[f"{key}/down"]), array(self.adapters[f"{key}/up"])
            weights |= {f"{site}.down": down[:, :count].copy(), f"{site}.up": up[:count].copy()}
        return weights


def main() -> None:
    """Measures and prints."""
    options = read_options()
    torch.set_num_threads(options.threads)
    environment = current_environment(threads=options.threads)
    name = BACKBONES[options.backbone]
    states = pruned_states(load_backbone(name, "random", seed=options.seed), options)
    rows = [
        compare(label, load_backbone(name, "random", seed=options.seed), neurons, options)
        for label, neurons in states.items()
    ]
    show(rows, environment, as_json=options.json)


def read_options() -> argparse.Namespace:
    """The command line."""
    options = parser(__doc__, rounds=10)
    options.add_argument("--backbone", choices=BACKBONES, default="built-in")
    options.add_argument("--batch", type=int, default=64, help="images in a step (default %(default)s)")
    options.add_argument("--threads", type=int, default=2, help="of torch (default %(default)s)")
    options.add_argument("--precision", default="auto", help="auto, fp32 or bf16 (default %(default)s)")
    options.add_argument("--device", default="cpu", help="cpu or cuda (default %(default)s)")
    options.add_argument("--empty-blocks", type=int, default=3, help="emptied for the last line (default %(default)s)")
    return options.parse_args()


def pruned_states(backbone: LoadedBackbone, options: argparse.Namespace) -> dict[str, dict[str, int]]:
    """Neurons of each site at the start (M/N = 1), after each round down to 0.5 MB, and with the first blocks empty."""
    header = random_header("random", backbone.identity, backbone.preprocessing)
    description = mimi.describe(backbone.network, mimi.MimiSettings())
    costs, start = CostModel(header, backbone.network, description, 0), description.sizes
    cheapest = Cost(min(costs.cost({site.name: 1}).size_bytes for site in backbone.sites), 0)
    plan = schedule(Budget(size_bytes=BUDGET_BYTES), costs.cost(start), costs.cost({}), cheapest, 0.5)
    states = {"start": start}
    for number, limit in enumerate(plan.limits, 1):
        states[f"after round {number}"] = uneven_neurons(
            header, backbone.sites, limit.size_bytes or BUDGET_BYTES, options.seed
        )
    emptied = {site.name for site in backbone.sites[: 2 * options.empty_blocks]}
    last = {site: count for site, count in states[f"after round {len(plan.limits)}"].items() if site not in emptied}
    return states | {f"the same, first {options.empty_blocks} blocks empty": last}


def compare(label: str, backbone: LoadedBackbone, neurons: dict[str, int], options: argparse.Namespace) -> Row:
    """Our step and the plain one, in turns."""
    print(label, file=sys.stderr)
    config = TrainingConfig(
        budget=Budget(size_bytes=BUDGET_BYTES),
        backbone=BACKBONES[options.backbone],
        batch_size=options.batch,
        precision=options.precision,
        seed=options.seed,
    )
    device = chosen_device(options.device)
    precision = autocast(device, config.precision)
    images = random_images(backbone, options, device)
    index = torch.arange(options.batch, device=device)
    plain = PlainModel(load_backbone(config.backbone, "random", seed=options.seed), neurons).to(device)
    backbone.module.to(device)
    description = mimi.describe(backbone.network, mimi.MimiSettings())
    ours = EditedModel(backbone, description.resized(neurons), len(CLASSES), options.seed).to(device)
    ours.load_weights(plain.weights(neurons))
    limit = cache_limit_bytes(device)
    prefix = prefix_tokens(ours, images, options.batch, precision, limit)
    inputs = RoundInputs(images, images, prefix, precision, (1,))
    optimizer = torch.optim.AdamW([*plain.adapters.values(), *plain.head.parameters()], lr=config.learning_rate)
    steps = {
        "ours": partial(training_step, ours, make_optimizer(ours, config), inputs, index, config, Place(0, 0, 0)),
        "plain": partial(plain_step, plain, optimizer, inputs, index, config),
    }
    first = {name: float(step()) for name, step in steps.items()}
    if abs(first["ours"] - first["plain"]) > LOSS_TOLERANCE:
        raise MimiEdgeError(f"The two steps do not compute the same: their first losses are {first}.")
    if device.type == "cuda":
        steps = {name: partial(waited_for, step) for name, step in steps.items()}
    samples = measure(steps, rounds=options.rounds, seed=options.seed, warm_up=WARM_UP)
    row = compared("ours", "plain", samples)
    speeds = f"{1000 * options.batch / row.measured_ms:.0f} against {1000 * options.batch / row.peer_ms:.0f} images/s"
    skipped = f", {ours.frozen_blocks} blocks skipped" if prefix else ""
    note = f"{1 / row.ratio.value:.2f} x the images/s: {speeds}; {sum(neurons.values())} neurons{skipped}"
    return Row(f"our step, {label}", "plain step", row.measured_ms, row.peer_ms, row.ratio, row.rounds, note)


def waited_for(step: Callable[[], Tensor]) -> None:
    """A step with its end: a GPU only takes note of work when it is asked for it."""
    step()
    torch.cuda.synchronize()


def random_images(backbone: LoadedBackbone, options: argparse.Namespace, device: torch.device) -> DeviceImages:
    """A few batches of noise with labels."""
    random = np.random.default_rng(options.seed)
    size, count = backbone.preprocessing.size, BATCHES_OF_IMAGES * options.batch
    pixels = random.integers(0, 256, (count, *size, 3), np.uint8)
    split = LabelledImages(pixels, random.integers(0, len(CLASSES), count), ())
    return on_device(split, backbone.preprocessing, device)


def plain_step(
    model: PlainModel, optimizer: torch.optim.Optimizer, inputs: RoundInputs, index: Tensor, config: TrainingConfig
) -> Tensor:
    """One step as one would write it."""
    with inputs.autocast:
        logits = model(inputs.train.normalised(inputs.train.images[index]))
    labels = inputs.train.labels[index]
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=config.label_smoothing)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


if __name__ == "__main__":
    main()
