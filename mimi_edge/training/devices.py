"""Where training runs, in which precision, and how much memory it may take for what it computes once."""

from __future__ import annotations

import os

import torch

from mimi_edge.errors import ConfigError
from mimi_edge.training.ranks import rank

CACHE_SHARE = 6
"""Tokens of a split behind the frozen prefix may take a sixth of the memory, free or not: a resumed run must decide
alike."""


def chosen_device(name: str) -> torch.device:
    """The device of that name; `auto` is the GPU when there is one, and `gpu` is what torch calls `cuda`.

    Of several processes that train together each has the GPU that it took when it joined them.

    Raises:
        ConfigError: there is no such device here, or there are more processes than GPUs.
    """
    if ":" in name and not rank().is_alone:
        raise ConfigError(f"--device {name} is one for all {rank().size} processes; leave the number out.")
    device = _device(name)
    if device.type == "cuda" and not rank().is_alone and rank().here > torch.cuda.device_count():
        raise ConfigError(
            f"{rank().here} processes on this machine, and {torch.cuda.device_count()} GPUs: give torchrun as many "
            "processes as there are GPUs, or train with --device cpu."
        )
    return device


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device("cuda" + name.removeprefix("gpu") if name.startswith("gpu") else name)
    except RuntimeError as error:
        raise ConfigError(f"--device {name} is not known. Expected auto, cpu, cuda (or gpu), or cuda:1.") from error
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).split("\n")[0].rstrip(".")
        raise ConfigError(f"--device {name} cannot be used here: {first}. Try --device auto.") from error
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """The precision of the forward pass: bf16 where asked for, or where `auto` finds hardware for it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=computed_precision(device, precision) == "bf16")


def computed_precision(device: torch.device, precision: str) -> str:
    """What `auto` stands for on a device: `bf16` or `fp32`; the two stand for themselves."""
    if precision != "auto":
        return precision
    return "bf16" if has_fast_bf16(device) else "fp32"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32 there: GPUs that compute in it, and CPUs with AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(capabilities.get("amx_bf16"))


def cache_limit_bytes(device: torch.device) -> int:
    """How much memory the tokens of a frozen prefix may take."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1] // CACHE_SHARE
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // CACHE_SHARE


def use_threads(threads: int | None) -> None:
    """Sets how many CPU threads torch uses; None leaves its own choice."""
    if threads is not None:
        torch.set_num_threads(threads)
