"""A run that is under way: what it works on, opened before the first step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mimi_edge.events import Listener, Note
from mimi_edge.images.copies import Copies
from mimi_edge.images.dataset import LabelledImages, copies_in, decode_dataset
from mimi_edge.training.augmentation.kinds import original_crop_in
from mimi_edge.training.augmentation.original_crops import OriginalCrops
from mimi_edge.training.batches import DeviceImages, on_device
from mimi_edge.training.devices import chosen_device
from mimi_edge.training.prepared_run import Prepared, measured_splits, with_image_counts
from mimi_edge.training.ranks import rank


@dataclass(frozen=True)
class Run:
    """A run that is under way: what was prepared, what lies on the device, and where it is kept.

    Attributes:
        folder: where it is kept.
        prepared: what it works on.
        images: of each split, on the device.
        copies: images that are the same as others.
        device: where it runs.
        listener: hears of the progress.
    """

    folder: Path
    prepared: Prepared
    images: Mapping[str, DeviceImages]
    copies: Copies
    device: torch.device
    listener: Listener


def opened(folder: Path, prepared: Prepared, listener: Listener) -> Run:
    """A run with its images on the device."""
    config = prepared.config
    device = chosen_device(config.device)
    if config.train_on_val:
        listener(Note("The images for validation are trained on, too: accuracy on them, as said here, means little."))
    dataset = prepared.to_decode
    decoded = decode_dataset(
        dataset,
        prepared.backbone.preprocessing,
        skip_bad_images=config.skip_bad_images,
        listener=listener,
        images=config.images,
        copies=rank().here,
    )
    prepared = with_image_counts(prepared, {name: len(decoded[name].labels) for name in measured_splits(config)})
    prepared.backbone.module.to(device)
    copies = copies_in(dataset, decoded)
    return Run(folder, prepared, _images_on_device(decoded, prepared, device), copies, device, listener)


def _images_on_device(
    decoded: Mapping[str, LabelledImages], prepared: Prepared, device: torch.device
) -> dict[str, DeviceImages]:
    config, preprocessing = prepared.config, prepared.backbone.preprocessing
    images = {name: on_device(split, preprocessing, device) for name, split in decoded.items()}
    crop = original_crop_in(config.augment)
    if crop is not None and (originals := decoded["train"].originals(preprocessing)) is not None:
        parts = OriginalCrops(originals, crop.strength, config.seed, device)
        images["train"] = replace(images["train"], parts=parts)
    return images
