"""Stochastic depth (arXiv 1603.09382) in a frozen backbone: whole branches are left out of some images' passes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mimi_edge.errors import ConfigError
from mimi_edge.training.batches import Place, generator_for
from mimi_edge.training.ranks import Share

MODULE = "drop_path"
"""What timm calls the module behind a branch, with a number where a block has several."""


def drop_path_rates(backbone: nn.Module, rate: float) -> dict[str, float]:
    """The rate at each place where timm drops paths, by module: from 0 in the first block up to `rate` in the last.

    Raises:
        ConfigError: the backbone has no such place.
    """
    if getattr(backbone, "drops_whole_blocks", False):
        raise ConfigError("--drop-path: this backbone would leave out whole blocks, not branches; leave it out.")
    places = [name for name, _ in backbone.named_modules() if _is_place(name)]
    blocks = list(dict.fromkeys(name.rpartition(".")[0] for name in places))
    if not places:
        raise ConfigError("--drop-path: this backbone has no paths that timm can drop; leave it out.")
    step = rate / max(1, len(blocks) - 1)
    return {name: step * blocks.index(name.rpartition(".")[0]) for name in places}


@contextmanager
def dropping_paths(
    backbone: nn.Module, rate: float, seed: int, place: Place, share: Share | None = None
) -> Iterator[torch.Generator | None]:
    """Meanwhile a forward pass drops paths; which ones, seed and place alone decide.

    Gives what chance is drawn from, if any is.

    Args:
        backbone: whose passes drop them.
        rate: of the last block; 0 changes nothing.
        seed: of the run.
        place: of the step.
        share: of the batch that passes see, where they do not see all of it: chance is that of the batch.

    Raises:
        ConfigError: the backbone has none.
    """
    if rate == 0:
        yield None
        return
    generator = generator_for(seed, "drop path", place.round, place.epoch, place.step)
    with ExitStack() as hooks:
        for name, probability in drop_path_rates(backbone, rate).items():
            module = backbone.get_submodule(name)
            hooks.callback(module.register_forward_hook(partial(_dropped, probability, generator, share)).remove)
        yield generator


def _is_place(name: str) -> bool:
    return name.rpartition(".")[2].rstrip("0123456789") == MODULE


def _dropped(
    rate: float, generator: torch.Generator, share: Share | None, _: nn.Module, __: Any, branch: Tensor
) -> Tensor:
    """A branch [B, ...] without some images' rows; the others are the larger for it."""
    chances = torch.rand(len(branch), generator=generator) if share is None else _own(share, len(branch), generator)
    kept = (chances >= rate).to(branch.dtype) / (1 - rate)
    return branch * kept.to(branch.device).reshape(-1, *(1 for _ in branch.shape[1:]))


def _own(share: Share, rows: int, generator: torch.Generator) -> Tensor:
    """A chance for each row [rows] of what a pass sees, of those drawn for the whole batch; images may have several."""
    each = rows // len(share.rows.numbers)
    return share.rows.of_batch(torch.rand((share.rows.of, each), generator=generator)).flatten()
